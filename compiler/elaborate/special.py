"""Functions that are neither elementwise nor reductions: stop-gradient, extents, draws, searches, linear algebra."""

from __future__ import annotations

from dataclasses import replace

from lossc.compiler import core
from lossc.compiler.elaborate.context import Context, declared_note, describe
from lossc.compiler.elaborate.groups import WEIGHTS_AXIS
from lossc.compiler.elaborate.places import columns_there
from lossc.compiler.elaborate.run_values import draw, ramp
from lossc.compiler.elaborate.signature import take
from lossc.compiler.kinds import REAL
from lossc.compiler.values import WRONG, Value
from lossc.grammar import syntax


def extent(ctx: Context, name: str, bracket: syntax.Bracket) -> Value:
    """`index[k]`, the position along an axis, and `size[k]`, its extent."""
    if len(bracket.selectors) != 1 or bracket.selectors[0].form != "axis" or bracket.where is not None:
        return ctx.wrong("E306", f"`{name}` takes the name of one axis", bracket.span, help=f"write `{name}[k]`")
    axis = ctx.axis(bracket.selectors[0].name, bracket.selectors[0].span)
    if axis is None:
        return WRONG
    return Value(core.Index(axis.name) if name == "index" else core.Size(axis.name))


def plain(ctx: Context, name: str, call: syntax.Call) -> Value:
    """Functions without a bracket that are not elementwise."""
    match name:
        case "sg":
            given = take(ctx, name, call, ("x",), 1)
            return WRONG if given is None else _stop(given.values["x"])
        case "fill":
            return _fill(ctx, call)
        case "total":
            return _total(ctx, call)
        case "ramp":
            return ramp(ctx, call)
        case "limit":
            return _limit(ctx, call)
    return draw(ctx, name, call)


def _stop(value: Value) -> Value:
    return replace(value, node=core.StopGrad(value.node))


def _fill(ctx: Context, call: syntax.Call) -> Value:
    """`fill(x, v)`: `v` where `x` is absent."""
    given = take(ctx, "fill", call, ("x", "value"), 2)
    if given is None:
        return WRONG
    value, other = given.values["x"], given.values["value"]
    present = core.all_of(value.present, *columns_there(value.node))
    if present is None:
        return value
    if value.is_mask and not other.is_mask and other.node not in (core.ZERO, core.ONE):
        return ctx.wrong("E205", "a mask is filled with a mask", given.span("value"), help="write `0 == 1` for false")
    filler = other.node if value.is_mask == other.is_mask else core.apply("ne", other.node, core.ZERO)
    return Value(core.where(present, value.node, filler), value.kind, other.present)


def _total(ctx: Context, call: syntax.Call) -> Value:
    """`total(w)`: the sum over every entry of a group of weights."""
    given = take(ctx, "total", call, ("w",), 1)
    if given is None:
        return WRONG
    value = given.values["w"]
    over = tuple(sorted(axis for axis in value.axes if axis.startswith(WEIGHTS_AXIS)))
    if value.kind.name != "weights" or not over:
        return ctx.wrong("E204", "`total` sums a group of weights", given.span("w"), label=describe(ctx, value),
                         notes=declared_note(value), help="reduce anything else over its axes: `sum[d](x)`")  # fmt: skip
    if len(over) > 1:
        return ctx.wrong("E204", "two groups of weights with different patterns meet here", given.span("w"),
                         help="operations act leaf by leaf, so both must have the same pattern")  # fmt: skip
    return Value(core.Reduce("sum", over, value.node), REAL, value.present)


def _limit(ctx: Context, call: syntax.Call) -> Value:
    """`limit(tau -> inf, u)`, in laws only."""
    first = call.arguments[0] if call.arguments else None
    if ctx.frame.kind != "law" or first is None or first.to is None or len(call.arguments) != 2:
        return ctx.wrong("E210", "`limit` is a form of laws", call.span, help='`law "…" : limit(tau -> inf, u) == …`')
    if not isinstance(first.value, syntax.Name) or ctx.value(first.to).wrong:
        return ctx.wrong("E210", "`limit` runs over a name", first.span, help="write `limit(tau -> inf, u)`")
    values = {**ctx.frame.values, first.value.id: Value(core.Input(first.value.id, ()))}
    return ctx.inside(replace(ctx.frame, values=values)).value(call.arguments[1].value)
