"""Linear algebra over named axes: inner products, norms, covariances, matrices, transport plans.

Whatever reductions can express (`dot`, `cov`, `trace`) becomes reductions; everything else is a call of one function.
"""

from __future__ import annotations

from dataclasses import dataclass

from lossc.compiler import core
from lossc.compiler import intervals as iv
from lossc.compiler.constants import constant_value
from lossc.compiler.core import Node
from lossc.compiler.elaborate.brackets import Scope, read_where
from lossc.compiler.elaborate.context import MAX_UPDATES, Context, describe
from lossc.compiler.elaborate.reductions import reduce
from lossc.compiler.elaborate.signature import Given, take
from lossc.compiler.kinds import REAL
from lossc.compiler.values import WRONG, Value
from lossc.grammar import syntax


@dataclass(frozen=True)
class Form:
    """The form of a call: its arguments, how many are required, how many axes its bracket names.

    `makes`: the last axis becomes a new one. `masked`: a `where` says which entries exist. `more`: further axes may be
    named.
    """

    arguments: tuple[str, ...]
    required: int
    axes: int
    example: str
    makes: bool = False
    masked: bool = True
    more: bool = False


FORMS = {
    "dot": Form(("x", "y"), 2, 1, "dot[d](x, y)", more=True),
    "norm": Form(("x",), 1, 1, "norm[d](x)", more=True),
    "cov": Form(("x", "ddof"), 1, 2, "cov[b, d -> e](x)", makes=True),
    "svdvals": Form(("x",), 1, 2, "svdvals[b, d -> k](x)", makes=True),
    "eigvals": Form(("c",), 1, 2, "eigvals[d, e -> k](c)", makes=True, masked=False),
    "logdet": Form(("c",), 1, 2, "logdet[d, e](c)", masked=False),
    "trace": Form(("c",), 1, 2, "trace[d, e](c)", masked=False),
    "solve": Form(("a", "b"), 2, 2, "solve[d, e](a, b)", masked=False),
    "sinkhorn": Form(("cost", "eps", "a", "b", "steps"), 2, 2, "sinkhorn[i, j](cost, eps = 0.1)"),
}

STEPS = core.const(100)
"""The updates of both potentials in a transport plan, where no number is given."""


@dataclass(frozen=True)
class Bracketed:
    """The contents of a bracket: the axes in order, the new axis made from the last of them, and a condition."""

    axes: tuple[str, ...]
    new: str | None
    where: Node | None


def linear(ctx: Context, name: str, bracket: syntax.Bracket, call: syntax.Call) -> Value:
    form = FORMS[name]
    given = take(ctx, name, call, form.arguments, form.required)
    if given is None:
        return WRONG
    if not _numbers(ctx, name, given):
        return WRONG
    said = _read(ctx, name, form, bracket, given)
    return WRONG if said is None else _RULES[name](ctx, said, given)


def _numbers(ctx: Context, name: str, given: Given) -> bool:
    for argument, value in given.values.items():
        if value.term is not None or value.kind.name in ("model", "choice", "weights"):
            ctx.wrong("E207", f"`{name}` needs numbers over axes", given.span(argument), label=describe(ctx, value))
            return False
    return True


def _read(ctx: Context, name: str, form: Form, bracket: syntax.Bracket, given: Given) -> Bracketed | None:
    named = len(bracket.selectors)
    if named < form.axes or (named > form.axes and not form.more) or (bracket.where is not None and not form.masked):
        ctx.wrong("E306", f"`{name}` names {form.axes} ax{'es' if form.axes > 1 else 'is'}", bracket.span,
                  help=f"write `{form.example}`")  # fmt: skip
        return None
    there = frozenset[str]().union(*(given.values[argument].axes for argument in form.arguments[: form.required]))
    axes: list[str] = []
    for selector in bracket.selectors:
        axis = ctx.axis(selector.name, selector.span)
        if axis is None:
            return None
        if axis.name not in there:
            ctx.wrong("E304", f"`{name}` works along `{selector.name}`, which its argument does not have",
                      selector.span, label=describe(ctx, given.values[form.arguments[0]]))  # fmt: skip
            return None
        if axis.name in axes:
            ctx.wrong("E302", f"axis `{selector.name}` is named twice", selector.span)
            return None
        axes.append(axis.name)
    where = read_where(ctx, bracket)
    new = _new_axis(ctx, name, form, bracket, there)
    return None if isinstance(where, bool) or new is None else Bracketed(tuple(axes), new or None, where)


def _new_axis(ctx: Context, name: str, form: Form, bracket: syntax.Bracket, there: frozenset[str]) -> str | None:
    """The axis made from the last one; "" where none is made, None after a report."""
    last = bracket.selectors[-1]
    renames = [selector for selector in bracket.selectors if selector.form != "axis"]
    fits = renames == [last] and last.form == "rename" and last.value is None if form.makes else not renames
    if not fits:
        message = "makes a new axis of the last one" if form.makes else "takes names of axes"
        ctx.wrong("E306", f"`{name}` {message}", bracket.span, help=f"write `{form.example}`")
        return None
    if not form.makes or last.new is None:
        return ""
    symbol = ctx.new_axis(last.new, last.span)
    if symbol is not None and symbol.name in there:
        ctx.wrong("E305", f"the argument already has axis `{last.new}`", last.span)
        return None
    return symbol.name if symbol is not None else None


# ------------------------------------------------------------------------------------------------ vectors


def _dot(ctx: Context, said: Bracketed, given: Given) -> Value:
    x, y = given.values["x"], given.values["y"]
    product = Value(core.mul(x.node, y.node), REAL, core.all_of(x.present, y.present))
    return reduce(ctx, "sum", Scope(said.axes, said.where), product)


def _norm(ctx: Context, said: Bracketed, given: Given) -> Value:
    x = given.values["x"]
    present = None if x.present is None else _some(x.present, said.axes)
    inside = x.present if x.present is not None and frozenset(said.axes) & x.present.axes else None
    node = core.where(core.all_of(said.where, inside), x.node, core.ZERO)
    return Value(core.Call("norm", (node,), said.axes, (), iv.NONNEG, order=said.axes), REAL, present)


# ------------------------------------------------------------------------------------------------ matrices


def _cov(ctx: Context, said: Bracketed, given: Given) -> Value:
    """c_de = sum_b (x_bd - m_d) (x_be - m_e) / (n - ddof), over the rows in which both entries exist."""
    (rows, d), new, x = said.axes, said.new, given.values["x"]
    assert new is not None
    admitted = core.all_of(said.where, x.present)
    ddof = given.node("ddof")

    def other(node: Node) -> Node:
        return core.Rename(node, d, new) if d in node.axes else node

    deviation = core.where(
        admitted, core.sub(x.node, core.Reduce("mean", (rows,), x.node, admitted)), core.ZERO
    )
    total = core.Reduce("sum", (rows,), core.mul(deviation, other(deviation)))
    if admitted is None and ddof is None:
        return Value(core.div(total, core.Size(rows)))
    number = _number(rows, admitted, None if admitted is None else other(admitted))
    enough = core.apply("lt", ddof or core.ZERO, number)
    left = number if ddof is None else core.sub(number, ddof)
    return Value(core.div(total, core.where(enough, left, core.ONE)), REAL, enough)


def _number(rows: str, admitted: Node | None, other: Node | None) -> Node:
    """In how many rows both entries exist."""
    both = core.all_of(admitted, other)
    if both is None:
        return core.Size(rows)
    return (
        core.Reduce("count", (rows,), core.ONE, both)
        if rows in both.axes
        else core.where(both, core.Size(rows), core.ZERO)
    )


def _trace(ctx: Context, said: Bracketed, given: Given) -> Value:
    c = given.values["c"]
    row, column = said.axes

    def diagonal(node: Node) -> Node:
        return core.Select(node, column, core.Index(row)) if column in node.axes else node

    return Value(core.Reduce("sum", (row,), diagonal(c.node)), REAL, _everywhere(c, said.axes))


def _singular_values(ctx: Context, said: Bracketed, given: Given) -> Value:
    """The singular values of the entries that exist: rows of zeros add only zeros."""
    x = given.values["x"]
    node = core.where(core.all_of(said.where, x.present), x.node, core.ZERO)
    present = None if x.present is None else _some(x.present, said.axes)
    return Value(_call("svdvals", said, (node,), iv.NONNEG), REAL, present)


def _eigenvalues(ctx: Context, said: Bracketed, given: Given) -> Value:
    return Value(_call("eigvals", said, (given.values["c"].node,)), REAL, _everywhere(given.values["c"], said.axes))


def _logdet(ctx: Context, said: Bracketed, given: Given) -> Value:
    return Value(_call("logdet", said, (given.values["c"].node,)), REAL, _everywhere(given.values["c"], said.axes))


def _solve(ctx: Context, said: Bracketed, given: Given) -> Value:
    a, b = given.values["a"], given.values["b"]
    row, column = said.axes
    present = core.all_of(_everywhere(a, said.axes), _everywhere(b, (row,)))
    node = core.Call("solve", (a.node, b.node), said.axes, (column,), order=said.axes)
    return Value(node, REAL, present)


def _call(function: str, said: Bracketed, arguments: tuple[Node, ...], bounds: iv.Interval = iv.REAL) -> Node:
    made = (said.new,) if said.new is not None else ()
    return core.Call(function, arguments, said.axes, made, bounds, order=said.axes)


def _everywhere(value: Value, axes: tuple[str, ...]) -> Node | None:
    """Where every entry of a matrix exists: if one is absent, everything computed from the matrix is."""
    return _reduced("all", value.present, axes)


def _some(present: Node, axes: tuple[str, ...]) -> Node | None:
    return _reduced("any", present, axes)


def _reduced(op: core.ReduceOp, present: Node | None, axes: tuple[str, ...]) -> Node | None:
    over = tuple(axis for axis in axes if present is not None and axis in present.axes)
    return core.Reduce(op, over, present) if over and present is not None else present


# ------------------------------------------------------------------------------------------------ transport


def _sinkhorn(ctx: Context, said: Bracketed, given: Given) -> Value:
    """The plan of entropic transport over the entries that exist; 0 elsewhere, like a softmax."""
    eps = constant_value(given.values["eps"].node)
    steps = given.node("steps") or STEPS
    number = constant_value(steps)
    if eps is not None and eps <= 0:
        return ctx.wrong("E401", "`eps` of `sinkhorn` must be greater than 0", given.span("eps"))
    if number is None or not 1 <= number <= MAX_UPDATES or number != int(number):
        return ctx.wrong("E401", f"`steps` of `sinkhorn` is a whole number from 1 to {MAX_UPDATES}", given.span("steps"))
    cost = given.values["cost"]
    admitted = core.all_of(said.where, *(value.present for value in given.values.values()))
    parts = {"cost": cost.node, "eps": given.values["eps"].node, "a": given.node("a"), "b": given.node("b"),
             "steps": steps, "where": admitted}  # fmt: skip
    kept = {name: node for name, node in parts.items() if node is not None}
    names = tuple("" if name == "cost" else name for name in kept)
    bounds = iv.NONNEG if given.node("a") is not None or given.node("b") is not None else iv.UNIT
    node = core.Call("sinkhorn", tuple(kept.values()), said.axes, said.axes, bounds, order=said.axes, names=names)
    return Value(node)


_RULES = {
    "dot": _dot, "norm": _norm, "cov": _cov, "svdvals": _singular_values, "eigvals": _eigenvalues, "logdet": _logdet,
    "trace": _trace, "solve": _solve, "sinkhorn": _sinkhorn,
}  # fmt: skip
