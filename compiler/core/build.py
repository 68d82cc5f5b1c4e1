"""Constructors of common nodes: constants, flattened sums and products, conjunctions of masks, choices."""

from __future__ import annotations

from fractions import Fraction

from lossc.compiler.core.leaves import Const
from lossc.compiler.core.node import Node
from lossc.compiler.core.operations import Map

ZERO = Const(Fraction(0))
ONE = Const(Fraction(1))
HALF = Const(Fraction(1, 2))
INFINITY = Const("inf")
PI = Const("pi")


def const(value: int | Fraction | str) -> Const:
    return Const(Fraction(value))


def apply(function: str, *arguments: Node) -> Node:
    return Map(function, arguments)


def add(*terms: Node) -> Node:
    """The sum, with sums among the terms flattened; 0 if there are no terms."""
    flat = _flatten("add", terms)
    return Map("add", flat) if len(flat) > 1 else flat[0] if flat else ZERO


def mul(*factors: Node) -> Node:
    """The product, with products among the factors flattened; 1 if there are no factors."""
    flat = _flatten("mul", factors)
    return Map("mul", flat) if len(flat) > 1 else flat[0] if flat else ONE


_WIDEST = 256
"""The most operands of a flattened sum or product. Longer ones nest, so that chains like `t = t + t` stay small."""


def _flatten(function: str, parts: tuple[Node, ...]) -> tuple[Node, ...]:
    flat: list[Node] = []
    for part in parts:
        flat.extend(part.arguments if isinstance(part, Map) and part.function == function else (part,))
    return tuple(flat) if len(flat) <= _WIDEST else parts


def neg(x: Node) -> Node:
    if isinstance(x, Const) and isinstance(x.value, Fraction):
        return Const(-x.value)
    return mul(Const(Fraction(-1)), x)


def sub(x: Node, y: Node) -> Node:
    return add(x, neg(y))


def div(x: Node, y: Node) -> Node:
    return Map("div", (x, y))


def power(x: Node, y: Node) -> Node:
    return Map("pow", (x, y))


def all_of(*masks: Node | None) -> Node | None:
    """The conjunction of masks, where None stands for true."""
    result: Node | None = None
    for mask in dict.fromkeys(masks):
        if mask is not None:
            result = mask if result is None else Map("and", (result, mask))
    return result


def conjuncts(mask: Node | None) -> list[Node]:
    """The masks of which `mask` is the conjunction; none for None, which is true."""
    if mask is None:
        return []
    if isinstance(mask, Map) and mask.function == "and":
        return [part for argument in mask.arguments for part in conjuncts(argument)]
    return [mask]


def where(condition: Node | None, then: Node, otherwise: Node) -> Node:
    """The choice; it keeps the axes of its condition even where both branches are one value."""
    if condition is None or (then is otherwise and condition.axes <= then.axes):
        return then
    return Map("where", (condition, then, otherwise))
