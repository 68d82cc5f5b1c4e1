"""Values not taken by an extremum or order statistic, whose gradient must be exactly 0.

Autograd multiplies the 0 that comes back from `min(exp(x), 2)` by the slope of the exponential, which is infinite where
the exponential is: 0 * inf. Functions below such a choice therefore get their slopes attached explicitly, so that 0
stays 0. Only functions whose slope may be infinite at finite leaves need this, and only where gradient flows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lossc.compiler.core import ZERO, Along, Call, Map, Node, Reduce, mul, walk
from lossc.compiler.derivative import partial
from lossc.compiler.emission.facts import is_weighed, logarithms, may_be_infinite
from lossc.compiler.emission.guards import Guard
from lossc.compiler.emission.procedure import Emitted
from lossc.compiler.steep import singular

if TYPE_CHECKING:
    from lossc.compiler.emission.emitter import Emitter

CHOICES = frozenset({"min", "max", "clip", "relu", "median", "quantile", "sort", "topk", "cummax"})
"""The functions, reductions and operations along an axis that pass gradient to some of their entries alone."""


def perhaps_untaken(roots: Iterable[Node]) -> frozenset[Node]:
    """All nodes below a choice, and below a logarithm that another factor of a product may leave out."""
    found: set[Node] = set()
    for node in reversed(list(walk(*roots))):
        if node in found or _is_choice(node):
            found.update(node.children)
        if isinstance(node, Map) and node.function == "mul" and is_weighed(node):
            found.update(logarithm for factor in node.arguments if may_be_infinite(factor) for logarithm in logarithms(factor))
    return frozenset(found)


def _is_choice(node: Node) -> bool:
    match node:
        case Map(function=name) | Reduce(op=name) | Along(op=name) | Call(function=name):
            return name in CHOICES
    return False


def shielded(emitter: Emitter, node: Map, operands: list[Emitted], value: Emitted, guard: Guard) -> Emitted:
    """The value of a function of operands, through which a gradient of 0 stays 0.

    Where the value may go untaken and one of its slopes may be infinite, all slopes are attached explicitly, as given
    by the table of primitives.
    """
    if not emitter.attaches or node not in emitter.untaken or not (singular(node) or node.function in _MULTIPLES):
        return value
    slopes = {at: _slope(node, at) for at, part in enumerate(node.arguments) if emitter.passes(part)}
    slopes = {at: slope for at, slope in slopes.items() if slope is not ZERO}
    if not any(map(emitter.is_steep, slopes.values())):
        return value
    emitter.attaches -= 1
    pairs = [(operands[at], emitter.builder.tensor(emitter.number(slope, guard))) for at, slope in slopes.items()]
    emitter.attaches += 1
    return emitter.elementwise("operations.attached", (value, *(part for pair in pairs for part in pair)))


_MULTIPLES = frozenset({"mul", "div", "pow"})
"""The functions whose slope by one operand may be infinite where another operand is."""


def _slope(node: Map, at: int) -> Node:
    if node.function != "mul":
        return partial(node, at)
    return mul(*node.arguments[:at], *node.arguments[at + 1 :])
