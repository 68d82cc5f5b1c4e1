"""Values that depend on the run: `step`, `progress`, `ramp(…)`, and the draws `normal(…)` and `uniform(…)`."""

from __future__ import annotations

from typing import Literal

from lossc.compiler import core
from lossc.compiler import intervals as iv
from lossc.compiler.core import Node
from lossc.compiler.elaborate.context import Context, describe
from lossc.compiler.intervals import Interval
from lossc.compiler.values import WRONG, Value
from lossc.grammar import syntax

STEP = core.Param(f"{core.RUN}step", "run", (), Interval(0, iv.INF, integer=True))
"""The number of steps done."""

PROGRESS = core.Param(f"{core.RUN}progress", "run", (), iv.UNIT)
"""The share of the run that is done."""


def run_value(name: str) -> Value:
    """`step` (from 0) or `progress` (from 0 to 1) of the run."""
    return Value(PROGRESS if name == "progress" else STEP)


def ramp(ctx: Context, call: syntax.Call) -> Value:
    """`ramp(a -> b, over = n)`: from a to b, linear in the step, then constant."""
    first = call.arguments[0] if call.arguments else None
    over = next((argument for argument in call.arguments[1:] if argument.name == "over"), None)
    if first is None or first.to is None or over is None or len(call.arguments) != 2:
        return ctx.wrong("E201", "`ramp` takes two values and a number of steps", call.span,
                         help="write `ramp(0 -> 1, over = 1000)`")  # fmt: skip
    start, stop, steps = ctx.value(first.value), ctx.value(first.to), ctx.value(over.value)
    if start.wrong or stop.wrong or steps.wrong:
        return WRONG
    for value, span in ((start, first.value.span), (stop, first.to.span), (steps, over.value.span)):
        if value.is_mask or value.is_label or value.term is not None:
            return ctx.wrong("E205", "`ramp` goes from one number to another", span, label=describe(ctx, value))
    if not steps.node.domain.meets(iv.POSITIVE):
        return ctx.wrong("E401", "`ramp` needs a positive number of steps", over.value.span,
                         help="write `ramp(0 -> 1, over = 1000)`")  # fmt: skip
    node = _between(start.node, stop.node, _share(steps.node))
    return Value(node, present=core.all_of(start.present, stop.present, steps.present))


def _share(steps: Node) -> Node:
    """How far the ramp is, from 0 to 1; a ramp over no steps is at its end."""
    some = None if steps.domain.positive else core.apply("lt", core.ZERO, steps)
    divisor = core.where(some, steps, core.ONE)
    return core.where(some, core.apply("min", core.ONE, core.div(STEP, divisor)), core.ONE)


def _between(start: Node, stop: Node, share: Node) -> Node:
    """The value at this fraction of the way; its domain is the hull of the two ends."""
    if isinstance(start, core.Const) and isinstance(stop, core.Const):
        return core.add(start, core.mul(core.sub(stop, start), share))
    mixed = core.add(core.mul(core.sub(core.ONE, share), start), core.mul(share, stop))
    if mixed.domain.within(start.domain.hull(stop.domain)):
        return mixed
    return core.apply("clip", mixed, core.apply("min", start, stop), core.apply("max", start, stop))


def draw(ctx: Context, name: str, call: syntax.Call) -> Value:
    """`normal(b, d)` and `uniform(b)`: seeded draws over the named axes."""
    order: list[str] = []
    for argument in call.arguments:
        if not isinstance(argument.value, syntax.Name) or argument.name is not None:
            return ctx.wrong("E210", f"`{name}` takes names of axes", argument.span, help=f"write `{name}(b, d)`")
        axis = ctx.axis(argument.value.id, argument.span)
        if axis is None:
            return WRONG
        if axis.name in order:
            return ctx.wrong("E302", f"axis `{argument.value.id}` is named twice", argument.span)
        order.append(axis.name)
    distribution: Literal["normal", "uniform"] = "normal" if name == "normal" else "uniform"
    return Value(core.Draw(distribution, tuple(order), _place(ctx, call)))


def _place(ctx: Context, call: syntax.Call) -> int:
    """The number of a draw's place in the spec.

    In a term each choice of arguments has its own, so that equal calls draw the same.
    """
    arguments: tuple[object, ...] = ()
    if ctx.frame.kind == "term":
        values = [(name, value) for name, value in ctx.frame.values.items() if isinstance(value, Value)]
        arguments = tuple((name, value.node, value.present) for name, value in values)
    places = ctx.session.places
    return places.setdefault((call.span.source.name, call.span.start, arguments), len(places))
