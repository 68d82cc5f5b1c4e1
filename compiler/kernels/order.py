"""The order in which everything before the sums of a level is computed: each after what it reads.

A level has maxima, found in one sweep, entries at labels, and row values. They may read each other: the shift of one
sum may contain a row value that is made of an entry and an earlier shift.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lossc.compiler.core import Node
from lossc.compiler.kernels.c_rows import row_leaves
from lossc.compiler.kernels.model import Kernel, Local, Point
from lossc.compiler.table.model import Statistic

EXTREMES = ("shift", "max", "argmax", "ties")


@dataclass(frozen=True)
class Step:
    """What can be computed once earlier steps are: maxima, in one sweep, then entries at labels, then row values."""

    extremes: tuple[Statistic, ...]
    points: tuple[Point, ...]
    locals: tuple[Local, ...]


def steps(kernel: Kernel, level: int) -> list[Step]:
    """The steps of a level, with the row values of that level that it reads itself."""
    extremes = [s for s in kernel.statistics if s.level == level and s.op in EXTREMES]
    points = [point for point in kernel.points if point.statistic.level == level]
    values = early(kernel, level)
    found: list[Step] = []
    while extremes or points or values:
        unknown = _leaves(extremes, points, values)
        swept = tuple(s for s in extremes if not row_leaves(kernel, read_by(s)) & unknown)
        extremes = [s for s in extremes if s not in swept]
        unknown = _leaves(extremes, points, values)
        read = tuple(point for point in points if not row_leaves(kernel, read_by(point.statistic)) & unknown)
        points = [point for point in points if point not in read]
        unknown = _leaves(extremes, points, values)
        known = _known(kernel, values, unknown)
        values = [local for local in values if local not in known]
        assert swept or read or known, "values of a level that read each other in a circle"
        found.append(Step(swept, read, known))
    return found


def early(kernel: Kernel, level: int) -> list[Local]:
    """The row values of a level that statistics of the same level read."""
    read = row_leaves(kernel, [part for s in kernel.every if s.level == level for part in read_by(s)])
    found: list[Local] = []
    for local in reversed(kernel.locals):
        if local.leaf in read and local.level == level:
            found.insert(0, local)
            read |= row_leaves(kernel, [local.value])
    return found


def read_by(statistic: Statistic) -> list[Node]:
    """What a statistic reads: its body, its mask and its label."""
    return [part for part in (statistic.body, statistic.mask, statistic.at) if isinstance(part, Node)]


def _known(kernel: Kernel, values: Iterable[Local], unknown: set[Node]) -> tuple[Local, ...]:
    """The row values that can be computed, in order, from what is known."""
    found: list[Local] = []
    for local in values:
        if not row_leaves(kernel, [local.value]) & unknown:
            found.append(local)
            unknown = unknown - {local.leaf}
    return tuple(found)


def _leaves(extremes: Iterable[Statistic], points: Iterable[Point], values: Iterable[Local]) -> set[Node]:
    return {s.leaf for s in extremes} | {p.statistic.leaf for p in points} | {local.leaf for local in values}
