"""Kernels as plain data: what a row reads, what it accumulates sweep by sweep, and what it writes.

A kernel covers the statistics of a table that have the same row axes. Its graphs are core over leaves: streams, the index
along the class axis, and row values, which are *arguments* (given with each row), *locals* (worked out between two sweeps)
or statistics of the kernel itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lossc.compiler.core import Input, Node
from lossc.compiler.table.model import Statistic, Stream

RowType = Literal["number", "integer", "mask"]


@dataclass(frozen=True)
class Argument:
    """A row value that is given: `value` is over the caller's tensors, parameters and statistics of earlier kernels."""

    leaf: Input
    value: Node

    @property
    def type(self) -> RowType:
        return type_of(self.leaf)


@dataclass(frozen=True)
class Local:
    """A row value over arguments, statistics and other locals, known after `level` sweeps."""

    leaf: Input
    value: Node
    level: int


@dataclass(frozen=True)
class Point:
    """A selection: `statistic` read at the label `at`; `extra` are axes of the label that the rows do not have."""

    statistic: Statistic
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Adjoint:
    """One summand of the objective: where `seed` is not 0, dL/d value is `seed`; `value` is over one row."""

    seed: Argument
    value: Node


@dataclass(frozen=True)
class Chain:
    """d `statistic` / d `value_of`: what a coefficient of the statistic adds to that of a row value in its body, which is a
    local or a statistic of an earlier sweep."""

    statistic: str
    value_of: str
    value: Node


@dataclass(frozen=True)
class Kernel:
    """`streams` are read, `centred` ones defined over them; `statistics` stand in order of evaluation.

    `adjoints` are there where the objective is a sum over rows: then a row's coefficients are worked out with the row.
    """

    axis: str
    rows: tuple[str, ...]
    streams: tuple[Stream, ...]
    centred: tuple[Stream, ...]
    arguments: tuple[Argument, ...]
    locals: tuple[Local, ...]
    statistics: tuple[Statistic, ...]
    points: tuple[Point, ...]
    chains: tuple[Chain, ...]
    adjoints: tuple[Adjoint, ...] | None

    @property
    def levels(self) -> int:
        return max((s.level for s in self.every), default=0)

    @property
    def every(self) -> tuple[Statistic, ...]:
        """The statistics, entries at labels included."""
        return (*self.statistics, *(point.statistic for point in self.points))

    @property
    def differentiable(self) -> tuple[Stream, ...]:
        """The streams to which some statistic passes gradient."""
        reached = {slope.of for statistic in self.every for slope in statistic.gradients}
        return tuple(stream for stream in self.streams if stream.name in reached)


def type_of(leaf: Node) -> RowType:
    if leaf.is_mask:
        return "mask"
    return "integer" if isinstance(leaf, Input) and leaf.kind == "label" else "number"


def plain(leaf: Node) -> str:
    """The name of a leaf of the table: `@s1` as `s1`."""
    assert isinstance(leaf, Input)
    return leaf.name[1:] if leaf.name.startswith("@") else leaf.name
