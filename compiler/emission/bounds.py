"""Bounds of positions in a guard: what is shifted to and fro is seen between two of them.

An entry i along an axis of n entries is seen where `first <= i <= n - 1 - short`. Shifts of shifts would else give a guard of
its own to every path through them, twice as many with each; bounded, they are as many as there are distances.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from lossc.compiler.core import ZERO, Const, Index, Map, Node, Size, add, apply, const

Bounds = Mapping[str, tuple[int, int]]
"""Of each axis, how many entries are left out at its beginning, and how many at its end."""


def bound_of(condition: object) -> tuple[str, int, int] | None:
    """The axis and the bounds of `0 <= i + a`, or of `i + a < n`; None of any other condition."""
    match condition:
        case Map(function="le", arguments=(zero, position)) if zero is ZERO:
            found = _offset(position)
            return None if found is None else (found[0], max(-found[1], 0), 0)
        case Map(function="lt", arguments=(position, Size(axis=axis))):
            found = _offset(position)
            return (axis, 0, max(found[1], 0)) if found is not None and found[0] == axis else None
    return None


def _offset(position: Node) -> tuple[str, int] | None:
    """The axis and a of `i + a`."""
    match position:
        case Index(axis=axis):
            return axis, 0
        case Map(function="add", arguments=(Const(value=Fraction() as a), Index(axis=axis))) if a.denominator == 1:
            return axis, int(a)
        case Map(function="add", arguments=(Index(axis=axis), Const(value=Fraction() as a))) if a.denominator == 1:
            return axis, int(a)
    return None


def tightened(bounds: Bounds, axis: str, first: int, short: int) -> Bounds:
    """The bounds and further ones of an axis."""
    here = bounds.get(axis, (0, 0))
    return {**bounds, axis: (max(here[0], first), max(here[1], short))}


def shifted(bounds: Bounds, axis: str, amount: int) -> Bounds:
    """The bounds of what stands `amount` entries earlier than what has these."""
    first, short = bounds.get(axis, (0, 0))
    return {**bounds, axis: (max(first - amount, 0), max(short + amount, 0))}


def conditions(bounds: Bounds) -> tuple[Node, ...]:
    """The bounds as conditions, in one order."""
    found: list[Node] = []
    for axis, (first, short) in sorted(bounds.items()):
        if first > 0:
            found.append(apply("le", ZERO, add(const(-first), Index(axis))))
        if short > 0:
            found.append(apply("lt", add(const(short), Index(axis)), Size(axis)))
    return tuple(found)
