"""The interval of a value whose leaves are finite: `exp` of a finite number is positive, though its domain includes 0."""

from __future__ import annotations

from dataclasses import replace

from lossc.compiler.core import Along, Map, Node, Reduce
from lossc.compiler.intervals import INF, POSITIVE, Interval
from lossc.compiler.primitives import PRIMITIVES

_DEPTH = 8
"""How many nested functions are looked through: enough for what is written in one line, and bounded for any program."""

_BETWEEN = ("mean", "max", "min")
"""Reductions whose value lies between the smallest and the largest of what they admit; of nothing they are absent."""


def finite_domain(node: Node, batch: frozenset[str] = frozenset(), depth: int = _DEPTH) -> Interval:
    """The values of `node` if everything that its functions read is finite; lies within `node.domain`.

    `batch` are axes that may have no entries.
    """
    if depth and isinstance(node, Map):
        inner = (finite_domain(part, batch, depth - 1) for part in node.arguments)
        return _opened(PRIMITIVES[node.function].image(*inner).intersect(node.domain))
    if depth and isinstance(node, Reduce) and node.op in _BETWEEN:
        return _opened(finite_domain(node.body, batch, depth - 1).intersect(node.domain))
    if depth and _positive(node, batch, depth):
        return _opened(node.domain.intersect(POSITIVE))
    return _opened(node.domain)


def _positive(node: Node, batch: frozenset[str], depth: int) -> bool:
    """Whether this is a softmax over a whole axis, or a sum or product of positive entries over axes that have some."""
    match node:
        case Along(op="softmax", where=None):
            return True
        case Reduce(op="sum" | "prod", where=None, groups=None):
            return batch.isdisjoint(node.over) and finite_domain(node.body, batch, depth - 1).positive
    return False


def _opened(interval: Interval) -> Interval:
    if interval.lo == interval.hi:
        return interval
    lo_open = interval.lo_open or interval.lo == -INF
    return replace(interval, lo_open=lo_open, hi_open=interval.hi_open or interval.hi == INF)
