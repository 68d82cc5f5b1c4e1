"""Sweeps over one rank's shard of the classes, in steps after which ranks can merge: largest entries first, then sums.

Positions and labels still count all classes. A rank locates its shard through the leaves `@offset`, the number of its
first class, and `@classes`, the number of all classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from lossc.compiler.core import (
    INFINITY,
    ONE,
    ZERO,
    Index,
    Input,
    Map,
    Node,
    Size,
    add,
    all_of,
    apply,
    const,
    neg,
    sub,
    substitute,
    walk,
    where,
)
from lossc.compiler.intervals import Interval
from lossc.compiler.sweeps.forward import sweeps
from lossc.compiler.sweeps.model import Sweep
from lossc.compiler.table.blocks import replaced
from lossc.compiler.table.model import Scalar, Slope, Statistic, Table

COUNT = Interval(0, float("inf"), integer=True)
OFFSET = Input("@offset", (), "real", COUNT, detached=True)
CLASSES = Input("@classes", (), "real", COUNT, detached=True)
LARGEST = frozenset({"shift", "max", "argmax"})
NOWHERE = const(-1)


@dataclass(frozen=True)
class ShardStage:
    """The sweeps of one level: `largest` delivers the entries `top(name)` and `place(name)`, `sums` whatever adds up.

    Each step of `largest` reads the merged results of the steps before it: a mask may need the largest entry of a
    stream by which another stream is centred.
    """

    level: int
    largest: tuple[tuple[Sweep, ...], ...]
    sums: tuple[Sweep, ...]


@dataclass(frozen=True)
class StageTables:
    """The statistics of one level as tables of their own, given all earlier levels: kernels are built from these."""

    level: int
    largest: tuple[Table, ...]
    sums: Table


def top(name: str) -> str:
    """The name of the largest entry of a statistic among the classes of a rank; the entry is -inf where the rank has none."""
    return f"{name}_top"


def place(name: str) -> str:
    """The name of the position of that entry; the first one where several are equal."""
    return f"{name}_place"


def shard(table: Table) -> Table:
    """The table over the classes of one rank.

    A label that belongs to another rank gets a negative position and reads nothing.
    """
    axis = table.axis
    own = replaced(table, {Index(axis): add(Index(axis), OFFSET), Size(axis): CLASSES})
    found, places = [], []
    for before, statistic in zip(table.statistics, own.statistics, strict=True):
        if before.op == "select":
            places.append(_place(before, table))
            statistic = _read_at(statistic, places[-1].leaf, axis)
        found.append(_ties(statistic, own) if statistic.op == "ties" else statistic)
    largest = [extra for statistic in found if statistic.op in LARGEST for extra in _largest(statistic)]
    return replace(own, statistics=(*found, *largest), scalars=(*own.scalars, *places))


def _place(statistic: Statistic, table: Table) -> Scalar:
    """The position of a selection within the classes of this rank, as a row value."""
    at = statistic.at if isinstance(statistic.at, Node) else const(statistic.at or 0)
    rows: dict[Node, Node] = {scalar.leaf: scalar.value for scalar in table.scalars if not scalar.level}
    value = _within(substitute(substitute(at, rows), {Size(table.axis): CLASSES}), table.axis)
    leaf = Input(f"@own_{statistic.name}", tuple(sorted(value.axes)), "real", value.domain, detached=True)
    return Scalar(leaf.name[1:], leaf, value, 0, differentiable=False)


def _read_at(statistic: Statistic, at: Node, axis: str) -> Statistic:
    """The selection with its position replaced; its slopes go to the new position too."""

    def here(slope: Slope) -> Slope:
        assert isinstance(slope.value, Map) and slope.value.function == "where"
        return replace(slope, value=where(apply("eq", Index(axis), at), slope.value.arguments[1], ZERO))

    return replace(statistic, at=at, gradients=tuple(here(slope) for slope in statistic.gradients))


def _within(at: Node, axis: str) -> Node:
    """A position among all classes as a position within this rank's; -1 where it belongs to another rank."""
    own = sub(at, OFFSET)
    inside = all_of(apply("le", ZERO, own), apply("lt", own, Size(axis)))
    return where(inside, own, NOWHERE)


def _ties(statistic: Statistic, table: Table) -> Statistic:
    """How many entries of this rank equal the largest entry of all ranks."""
    largest = next(s for s in table.statistics if s.op == "max" and (s.body, s.mask) == (statistic.body, statistic.mask))
    attained = apply("eq", statistic.body, largest.leaf)
    return replace(statistic, op="sum", body=where(attained, ONE, ZERO))


def _largest(statistic: Statistic) -> Iterator[Statistic]:
    body = where(statistic.mask, statistic.body, neg(INFINITY))
    plain = replace(statistic, body=body, mask=None, gradients=(), sensitivities=(), purpose="merge")
    leaf = Input(f"@{top(statistic.name)}", statistic.rows, "real", detached=True)
    yield replace(plain, name=top(statistic.name), leaf=leaf, op="max")
    if statistic.op == "argmax":
        leaf = Input(f"@{place(statistic.name)}", statistic.rows, "real", detached=True)
        yield replace(plain, name=place(statistic.name), leaf=leaf, op="argmax")


def shard_stages(table: Table) -> tuple[ShardStage, ...]:
    """The sweeps of a table made by `shard`, level by level."""
    wanted = _wanted(table)
    stages = []
    for level, steps, sums in _levels(table):
        known = [s for s in wanted if s.level < level]
        largest = []
        for merged, step in steps:
            largest.append(tuple(sweeps(table, step, known, exact=True)))
            known += merged
        stages.append(ShardStage(level, tuple(largest), tuple(sweeps(table, sums, known, exact=True))))
    return tuple(stages)


def stage_tables(table: Table) -> tuple[StageTables, ...]:
    """The levels as tables in which the statistics of earlier levels are row values that are given."""
    return tuple(
        StageTables(level, tuple(_only(table, step) for _, step in steps), _only(table, sums))
        for level, steps, sums in _levels(table)
    )


def gradient_table(table: Table) -> Table:
    """The table from which gradients are formed, without the statistics that only serve merging."""
    return _only(table, _wanted(table))


def _only(table: Table, statistics: list[Statistic]) -> Table:
    kept = tuple(replace(statistic, purpose="value") for statistic in statistics)
    return replace(table, statistics=kept, seam=(), order=tuple(statistic.name for statistic in kept))


def _wanted(table: Table) -> list[Statistic]:
    return [statistic for statistic in table.statistics if statistic.purpose != "merge"]


Step = tuple[list[Statistic], list[Statistic]]
"""Largest entries, and those that ranks merge in place of them."""


def _levels(table: Table) -> Iterator[tuple[int, list[Step], list[Statistic]]]:
    """Each level with the steps that find its largest entries, and its sums."""
    wanted = _wanted(table)
    names = {statistic.name: statistic for statistic in table.statistics}
    for level in sorted({statistic.level for statistic in wanted}):
        group = [statistic for statistic in wanted if statistic.level == level]
        steps: list[Step] = []
        left = [s for s in group if s.op in LARGEST]
        while left:
            unknown = {s.leaf for s in left}
            merged = [s for s in left if not _read(s, table) & unknown] or left
            extra = [names[name] for s in merged for name in (top(s.name), place(s.name)) if name in names]
            steps.append((merged, extra))
            left = [s for s in left if s not in merged]
        yield level, steps, [s for s in group if s.op not in LARGEST]


def _read(statistic: Statistic, table: Table) -> set[Node]:
    """The leaves that a statistic reads, directly or through the definitions of centred streams."""
    sources = {stream.leaf: stream.source for stream in table.streams if stream.provider == "centred"}
    found: set[Node] = set()
    stack = [part for part in (statistic.body, statistic.mask) if part is not None]
    while stack:
        for part in walk(stack.pop()):
            if part not in found:
                found.add(part)
                stack += [sources[part]] if part in sources else []
    return found
