"""Recurrences along an axis, whose body is any expression of what they carry.

In `fold[t, a : real[s] where m](next, start)` the value `a` begins as `start` and is `next` of itself at each step that is
admitted, in the order of `t`; the value of the fold is the last one, that of a `scan` each of them. Where a step is excluded,
or `next` absent, an entry keeps what it has.
"""

from __future__ import annotations

from dataclasses import dataclass

from lossc.compiler import core
from lossc.compiler.core import Call, Local, Node
from lossc.compiler.elaborate.brackets import read_where
from lossc.compiler.elaborate.context import Context, axes_text, declared_note, describe
from lossc.compiler.elaborate.linear_steps import linear_step, lint_linear
from lossc.compiler.elaborate.searches import bound, not_too_deep, with_value
from lossc.compiler.elaborate.signature import match_arguments
from lossc.compiler.elaborate.types import read_type
from lossc.compiler.elaborate.variables import unknown
from lossc.compiler.kinds import NUMBERS, REAL, Kind
from lossc.compiler.values import WRONG, Value
from lossc.grammar import syntax
from lossc.grammar.source import Span

_NO_NUMBERS = ("label", "mask", "model", "choice", "weights", "term")


@dataclass(frozen=True)
class Carry:
    """What a `fold` or `scan` carries along the axis `t`: its name, its kind, and its own axes."""

    function: str
    t: str
    name: str
    kind: Kind
    order: tuple[str, ...]

    def along(self, rows: frozenset[str]) -> Local:
        """The variable, with an entry for each of these axes too."""
        return unknown(self.name, tuple(sorted((rows | set(self.order)) - {self.t})), self.kind.bounds)

    def value(self, variable: Local) -> Value:
        return Value(variable, REAL if self.kind.name in NUMBERS else self.kind)


def carries(bracket: syntax.Bracket | None) -> bool:
    """Whether a bracket says what is carried: `[t, a : real]`."""
    return bracket is not None and any(selector.form == "typed" for selector in bracket.selectors)


def recurrence(ctx: Context, name: str, bracket: syntax.Bracket | None, call: syntax.Call) -> Value:
    """The last of the values that are carried, of a `scan` all; axes that `a` does not name are further rows."""
    if bracket is None:
        return ctx.wrong("E308", f"`{name}` needs the axis that it runs along", call.function.span, help=_form(name))
    placed = match_arguments(ctx, name, call, ("next", "start"))
    if placed is None:
        return WRONG
    if len(placed) != 2:
        message = f"`{name}` takes what comes next and what it starts from"
        return ctx.wrong("E201", message, call.span, help=_form(name))
    carry, where = _carry(ctx, name, bracket), read_where(ctx, bracket)
    start = ctx.value(placed["start"].value)
    if carry is None or isinstance(where, bool) or not _starts_once(ctx, carry, start, placed["start"].value.span):
        return WRONG
    written = placed["next"].value
    first = _next(ctx, carry, carry.along(frozenset()), written, quiet=True)
    if first.wrong:
        return WRONG
    parts = (first.node, first.present, start.node, start.present, where)
    variable = carry.along(frozenset[str]().union(*(part.axes for part in parts if part is not None)))
    following = _next(ctx, carry, variable, written, quiet=False)
    if following.wrong or not all(_is_carried(ctx, carry, *each) for each in (
        (following, written.span), (start, placed["start"].value.span)
    )):  # fmt: skip
        return WRONG
    body = core.where(core.all_of(where, following.present), _number(following), variable)
    mixed = core.mixed_axes(body, variable)
    if not _may_be(ctx, carry, variable, body, mixed, call):
        return WRONG
    step = linear_step(following.node, variable) if start.node is core.ZERO and following.present is None else None
    if step is not None:
        lint_linear(ctx, name, bracket, call, step)
    return not_too_deep(ctx, _folded(carry, variable, body, start, mixed, where), call.span)


def _form(function: str) -> str:
    return f"write `{function}[t, a : real[s] where m](next, start)`"


def _carry(ctx: Context, function: str, bracket: syntax.Bracket) -> Carry | None:
    forms = [selector.form for selector in bracket.selectors]
    selector = bracket.selectors[-1]
    if forms != ["axis", "typed"] or selector.type is None:
        message = f"`{function}` names the axis that it runs along and what it carries"
        ctx.wrong("E306", message, bracket.span, help=_form(function))
        return None
    axis = ctx.axis(bracket.selectors[0].name, bracket.selectors[0].span)
    read = read_type(ctx, selector.type)
    if axis is None or read is None:
        return None
    kind, order = read
    if kind.name in _NO_NUMBERS:
        hint = "it is carried as 0 and 1, a `real`" if kind.name == "mask" else ()
        ctx.wrong("E204", f"`{function}` carries numbers, and `{selector.name}` is a {kind.name}", selector.span, help=hint)
        return None
    if axis.name in order:
        ctx.wrong("E302", f"`{selector.name}` is carried from one entry of `{bracket.selectors[0].name}` to the next, and does"
                  " not have that axis", selector.span, help=_form(function))  # fmt: skip
        return None
    return Carry(function, axis.name, selector.name, kind, order)


def _starts_once(ctx: Context, carry: Carry, start: Value, span: Span) -> bool:
    if start.wrong:
        return False
    there = start.axes | (start.present.axes if start.present is not None else frozenset())
    if carry.t in there:
        t = ctx.written(carry.t)
        ctx.wrong("E302", f"`{carry.name}` starts once, and this differs along `{t}`", span,
                  help=f"what stands at the first step is `[{t} = 0]`")  # fmt: skip
    return carry.t not in there


def _next(ctx: Context, carry: Carry, variable: Local, written: syntax.Expr, *, quiet: bool) -> Value:
    inner = with_value(ctx, carry.name, carry.value(variable))
    return inner.inside(inner.frame, quiet=quiet).value(written)


def _is_carried(ctx: Context, carry: Carry, value: Value, span: Span) -> bool:
    """Whether a value may be what is carried: a number, and not known to lie outside of its kind."""
    if value.term is not None or (value.kind.name in _NO_NUMBERS and not value.is_mask):
        ctx.wrong("E204", f"`{carry.function}` carries numbers in `{carry.name}`", span, label=describe(ctx, value),
                  notes=declared_note(value))  # fmt: skip
        return False
    if not value.node.domain.meets(carry.kind.bounds):
        ctx.wrong("E401", f"`{carry.name}` is {carry.kind.name}, and this never is", span,
                  label=f"lies in {value.node.domain}")  # fmt: skip
        return False
    return True


def _number(value: Value) -> Node:
    return core.where(value.node, core.ONE, core.ZERO) if value.is_mask else value.node


def _may_be(
    ctx: Context, carry: Carry, variable: Local, body: Node, mixed: frozenset[str], call: syntax.Call
) -> bool:
    """Whether each step is made of the one before, of its own rows alone, and by mathematics alone."""
    name = carry.name
    if not any(part is variable for part in core.walk(body)):
        ctx.wrong("E311", f"this does not depend on `{name}`: nothing is carried", call.span)
        return False
    if carry.t in mixed:
        t = ctx.written(carry.t)
        ctx.wrong("E304", f"`{name}` is one entry of `{t}` at a time, and an operation along `{t}` needs all of them",
                  call.span, help=f"what does not contain `{name}` may use all of `{t}`")  # fmt: skip
        return False
    rows = mixed & (variable.axes - set(carry.order))
    if rows:
        names = axes_text(ctx, rows)
        ctx.wrong("E312", f"`{name}` is one number for each entry along {names}, and stands below an operation over it",
                  call.span, help=f"name it in the kind: `{name} : real[{', '.join((*carry.order, names))}]`")  # fmt: skip
        return False
    calls = [node for node in core.walk(body) if isinstance(node, Call) and node.is_opaque]
    if any(part is variable for node in calls for part in core.walk(node)):
        message = f"`{name}` stands in a model, a function in Python, a gradient, a search or another recurrence"
        ctx.wrong("E210", message, call.span, help=f"only what does not contain `{name}` may be one of these")
        return False
    return True


def _folded(
    carry: Carry, variable: Local, body: Node, start: Value, mixed: frozenset[str], where: Node | None
) -> Value:  # fmt: skip
    """The call; it mixes entries along `t` and along the axes that each step mixes, which it does not consume."""
    body, last = bound(body, variable)
    begin = core.where(start.present, _number(start), core.ZERO)
    consumed = (carry.t, *(axis for axis in last.order if axis not in mixed))
    every = carry.function == "scan"
    produced = (carry.t, *last.order) if every else last.order
    node = Call("fold", (body, last, begin, core.Index(carry.t)), consumed, produced, last.bounds,
                order=(carry.t, *carry.order))  # fmt: skip
    present = core.all_of(where if every else None, _present(start.present, mixed))
    return Value(node, carry.value(last).kind, present)


def _present(present: Node | None, mixed: frozenset[str]) -> Node | None:
    """What starts is there; along axes that a step mixes, all of it."""
    lost = tuple(sorted(present.axes & mixed)) if present is not None else ()
    return core.Reduce("all", lost, present) if present is not None and lost else present
