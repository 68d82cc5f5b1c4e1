"""The normal form of each primitive over operands in normal form.

Primitives that are not listed only fold exact numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from lossc.compiler import core
from lossc.compiler.core import ZERO, Map, Node
from lossc.compiler.simplify import arithmetic, masks
from lossc.compiler.simplify.numbers import folded, smallest_or_largest
from lossc.compiler.simplify.views import is_map, number

MAX_CHAIN = 16
"""The longest `logaddexp` of several operands that is put in order."""


def normal(node: Map) -> Node:
    """The node in normal form. `where` is not handled here, because its branches are normal forms of their own."""
    return _NORMAL.get(node.function, folded)(node)


def _sum(node: Map) -> Node:
    return arithmetic.add(_with_numbers(node))


def _product(node: Map) -> Node:
    return arithmetic.multiply(_with_numbers(node))


def _power(node: Map) -> Node:
    base, exponent = _with_numbers(node).children
    return arithmetic.power(base, exponent)


def _with_numbers(node: Map) -> Node:
    """The operands, with constant masks as 0 and 1."""
    arguments = tuple(masks.as_number(argument) for argument in node.arguments)
    return node if arguments == node.arguments else node.rebuild(arguments)


def _absolute(node: Map) -> Node:
    """|c x| as |c| |x|."""
    (argument,) = node.arguments
    if number(argument) is not None:
        return folded(node)
    pulled, rest = arithmetic.without_number(argument)
    return node if pulled == 1 else core.mul(core.Const(abs(pulled)), core.apply("abs", rest))


def _ordered(decide: Callable[[Map], Node]) -> Callable[[Map], Node]:
    """The operands of a commutative function, ordered by digest."""

    def normal(node: Map) -> Node:
        arguments = tuple(sorted(node.arguments, key=lambda argument: argument.digest))
        return decide(node if arguments == node.arguments else Map(node.function, arguments))

    return normal


def _log_of_sum(node: Map) -> Node:
    """log(exp(x) + exp(y) + ...), nested to the right, 0 first, the other operands ordered by digest."""
    parts = _chained(node)
    if len(parts) > MAX_CHAIN:
        return node
    counted = Counter(parts).items()
    distinct = [core.add(part, core.apply("log", core.const(n))) if n > 1 else part for part, n in counted]
    ordered = sorted(distinct, key=lambda part: (part is not ZERO, part.digest))
    result = ordered[-1]
    for part in reversed(ordered[:-1]):
        result = core.apply("logaddexp", part, result)
    return result


def _chained(node: Node) -> list[Node]:
    if not is_map(node, "logaddexp"):
        return [node]
    first, second = node.children
    parts = _chained(first)
    return parts if len(parts) > MAX_CHAIN else parts + _chained(second)


_NORMAL: dict[str, Callable[[Map], Node]] = {
    "add": _sum,
    "mul": _product,
    "div": _product,
    "pow": _power,
    "and": masks.logic,
    "or": masks.logic,
    "not": masks.logic,
    "lt": masks.compared,
    "le": masks.compared,
    "eq": _ordered(masks.compared),
    "ne": _ordered(masks.compared),
    "abs": _absolute,
    "min": smallest_or_largest,
    "max": smallest_or_largest,
    "logaddexp": _log_of_sum,
}
