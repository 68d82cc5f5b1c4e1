"""Fewer exponentials: those of multiples of one exponent are powers of the smallest: `exp(z)` is the square of `exp(z / 2)`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from lossc.compiler.core import Const, Map, Node, apply, const, mul, power, substitute, walk
from lossc.compiler.kernels.model import Kernel, Point
from lossc.compiler.table.model import Slope, Statistic

LARGEST = 4
"""The largest power that is formed by products."""


def with_powers(kernel: Kernel) -> Kernel:
    """The kernel with as few exponentials per class as its exponents allow."""
    replacements = dict(_powers(kernel))
    if not replacements:
        return kernel
    return replace(
        kernel,
        statistics=tuple(_over(s, replacements) for s in kernel.statistics),
        points=tuple(Point(_over(point.statistic, replacements), point.extra) for point in kernel.points),
    )


def _powers(kernel: Kernel) -> Iterator[tuple[Node, Node]]:
    """The exponentials over classes, each with its replacement."""
    bases: dict[Node, dict[Fraction, Node]] = {}
    for node in walk(*_graphs(kernel)):
        if isinstance(node, Map) and node.function == "exp" and kernel.axis in node.axes:
            factor, base = _scaled(node.arguments[0])
            bases.setdefault(base, {})[factor] = node
    for base, found in bases.items():
        positive = sorted(factor for factor in found if factor > 0)
        for factor in positive[1:]:
            times = factor / positive[0]
            if times.denominator == 1 and times <= LARGEST:
                smallest = apply("exp", mul(const(positive[0]), base) if positive[0] != 1 else base)
                yield found[factor], power(smallest, const(times))


def _scaled(node: Node) -> tuple[Fraction, Node]:
    """A node as a number and what that multiplies."""
    if isinstance(node, Map) and node.function == "mul" and isinstance(first := node.arguments[0], Const):
        if isinstance(first.value, Fraction):
            return first.value, mul(*node.arguments[1:])
    return Fraction(1), node


def _graphs(kernel: Kernel) -> Iterator[Node]:
    for s in kernel.every:
        yield from (part for part in (s.body, s.mask) if part is not None)
        yield from (slope.value for slope in s.gradients)


def _over(s: Statistic, replacements: dict[Node, Node]) -> Statistic:
    slopes = tuple(Slope(slope.of, substitute(slope.value, replacements)) for slope in s.gradients)
    mask = None if s.mask is None else substitute(s.mask, replacements)
    return replace(s, body=substitute(s.body, replacements), mask=mask, gradients=slopes)
