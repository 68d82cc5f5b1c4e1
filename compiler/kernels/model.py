"""Kernels as plain data: what a row reads, what it accumulates in each sweep, and what it writes.

A kernel covers statistics of a table that have the same row axes. Its graphs are core graphs over leaves: streams, the
index along the class axis, and row values. Row values are *arguments* (passed with each row), *locals* (computed
between two sweeps), or statistics of the kernel itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lossc.compiler.core import Input, Node
from lossc.compiler.table.model import Statistic, Stream

RowType = Literal["number", "integer", "mask"]


@dataclass(frozen=True)
class Argument:
    """A row value that is passed to the kernel.

    `value` is over the caller's tensors, parameters and statistics of earlier kernels.
    """

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
    """A selection: `statistic` is read at its label. `extra` are axes of the label that the rows do not have."""

    statistic: Statistic
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Adjoint:
    """One summand of the objective: dL/d `value` is `seed`, where that is not 0. `value` is a function of one row."""

    seed: Argument
    value: Node


@dataclass(frozen=True)
class Chain:
    """d `statistic` / d `value_of`, a row value in its body: a local, or a statistic of an earlier sweep."""

    statistic: str
    value_of: str
    value: Node


@dataclass(frozen=True)
class Kernel:
    """`streams` are read, `centred` streams are defined over them, `statistics` are in order of evaluation.

    If the objective is a sum over rows there are `adjoints`, and the coefficients of a row are computed with the row.
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
        """All statistics, entries at labels included."""
        return (*self.statistics, *(point.statistic for point in self.points))

    @property
    def differentiable(self) -> tuple[Stream, ...]:
        """The streams that some statistic passes gradient to."""
        reached = {slope.of for statistic in self.every for slope in statistic.gradients}
        return tuple(stream for stream in self.streams if stream.name in reached)


def type_of(leaf: Node) -> RowType:
    if leaf.is_mask:
        return "mask"
    return "integer" if isinstance(leaf, Input) and leaf.kind == "label" else "number"


def plain(leaf: Node) -> str:
    """The name of a leaf of the table without its `@`."""
    assert isinstance(leaf, Input)
    return leaf.name[1:] if leaf.name.startswith("@") else leaf.name
