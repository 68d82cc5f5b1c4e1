"""Functions that may be infinite, or have an infinite slope, at finite arguments."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from lossc.compiler.core import Const, Map, Node, walk
from lossc.compiler.primitives import PRIMITIVES

HARMLESS_EXPONENT = 80.0
"""exp of at most this is finite in single precision."""

SINGULAR = {"div": (1,), "pow": (0,), "xlogy": (1,), "mod": (1,), "atan2": (1,), "logaddexp": ()}
"""The arguments in which a function is singular, where not in every one that the table of primitives gives a safe point."""

AT_ZERO = frozenset({"div", "log", "log2", "sqrt", "xlogy"})
"""The functions that are singular at 0 alone."""

AWAY = 1e-5
"""A number of at least this is no rounded 0."""

TINY = 1e-18
"""The square of its reciprocal is finite in single precision."""


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


def singular(node: Map) -> Iterable[int]:
    """The arguments at which a function may be infinite or infinitely steep, as far as their domains allow."""
    safe = PRIMITIVES[node.function].safe
    if safe is None or is_small_power(node):
        return ()
    places = SINGULAR.get(node.function, range(len(safe)))
    return [at for at in places if not _is_harmless(node.function, node.arguments[at])]


def _is_harmless(function: str, argument: Node) -> bool:
    """Whether the domain of an argument excludes the singularity of the function."""
    if function in ("exp", "expm1"):
        return argument.domain.hi <= HARMLESS_EXPONENT
    return function in AT_ZERO and _is_positive(argument)


def _is_positive(node: Node) -> bool:
    """Whether a value stays above 0 after rounding; a small bound is trusted only where nothing cancels."""
    least = node.domain.lo
    if least >= AWAY:
        return True
    sums = isinstance(node, Map) and node.function == "add" and all(part.domain.lo >= 0 for part in node.children)
    return sums and least >= TINY


def is_steep(node: Node) -> bool:
    """Whether a graph contains a function that may be infinite, or have an infinite slope, at finite leaves."""
    return any(isinstance(part, Map) and singular(part) for part in walk(node))
