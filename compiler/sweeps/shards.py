"""Sweeps over one rank's part of the classes: what is largest first, then sums, so that ranks can be merged after each.

Positions and labels stay those of all classes: a rank knows them through the leaves `@offset`, its first class, and
`@classes`, the number of all.
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
    Node,
    Size,
    add,
    all_of,
    apply,
    const,
    neg,
    sub,
    substitute,
    where,
)
from lossc.compiler.intervals import Interval
from lossc.compiler.sweeps.forward import sweeps
from lossc.compiler.sweeps.model import Sweep
from lossc.compiler.table.blocks import replaced
from lossc.compiler.table.model import Statistic, Table

COUNT = Interval(0, float("inf"), integer=True)
OFFSET = Input("@offset", (), "real", COUNT, detached=True)
CLASSES = Input("@classes", (), "real", COUNT, detached=True)
LARGEST = frozenset({"shift", "max", "argmax"})
NOWHERE = const(-1)


@dataclass(frozen=True)
class ShardStage:
    """The sweeps of one level: `largest` give the entries `top(name)` and places `place(name)`, `sums` what adds up."""

    level: int
    largest: tuple[Sweep, ...]
    sums: tuple[Sweep, ...]


def top(name: str) -> str:
    """The name of the largest entry of a statistic among the classes of a rank; -inf where it has none."""
    return f"{name} top"


def place(name: str) -> str:
    """The name of the first place of that entry."""
    return f"{name} place"


def shard(table: Table) -> Table:
    """The table over the classes of one rank. A label of another rank reads nothing: its place is negative."""
    axis = table.axis
    own = replaced(table, {Index(axis): add(Index(axis), OFFSET), Size(axis): CLASSES})
    found = []
    for before, statistic in zip(table.statistics, own.statistics, strict=True):
        if before.op == "select":
            at = before.at if isinstance(before.at, Node) else const(before.at or 0)
            statistic = replace(statistic, at=_within(substitute(at, {Size(axis): CLASSES}), axis))
        found.append(_ties(statistic, own) if statistic.op == "ties" else statistic)
    largest = [extra for statistic in found if statistic.op in LARGEST for extra in _largest(statistic)]
    return replace(own, statistics=(*found, *largest))


def _within(at: Node, axis: str) -> Node:
    """A place among all classes as one of this rank; -1 where it is none."""
    own = sub(at, OFFSET)
    inside = all_of(apply("le", ZERO, own), apply("lt", own, Size(axis)))
    return where(inside, own, NOWHERE)


def _ties(statistic: Statistic, table: Table) -> Statistic:
    """How many entries of this rank are as large as the largest of all."""
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
    wanted = [statistic for statistic in table.statistics if statistic.purpose != "merge"]
    names = {statistic.name: statistic for statistic in table.statistics}
    stages = []
    for level in sorted({statistic.level for statistic in wanted}):
        group = [statistic for statistic in wanted if statistic.level == level]
        largest = [s for s in group if s.op in LARGEST]
        extra = [names[name] for s in largest for name in (top(s.name), place(s.name)) if name in names]
        sums = [s for s in group if s.op not in LARGEST]
        known = [s for s in wanted if s.level < level]
        stages.append(ShardStage(level, tuple(sweeps(table, extra, known, exact=True)),
                                 tuple(sweeps(table, sums, [*known, *largest], exact=True))))  # fmt: skip
    return tuple(stages)
