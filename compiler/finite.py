"""The interval of a value whose leaves are finite: `exp` of a finite number is never 0, though its domain has it."""

from __future__ import annotations

from dataclasses import replace

from lossc.compiler.core import Map, Node, Reduce
from lossc.compiler.intervals import INF, Interval
from lossc.compiler.primitives import PRIMITIVES

_DEPTH = 8
"""How many nested functions are looked through: enough for what is written in one line, and bounded for any program."""

_BETWEEN = ("mean", "max", "min")
"""Reductions whose value lies between the smallest and the largest of what they admit; of nothing they are absent."""


def finite_domain(node: Node, depth: int = _DEPTH) -> Interval:
    """The values of `node` when what its functions read is finite; within `node.domain`."""
    if depth and isinstance(node, Map):
        image = PRIMITIVES[node.function].image(*(finite_domain(part, depth - 1) for part in node.arguments))
        return _opened(image.intersect(node.domain))
    if depth and isinstance(node, Reduce) and node.op in _BETWEEN:
        return _opened(finite_domain(node.body, depth - 1).intersect(node.domain))
    return _opened(node.domain)


def _opened(interval: Interval) -> Interval:
    if interval.lo == interval.hi:
        return interval
    lo_open = interval.lo_open or interval.lo == -INF
    return replace(interval, lo_open=lo_open, hi_open=interval.hi_open or interval.hi == INF)
