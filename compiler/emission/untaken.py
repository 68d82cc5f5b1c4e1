"""What an extremum or an order statistic does not take, whose gradient is exactly 0.

Autograd multiplies the 0 that comes back from `min(exp(x), 2)` by the slope of the exponential, which is infinite where
the exponential is: 0 * inf. Functions below such a choice have their slopes attached to them instead, so that 0 stays 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lossc.compiler.core import ZERO, Along, Map, Node, Param, Reduce, mul, walk
from lossc.compiler.derivative import partial
from lossc.compiler.emission.guards import Guard
from lossc.compiler.emission.procedure import Emitted
from lossc.compiler.steep import is_steep

if TYPE_CHECKING:
    from lossc.compiler.emission.emitter import Emitter

CHOICES = frozenset({"min", "max", "clip", "relu", "median", "quantile", "sort", "topk", "cummax"})
"""The functions, reductions and operations along an axis that pass gradient to some of their entries alone."""


def perhaps_untaken(roots: Iterable[Node]) -> frozenset[Node]:
    """All that stands below a choice."""
    found: set[Node] = set()
    for node in reversed(list(walk(*roots))):
        if node in found or _is_choice(node):
            found.update(node.children)
    return frozenset(found)


def _is_choice(node: Node) -> bool:
    match node:
        case Map(function=name) | Reduce(op=name) | Along(op=name):
            return name in CHOICES
    return False


def is_hidden(emitter: Emitter, node: Map, *, singular: bool) -> bool:
    """Whether a value may go untaken whose slope may be infinite: by itself, or since it is a multiple of what may be."""
    if not emitter.attaches or node not in emitter.untaken:
        return False
    return singular or (node.function in ("mul", "pow") and any(map(is_steep, node.arguments)))


def attached(emitter: Emitter, node: Map, operands: list[Emitted], value: Emitted, guard: Guard) -> Emitted:
    """The value with the slopes of the table of primitives by each operand, where a gradient of 0 reaches nothing."""
    pairs = []
    emitter.attaches -= 1
    for at, (operand, argument) in enumerate(zip(operands, node.arguments, strict=True)):
        slope = _slope(node, at)
        if slope is not ZERO and not operand.literal and _may_vary(emitter, argument):
            emitted = emitter.emit(slope, guard)
            pairs += [operand, emitter.builder.tensor(emitter.builder.number(emitted))]
    emitter.attaches += 1
    return emitter.elementwise("operations.attached", (value, *pairs)) if pairs else value


def _may_vary(emitter: Emitter, node: Node) -> bool:
    """Whether a gradient may be asked for through a value: parameters may be learned."""
    return emitter.has_numbers(node) or any(isinstance(part, Param) for part in walk(node))


def _slope(node: Map, at: int) -> Node:
    if node.function != "mul":
        return partial(node, at)
    return mul(*node.arguments[:at], *node.arguments[at + 1 :])
