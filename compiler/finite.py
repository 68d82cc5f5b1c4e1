"""The interval of a value whose leaves are finite: `exp` of a finite number is positive, though its domain includes 0."""

from __future__ import annotations

from dataclasses import replace

from lossc.compiler.core import Along, Map, Node, Reduce
from lossc.compiler.intervals import INF, POSITIVE, Interval
from lossc.compiler.primitives import PRIMITIVES

_DEPTH = 8
"""How many nested functions are looked through: enough for what is written in one line, and bounded for any program."""

_MOST = 16
"""Arguments above which a function is not looked through."""

_BETWEEN = ("mean", "max", "min")
"""Reductions whose value lies between the smallest and the largest of what they admit; of nothing they are absent."""


def finite_domain(node: Node, batch: frozenset[str] = frozenset()) -> Interval:
    """The values of `node` if everything that its functions read is finite; lies within `node.domain`.

    `batch` are axes that may have no entries.
    """
    return _Finite(batch).domain(node, _DEPTH)


class _Finite:
    """Looks through each part once at each depth, however many ways lead to it."""

    def __init__(self, batch: frozenset[str]) -> None:
        self._batch = batch
        self._known: dict[tuple[Node, int], Interval] = {}

    def domain(self, node: Node, depth: int) -> Interval:
        """The values of a node, looking through that many functions."""
        key = (node, depth)
        if key not in self._known:
            self._known[key] = _opened(self._inner(node, depth))
        return self._known[key]

    def _inner(self, node: Node, depth: int) -> Interval:
        if depth and isinstance(node, Map) and len(node.arguments) <= _MOST:
            inner = (self.domain(part, depth - 1) for part in node.arguments)
            return PRIMITIVES[node.function].image(*inner).intersect(node.domain)
        if depth and isinstance(node, Reduce) and node.op in _BETWEEN:
            return self.domain(node.body, depth - 1).intersect(node.domain)
        return node.domain.intersect(POSITIVE) if depth and self._positive(node, depth) else node.domain

    def _positive(self, node: Node, depth: int) -> bool:
        """Whether this is a softmax over a whole axis, or a sum or product of positive entries over axes that have some."""
        match node:
            case Along(op="softmax", where=None):
                return True
            case Reduce(op="sum" | "prod", where=None, groups=None):
                return self._batch.isdisjoint(node.over) and self.domain(node.body, depth - 1).positive
        return False


def _opened(interval: Interval) -> Interval:
    if interval.lo == interval.hi:
        return interval
    lo_open = interval.lo_open or interval.lo == -INF
    return replace(interval, lo_open=lo_open, hi_open=interval.hi_open or interval.hi == INF)
