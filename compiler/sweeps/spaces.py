"""Which statistics of a table are swept together, and along which axes their rows may be cut into blocks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lossc.compiler.core import Draw, Index, Node, Size, walk
from lossc.compiler.table.extract import across
from lossc.compiler.table.model import Statistic, Table


@dataclass(frozen=True)
class Space:
    """Statistics whose row axes overlap. Every sum over classes among them has at least the row axes `cut`."""

    cut: tuple[str, ...]
    statistics: tuple[Statistic, ...]


def spaces(table: Table, statistics: Iterable[Statistic]) -> tuple[Space, ...]:
    """The statistics in groups that have no row axis in common."""
    groups: list[tuple[frozenset[str], list[Statistic]]] = []
    for statistic in statistics:
        rows, members = frozenset(statistic.leaf.axes), [statistic]
        for other in [group for group in groups if group[0] & rows or (not rows and not group[0])]:
            groups.remove(other)
            rows, members = rows | other[0], [*other[1], *members]
        groups.append((rows, members))
    order = row_order(table)
    return tuple(_space(members, order) for _, members in groups)


def row_order(table: Table) -> list[str]:
    """The row axes, outermost first, in the order of the widest streams."""
    streams = [getattr(stream.leaf, "order", ()) for stream in table.streams if stream.provider != "centred"]
    rows = [axes for statistic in table.statistics for axes in statistic.rows]
    ordered = [axis for axes in sorted(streams, key=lambda axes: -len(axes)) for axis in axes]
    return [axis for axis in dict.fromkeys([*ordered, *rows]) if axis != table.axis]


def _space(members: list[Statistic], order: list[str]) -> Space:
    swept = [statistic for statistic in members if statistic.op != "select"] or members
    shared = frozenset.intersection(*(statistic.leaf.axes for statistic in swept))
    return Space(tuple(axis for axis in order if axis in shared), tuple(members))


def is_local(table: Table) -> bool:
    """Whether every row value after the first sweep can be computed block by block."""
    own: dict[str, tuple[str, ...]] = {}
    for number, space in enumerate(spaces(table, table.statistics)):
        own |= {f"@{statistic.name}": (str(number), *space.cut) for statistic in space.statistics}
    return all(_is_local(scalar.value, own) for scalar in table.scalars if scalar.level)


def _is_local(value: Node, own: dict[str, tuple[str, ...]]) -> bool:
    nodes = list(walk(value))
    places = {own[name] for node in nodes if (name := getattr(node, "name", "")) in own}
    cut = frozenset(axis for _, *axes in places for axis in axes)
    mixed = any(across(node) & cut for node in nodes)
    placed = any(isinstance(node, Index | Size) and node.axis in cut for node in nodes)
    return len(places) == 1 and not mixed and not placed and not any(isinstance(node, Draw) for node in nodes)
