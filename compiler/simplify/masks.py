"""The normal form of masks: conjunctions and disjunctions flat, without duplicates, in one order; constants decided."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from fractions import Fraction

from lossc.compiler import core
from lossc.compiler.core import ONE, ZERO, Map, Node
from lossc.compiler.simplify.views import is_map, number

TRUE: Node = core.apply("le", ZERO, ZERO)
FALSE: Node = core.apply("lt", ZERO, ZERO)
"""The two constant masks; a comparison of numbers becomes one of them."""

_DUAL = {"and": (TRUE, FALSE), "or": (FALSE, TRUE)}


def constant(value: bool) -> Node:
    return TRUE if value else FALSE


def as_number(node: Node) -> Node:
    """A constant mask as 0 or 1, for arithmetic."""
    return ONE if node is TRUE else ZERO if node is FALSE else node


def operands(function: str, node: Node) -> tuple[Node, ...]:
    """The masks that a conjunction or a disjunction joins."""
    if isinstance(node, Map) and node.function == function:
        return tuple(part for argument in node.arguments for part in operands(function, argument))
    return (node,)


def conjuncts(node: Node | None) -> tuple[Node, ...]:
    return () if node is None else operands("and", node)


def both(*masks: Node | None) -> Node | None:
    """The conjunction in normal form; None means true."""
    result = _joined("and", (part for mask in masks if mask is not None for part in operands("and", mask)))
    return None if result is TRUE else result


def negation(mask: Node) -> Node:
    if mask in (TRUE, FALSE):
        return constant(mask is FALSE)
    return mask.arguments[0] if isinstance(mask, Map) and mask.function == "not" else core.apply("not", mask)


def logic(node: Map) -> Node:
    """`and`, `or` and `not` over masks in normal form."""
    if node.function == "not":
        return negation(node.arguments[0])
    return _joined(node.function, operands(node.function, node))


def _joined(function: str, parts: Iterable[Node]) -> Node:
    neutral, absorbing = _DUAL[function]
    unique = {part for part in parts if part is not neutral}
    if absorbing in unique or any(negation(part) in unique for part in unique):
        return absorbing
    kept = [part for part in unique if not _absorbed(function, part, unique)]
    ordered = sorted(kept, key=lambda part: part.digest)
    result = ordered[0] if ordered else neutral
    for part in ordered[1:]:
        result = core.apply(function, result, part)
    return result


def _absorbed(function: str, part: Node, others: set[Node]) -> bool:
    """Absorption: `a and (a or b)` is `a`, and `a or (a and b)` is `a`."""
    inner = "or" if function == "and" else "and"
    return is_map(part, inner) and any(other in others for other in operands(inner, part))


def compared(node: Map) -> Node:
    """A comparison of two numbers, decided."""
    left, right = (number(argument) for argument in node.arguments)
    if left is None or right is None:
        return node
    return constant(_COMPARE[node.function](left, right))


_COMPARE: dict[str, Callable[[Fraction, Fraction], bool]] = {
    "lt": operator.lt,
    "le": operator.le,
    "eq": operator.eq,
    "ne": operator.ne,
}
