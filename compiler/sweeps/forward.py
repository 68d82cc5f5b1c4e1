"""From a table to the sweeps that compute its statistics, as torch operations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lossc.compiler.core import Node
from lossc.compiler.emission import Procedure, axis_order, made_extents
from lossc.compiler.emission.builder import Builder
from lossc.compiler.emission.prepare import recursion_for
from lossc.compiler.sweeps.emitter import SweepEmitter
from lossc.compiler.sweeps.model import Stage, Sweep
from lossc.compiler.sweeps.spaces import Space, is_local, spaces
from lossc.compiler.table.model import Statistic, Table


def statistic_stages(table: Table, *, gradient: bool, exact: bool) -> tuple[Stage, ...]:
    """The sweeps for all statistics, with those that only the gradient needs if it is asked for.

    Levels share a stage if everything between them is known row by row. Entries at labels (level 0) are read for all
    rows at once. `exact` is that of the emitter.
    """
    purposes = ("value", "gradient") if gradient else ("value",)
    wanted = [statistic for statistic in table.statistics if statistic.purpose in purposes]
    swept = [statistic for statistic in wanted if statistic.level]
    groups = [swept] if is_local(table) else list(_by_level(swept))
    stages = [Stage(-1, tuple(sweeps(table, [s for s in wanted if not s.level], [], exact)))]
    for group in groups:
        known = [statistic for statistic in wanted if statistic.level < min(s.level for s in group)] if group else []
        stages.append(Stage(min((s.level for s in group), default=1) - 1, tuple(sweeps(table, group, known, exact))))
    return tuple(stage for stage in stages if stage.sweeps)


def _by_level(statistics: list[Statistic]) -> Iterator[list[Statistic]]:
    for level in sorted({statistic.level for statistic in statistics}):
        yield [statistic for statistic in statistics if statistic.level == level]


def sweeps(table: Table, group: list[Statistic], known: Iterable[Statistic], exact: bool) -> Iterator[Sweep]:
    """The sweeps for statistics of one level; those that are `known` are bound."""
    before = min((statistic.level for statistic in group), default=0)
    given = {f"@{statistic.name}" for statistic in known}
    given |= {f"@{scalar.name}" for scalar in table.scalars if scalar.level < before}
    given |= {f"@{entry.name}" for entry in table.computed}
    for space in spaces(table, group):
        cut = space.cut if before else ()
        yield Sweep(cut, _procedure(table, space, frozenset(given), exact))


def _procedure(table: Table, space: Space, given: frozenset[str], exact: bool) -> Procedure:
    nodes = tuple(graphs(table))
    builder = builder_for(nodes)
    emitter = SweepEmitter(builder, table, given, exact=exact)
    with recursion_for(dict(enumerate_names(nodes))):
        outputs = {s.name: builder.tensor(emitter.emit(s.leaf)) for s in space.statistics}
    bound = tuple(sorted(builder.bound.values(), key=lambda entry: entry.slot))
    return Procedure(bound, tuple(builder.instructions), outputs)


def builder_for(nodes: tuple[Node, ...]) -> Builder:
    """A builder whose order of axes is that of the widest tensors."""
    builder = Builder(axis_order(nodes))
    builder.extents = made_extents(nodes)
    return builder


def graphs(table: Table) -> Iterator[Node]:
    """The graphs of statistics and of their slopes."""
    for stream in table.streams:
        yield stream.source if stream.provider == "centred" else stream.leaf
    for scalar in table.scalars:
        yield scalar.value
    for statistic in table.statistics:
        parts = (statistic.body, statistic.mask, statistic.at, *(slope.value for slope in statistic.gradients))
        yield from (part for part in parts if isinstance(part, Node))


def enumerate_names(nodes: Iterable[Node]) -> Iterator[tuple[str, Node]]:
    return ((str(at), node) for at, node in enumerate(nodes))
