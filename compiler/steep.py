"""Functions that may be infinite, or have an infinite slope, at finite arguments."""

from __future__ import annotations

from fractions import Fraction

from lossc.compiler.core import Const, Map, Node, walk
from lossc.compiler.primitives import PRIMITIVES

HARMLESS_EXPONENT = 80.0
"""exp of at most this is finite in single precision."""


def is_small_power(node: Map) -> bool:
    """x^n for a small whole n, finite wherever x is."""
    if node.function != "pow":
        return False
    exponent = node.arguments[1]
    return (
        isinstance(exponent, Const)
        and isinstance(exponent.value, Fraction)
        and exponent.value.denominator == 1
        and 0 <= exponent.value <= 8
    )


def is_steep_at(node: Map, position: int) -> bool:
    """Whether a singular function is so in this argument; an exponential is not where its exponent is bounded."""
    argument = node.arguments[position]
    bounded = node.function in ("exp", "expm1") and argument.domain.hi <= HARMLESS_EXPONENT
    return not (bounded or is_small_power(node))


def is_steep(node: Node) -> bool:
    """Whether a graph has a function that may be infinite, or have an infinite slope, where its leaves are finite."""
    return any(
        isinstance(part, Map)
        and PRIMITIVES[part.function].safe is not None
        and any(is_steep_at(part, at) for at in range(len(part.arguments)))
        for part in walk(node)
    )
