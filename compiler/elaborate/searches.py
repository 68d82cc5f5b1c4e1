"""Searches that use derivatives: `grad[x](u)`, `worst[delta : type in ball(…)](u)`, `root[x in lo..hi](f)`.

Each binds a variable in its expression, a `Local`. Nested variables differ by their depth, so that equal expressions
are equal nodes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from lossc.compiler import core
from lossc.compiler.constants import constant_value
from lossc.compiler.core import Call, Local, Node
from lossc.compiler.elaborate.context import MAX_UPDATES, Context, axes_text, declared_note, describe
from lossc.compiler.elaborate.types import read_type
from lossc.compiler.elaborate.variables import exposed
from lossc.compiler.elaborate.variables import unknown as _unknown
from lossc.compiler.kinds import REAL
from lossc.compiler.symbols import Frame
from lossc.compiler.values import WRONG, Value
from lossc.grammar import syntax
from lossc.grammar.source import Span

MAX_NESTING = 8


def search(ctx: Context, name: str, bracket: syntax.Bracket, call: syntax.Call) -> Value:
    names = [argument.name for argument in call.arguments]
    known = ([None],) if name != "worst" else ([None], [None, "at"])
    if names not in known or bracket.where is not None or any(argument.to is not None for argument in call.arguments):
        return ctx.wrong("E201", f"`{name}` takes one expression", call.span)
    return not_too_deep(ctx, {"grad": _grad, "worst": _worst, "root": _root}[name](ctx, bracket, call), call.span)


def not_too_deep(ctx: Context, value: Value, span: Span) -> Value:
    """The value of a call that binds a variable; reports E505 where too many such calls are nested."""
    if not value.wrong and _nesting(value.node) > MAX_NESTING:
        return ctx.wrong("E505", f"derivatives, searches and folds stand in each other more than {MAX_NESTING} deep", span,
                         help="each of them repeats all that is inside")  # fmt: skip
    return value


def _nesting(root: Node) -> int:
    """How deep searches and folds are nested."""
    deep: dict[Node, int] = {}
    for node in core.walk(root):
        own = isinstance(node, Call) and node.function in core.BINDING
        deep[node] = own + max((deep[child] for child in node.children), default=0)
    return deep[root]


def replace_values(frame: Frame, values: dict[str, Any]) -> Frame:
    """A copy of the frame with other values."""
    return replace(frame, values=values)


def with_value(ctx: Context, name: str, value: Value) -> Context:
    return ctx.inside(replace_values(ctx.frame, {**ctx.frame.values, name: value}))


def bound(body: Node, unknown: Local) -> tuple[Node, Local]:
    """The expression over a variable whose depth is that of the searches inside."""
    inner = [part.depth for part in core.walk(body) if isinstance(part, Local) and part.depth >= 0]
    variable = replace(unknown, depth=1 + max(inner, default=-1))
    return core.substitute(body, {unknown: variable}), variable


def _summand(value: Value) -> Node:
    """The value that a search adds up: its present entries."""
    return core.where(value.present, value.node, core.ZERO)


# ------------------------------------------------------------------------------------------------ grad


def _grad(ctx: Context, bracket: syntax.Bracket, call: syntax.Call) -> Value:
    """The gradient of the sum of u, with the axes of x.

    A named quantity is a variable while it is differentiated by.
    """
    selector = bracket.selectors[0]
    if len(bracket.selectors) != 1 or selector.form != "axis":
        return ctx.wrong("E306", "`grad` takes the name of one value", bracket.span, help="write `grad[x](u)`")
    of = ctx.value(syntax.Name(selector.name, span=selector.span))
    value = ctx.value(call.arguments[0].value)
    if not of.wrong and not value.wrong:
        value = replace(value, node=exposed(ctx.session, value.node, of.node))
    if of.wrong or value.wrong or not (_number(ctx, of, selector.span) and _number(ctx, value, call.arguments[0].span)):
        return WRONG
    if not _differentiable(ctx, selector.name, of, value, call):
        return WRONG
    u = _summand(value)
    order = of.node.order if isinstance(of.node, core.Input | core.Param) else tuple(sorted(of.axes))
    consumed = tuple(sorted(u.axes | of.axes))
    kind = of.kind if of.kind.name == "weights" else REAL
    if not isinstance(of.node, Local) or of.node not in ctx.session.pending:
        return Value(Call("grad", (u, of.node), consumed, order), kind, of.present)
    body, variable = bound(u, of.node)
    return Value(Call("grad", (body, variable, of.node), consumed, order), kind, of.present)


def _number(ctx: Context, value: Value, span: Span) -> bool:
    name = value.kind.name
    if value.term is None and name not in ("model", "choice", "label", "mask"):
        return True
    ctx.wrong("E204", "`grad` differentiates numbers by numbers", span, label=describe(ctx, value),
              notes=declared_note(value))  # fmt: skip
    return False


def _differentiable(ctx: Context, name: str, of: Value, value: Value, call: syntax.Call) -> bool:
    """Whether u depends on x and has no axes except batch axes and those of x; inside a term neither is known yet."""
    alone = bool(ctx.session.open_terms)
    if not alone and not any(of.node is part for part in core.walk(value.node)):
        ctx.wrong("E311", f"this does not depend on `{name}`: its gradient is 0", call.span, notes=declared_note(of))
        return False
    left = [axis for axis in sorted(value.axes - of.axes) if not _is_batch(ctx, axis)]
    if left and not alone:
        ctx.wrong("E312", f"the gradient of what still has {axes_text(ctx, left)}", call.arguments[0].span,
                  label=describe(ctx, value),
                  help=f"`grad` adds up batch axes and those of `{name}`: reduce the others")  # fmt: skip
        return False
    return True


def _is_batch(ctx: Context, axis: str) -> bool:
    symbol = ctx.axis_named(axis)
    return symbol is not None and symbol.batch


# ------------------------------------------------------------------------------------------------ worst

_BALLS = "write `worst[delta : real[b, d] in ball(inf, eps), steps = 10](u)`"
STEPS = core.const(10)
"""The steps of the search, where no number is given."""


def _worst(ctx: Context, bracket: syntax.Bracket, call: syntax.Call) -> Value:
    """u, or the expression after `at`, at the point of a ball where u is largest, found by projected gradient ascent.

    No gradient passes through the search: the point is a constant.
    """
    selector = bracket.selectors[0]
    ball = selector.type.within if selector.type is not None else None
    if selector.form != "typed" or selector.type is None or not isinstance(ball, syntax.Call):
        message = "`worst` names what it searches and the ball that it lies in"
        return ctx.wrong("E306", message, bracket.span, help=_BALLS)
    norm = _norm_of(ctx, ball)
    read = read_type(ctx, replace(selector.type, within=None))
    if norm is None or read is None:
        return WRONG
    radius = ctx.value(ball.arguments[1].value)
    if not radius.wrong and radius.node.domain.hi < 0:
        return ctx.wrong("E401", "the radius of a ball is never negative", ball.arguments[1].span)
    options = _options(ctx, bracket.selectors[1:])
    unknown = _unknown(selector.name, read[1], read[0].bounds)
    inner = with_value(ctx, selector.name, Value(unknown))
    values = [inner.value(argument.value) for argument in call.arguments]
    if radius.wrong or options is None or any(value.wrong for value in values):
        return WRONG
    if not any(part is unknown for part in core.walk(values[0].node)):
        return ctx.wrong("E311", f"this does not depend on `{selector.name}`: nothing makes it larger", call.span)
    if not _one_for_each_ball(ctx, norm, unknown, values[0], {"radius": radius.node, **options}, bracket):
        return WRONG
    point = _maximiser(ctx, values[0], unknown, {"radius": radius.node, **options}, norm)
    there: dict[Node, Node] = {unknown: point}
    found = values[-1]
    present = None if found.present is None else core.substitute(found.present, there)
    return replace(found, node=core.substitute(found.node, there), present=present)


def _one_for_each_ball(
    ctx: Context, norm: str, unknown: Local, value: Value, options: dict[str, Node], bracket: syntax.Bracket
) -> bool:
    """Whether radius and step size are numbers for each ball (or entry, under signs), and the start has its axes."""
    apart = _apart(ctx, unknown.order, value)
    for name, node in options.items():
        allowed = set(unknown.order if name == "start" or norm == "inf" else apart)
        left = sorted(node.axes - allowed)
        if left:
            ctx.wrong("E312", f"the {name.replace('_', ' ')} of `worst` still has {axes_text(ctx, left)}", bracket.span,
                      help="a ball is one for each entry along batch axes and those of what is maximised")  # fmt: skip
            return False
    return True


def _apart(ctx: Context, order: tuple[str, ...], value: Value) -> tuple[str, ...]:
    """The axes along which every entry has a ball of its own."""
    return tuple(axis for axis in order if axis in value.axes or _is_batch(ctx, axis))


def _maximiser(ctx: Context, value: Value, unknown: Local, options: dict[str, Node], norm: str) -> Node:
    """The point; each entry along batch axes and those of u has its own ball."""
    body, variable = bound(_summand(value), unknown)
    order = variable.order
    apart = _apart(ctx, order, value)
    arguments = (body, variable, *options.values())
    consumed = tuple(sorted(frozenset[str]().union(*(part.axes for part in arguments))))
    names = ("", "", *options)
    return core.StopGrad(Call("worst", arguments, consumed, order, options=(norm, apart), names=names))


def _norm_of(ctx: Context, ball: syntax.Call) -> str | None:
    """The norm of `ball(inf, eps)`: `inf`, `2` or `1`."""
    names = {"inf", "2", "1"}
    first = ball.arguments[0].value if len(ball.arguments) == 2 else None
    norm = first.id if isinstance(first, syntax.Name) else first.text if isinstance(first, syntax.Number) else ""
    if not isinstance(ball.function, syntax.Name) or ball.function.id != "ball" or norm not in names:
        ctx.wrong("E306", "a ball has a norm, `inf`, `2` or `1`, and a radius", ball.span, help=_BALLS)
        return None
    return norm


def _options(ctx: Context, selectors: Iterable[syntax.Selector]) -> dict[str, Node] | None:
    """`steps`, `step_size` and `start` of a search; None after a report."""
    found: dict[str, Node] = {"steps": STEPS}
    for selector in selectors:
        if selector.form != "at" or selector.value is None or selector.name not in ("steps", "step_size", "start"):
            ctx.wrong("E306", "`worst` takes `steps`, `step_size` and `start`", selector.span, help=_BALLS)
            return None
        value = ctx.value(selector.value)
        if value.wrong:
            return None
        found[selector.name] = value.node
    number = constant_value(found["steps"])
    if number is None or not 1 <= number <= MAX_UPDATES or number != int(number):
        ctx.wrong("E401", f"`steps` of `worst` is a whole number from 1 to {MAX_UPDATES}", next(iter(selectors)).span)
        return None
    return found


# ------------------------------------------------------------------------------------------------ root


_INFINITIES = {core.INFINITY, core.neg(core.INFINITY)}


def _root(ctx: Context, bracket: syntax.Bracket, call: syntax.Call) -> Value:
    """The x between two bounds at which f is 0, one for each entry of f; its gradient is that of the equation."""
    selector = bracket.selectors[0]
    if len(bracket.selectors) != 1 or selector.form != "range" or selector.value is None or selector.upper is None:
        return ctx.wrong("E306", "`root` names the unknown and where it lies", bracket.span,
                         help="write `root[x in 0..1](f)`")  # fmt: skip
    low, high = ctx.value(selector.value), ctx.value(selector.upper)
    if low.wrong or high.wrong:
        return WRONG
    if low.node.domain.lo >= high.node.domain.hi or {low.node, core.neg(high.node)} & _INFINITIES:
        return ctx.wrong("E407", "a root is looked for between two finite numbers, the smaller one first", selector.span)
    bounds = replace(low.node.domain.hull(high.node.domain), integer=False)
    first = _evaluated(ctx, _unknown(selector.name, (), bounds), call, quiet=True)
    if first.wrong:
        return WRONG
    order = tuple(sorted(first.axes | low.axes | high.axes))
    unknown = _unknown(selector.name, order, bounds)
    value = _evaluated(ctx, unknown, call, quiet=False)
    if value.wrong:
        return WRONG
    if not any(part is unknown for part in core.walk(value.node)):
        return ctx.wrong("E311", f"this does not depend on `{selector.name}`: it has no root", call.span)
    mixed = (value.axes - set(order)) | (core.mixed_axes(value.node, unknown) & set(order))
    if mixed:
        return ctx.wrong("E312", f"`{selector.name}` is one number for each entry along {axes_text(ctx, mixed)}, and"
                         " stands below an operation over it", call.span, help="give that axis another name")  # fmt: skip
    body, variable = bound(_summand(value), unknown)
    present = core.all_of(value.present, low.present, high.present)
    return Value(Call("root", (body, variable, low.node, high.node), order, order), REAL, present)


def _evaluated(ctx: Context, unknown: Local, call: syntax.Call, *, quiet: bool) -> Value:
    inner = with_value(ctx, unknown.name, Value(unknown))
    return inner.inside(inner.frame, quiet=quiet).value(call.arguments[0].value)
