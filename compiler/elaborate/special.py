"""The functions that are neither elementwise nor reductions: stop-gradient, extents, draws, searches, linear algebra."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lossc.compiler import core
from lossc.compiler import intervals as iv
from lossc.compiler.core import Node
from lossc.compiler.elaborate.context import Context, axes_text, declared_note, describe
from lossc.compiler.elaborate.of_the_run import draw, ramp
from lossc.compiler.elaborate.signature import take
from lossc.compiler.elaborate.types import WEIGHTS_AXIS, read_type
from lossc.compiler.kinds import NUMBERS, REAL
from lossc.compiler.symbols import Frame, ValueSymbol
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
    """Functions called without a bracket that are not elementwise."""
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
    if value.present is None:
        return value
    if value.is_mask and not other.is_mask and other.node not in (core.ZERO, core.ONE):
        return ctx.wrong("E205", "a mask is filled with a mask", given.span("value"), help="write `0 == 1` for false")
    filler = other.node if value.is_mask == other.is_mask else core.apply("ne", other.node, core.ZERO)
    return Value(core.where(value.present, value.node, filler), value.kind, other.present)


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
    return ctx.inside(replace_values(ctx.frame, values)).value(call.arguments[1].value)


# ------------------------------------------------------------------------------------------------ models and searches


def is_model(symbol: ValueSymbol) -> bool:
    return isinstance(symbol.declaration, syntax.Tensor) and symbol.declaration.type.kind == "model"


def model_call(ctx: Context, symbol: ValueSymbol, call: syntax.Call) -> Value:
    """A model called again: its result has the type that its declaration states."""
    symbol.used = True
    type_ = symbol.declaration.type  # type: ignore[union-attr]
    inner = Context(ctx.session, symbol.frame)
    if len(call.arguments) != len(type_.parameters):
        return ctx.wrong("E201", f"`{symbol.name}` takes {len(type_.parameters)} arguments", call.span)
    values = [ctx.value(argument.value) for argument in call.arguments]
    read = read_type(inner, type_.result) if type_.result is not None else None
    if read is None or any(value.wrong for value in values):
        return WRONG
    for value, parameter, argument in zip(values, type_.parameters, call.arguments, strict=True):
        wanted = read_type(inner, parameter)
        if wanted is None:
            return WRONG
        if not set(wanted[1]) <= value.axes:
            return ctx.wrong("E304", f"`{symbol.name}` needs {axes_text(ctx, wanted[1])} here", argument.span,
                             label=describe(ctx, value))  # fmt: skip
    kind, order = read
    ctx.uncompiled(f"calling the model `{symbol.name}`", call.span)
    consumed = tuple(sorted(frozenset().union(*(value.axes for value in values)) - set(order)))
    node = core.Call(f"model:{symbol.name}", tuple(value.node for value in values), consumed, order, kind.bounds)
    return Value(node, REAL if kind.name in NUMBERS else kind)


def search(ctx: Context, name: str, bracket: syntax.Bracket, call: syntax.Call) -> Value:
    """`grad[x](u)`, `worst[delta : type in ball(…), steps = n](u)`, `root[x in lo..hi](f)`."""
    if len(call.arguments) != 1 or not bracket.selectors:
        return ctx.wrong("E201", f"`{name}` takes one expression", call.span)
    return {"grad": _grad, "worst": _worst, "root": _root}[name](ctx, bracket, call)


def _grad(ctx: Context, bracket: syntax.Bracket, call: syntax.Call) -> Value:
    selector = bracket.selectors[0]
    if len(bracket.selectors) != 1 or selector.form != "axis":
        return ctx.wrong("E306", "`grad` takes the name of one value", bracket.span, help="write `grad[x](u)`")
    of = ctx.value(syntax.Name(selector.name, span=selector.span))
    value = ctx.value(call.arguments[0].value)
    if of.wrong or value.wrong:
        return WRONG
    if not any(of.node is part for part in core.walk(value.node)):
        return ctx.wrong("E311", f"this does not depend on `{selector.name}`: its gradient is 0", call.span,
                         notes=declared_note(of))  # fmt: skip
    ctx.uncompiled("`grad`", call.span)
    consumed = tuple(sorted(value.axes - of.axes))
    return Value(core.Call("grad", (value.node, of.node), consumed, tuple(sorted(of.axes))))


def _worst(ctx: Context, bracket: syntax.Bracket, call: syntax.Call) -> Value:
    """The largest value of an expression over a ball: the expression at its inner maximiser."""
    selector = bracket.selectors[0]
    if selector.form != "typed" or selector.type is None or not isinstance(selector.type.within, syntax.Call):
        return ctx.wrong("E306", "`worst` names what it searches and the ball that it lies in", bracket.span,
                         help="write `worst[delta : real[b, d] in ball(inf, eps), steps = 10](u)`")  # fmt: skip
    read = read_type(ctx, replace(selector.type, within=None))
    radii = [ctx.value(argument.value) for argument in selector.type.within.arguments]
    options = [ctx.value(option.value) for option in bracket.selectors[1:] if option.value is not None]
    if read is None or any(value.wrong for value in (*radii, *options)):
        return WRONG
    kind, order = read
    unknown = core.Input(selector.name, order, kind.name, kind.bounds)
    inner = ctx.inside(replace_values(ctx.frame, {**ctx.frame.values, selector.name: Value(unknown)}))
    value = inner.value(call.arguments[0].value)
    if value.wrong:
        return WRONG
    ctx.uncompiled("`worst`", call.span)
    arguments = (value.node, unknown, *(v.node for v in radii), *(v.node for v in options))
    consumed = tuple(sorted(frozenset[str]().union(*(a.axes for a in arguments)) - value.axes))
    return Value(core.Call("worst", arguments, consumed, ()), REAL, value.present)


def _root(ctx: Context, bracket: syntax.Bracket, call: syntax.Call) -> Value:
    selector = bracket.selectors[0]
    if selector.form != "range" or selector.value is None or selector.upper is None:
        return ctx.wrong("E306", "`root` names the unknown and where it lies", bracket.span,
                         help="write `root[x in 0..1](f)`")  # fmt: skip
    ends = [ctx.value(selector.value), ctx.value(selector.upper)]
    unknown = core.Input(selector.name, ())
    inner = ctx.inside(replace_values(ctx.frame, {**ctx.frame.values, selector.name: Value(unknown)}))
    value = inner.value(call.arguments[0].value)
    if value.wrong or any(end.wrong for end in ends):
        return WRONG
    ctx.uncompiled("`root`", call.span)
    return Value(core.Call("root", (value.node, unknown, *(end.node for end in ends))), REAL, value.present)


def replace_values(frame: Frame, values: dict[str, Any]) -> Frame:
    """The same frame with other values; the original is not touched."""
    return Frame(frame.kind, frame.own, frame.prefix, values, frame.terms, frame.axes, frame.settings, frame.objective)
