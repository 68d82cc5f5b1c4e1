"""What can be done with a statistic table block of rows by block of rows: which rows are needed, and which go together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import replace

from lossc.compiler.core import (
    ZERO,
    Along,
    Call,
    Index,
    Input,
    Map,
    Node,
    Reduce,
    Rename,
    Select,
    Size,
    Slice,
    all_of,
    apply,
    substitute,
    walk,
)
from lossc.compiler.primitives import PRIMITIVES
from lossc.compiler.table.extract import across
from lossc.compiler.table.model import Computed, Scalar, Slope, Statistic, Stream, Table

Entry = Stream | Scalar | Statistic | Computed

Path = frozenset[Node]
"""Masks that all hold."""

CORNERS = frozenset(
    name for name, each in PRIMITIVES.items() if each.mask or any(not slope or " if " in slope for slope in each.derivatives)
) - {"where", "and", "or", "not"}
"""Functions that compare, or whose slope leaps."""

MOST_PATHS = 64
"""Ways from a root to a statistic beyond which every row counts as needed."""


def components(table: Table) -> tuple[Table, ...]:
    """The table divided into tables whose row axes have nothing in common, such as streams of different batches.

    Each has its own streams and statistics; entries without row axes are in all of them. Their seams are empty.
    """
    groups: list[frozenset[str]] = []
    for axes in (stream.leaf.axes for stream in table.streams):
        groups = _joined(groups, axes - {table.axis}, alone=True)
    entries: tuple[Entry, ...] = (*table.scalars, *table.statistics, *table.computed)
    for entry in entries:
        groups = _joined(groups, entry.leaf.axes - {table.axis}, alone=False)
    if len(groups) <= 1:
        return frozen_apart(table)
    return tuple(part for group in sorted(groups, key=sorted) for part in frozen_apart(_within(table, group)))


def _joined(groups: list[frozenset[str]], rows: frozenset[str], *, alone: bool) -> list[frozenset[str]]:
    """The groups of row axes, with all that share an axis with `rows` merged.

    Axes that meet no group form one if `alone`.
    """
    met = [group for group in groups if group & rows]
    if not rows or not (met or alone):
        return groups
    return [*(group for group in groups if group not in met), rows.union(*met)]


def _within(table: Table, rows: frozenset[str]) -> Table:
    """The entries of a table whose axes are the class axis and these row axes."""
    inside = rows | {table.axis}
    entries: tuple[Entry, ...] = (*table.streams, *table.scalars, *table.statistics, *table.computed)
    return _having(table, {entry.name for entry in entries if entry.leaf.axes <= inside})


def _having(table: Table, names: Set[str]) -> Table:
    """The entries of a table with these names, without a seam."""
    return replace(
        table, streams=tuple(entry for entry in table.streams if entry.name in names),
        scalars=tuple(entry for entry in table.scalars if entry.name in names),
        statistics=tuple(entry for entry in table.statistics if entry.name in names),
        computed=tuple(entry for entry in table.computed if entry.name in names), seam=(),
        order=tuple(name for name in table.order if name in names),
        deltas=tuple((name, leaf) for name, leaf in table.deltas if name in names),
    )  # fmt: skip


def frozen_apart(table: Table) -> tuple[Table, ...]:
    """The table, or two: the part that gradients reach, and a frozen part, such as a reference model.

    A gradient needs nothing of the frozen part but its statistics. Row values that read no stream are in both.
    """
    if any(stream.provider not in ("tensor", "centred") for stream in table.streams) or table.computed:
        return (table,)
    read = dict(_read(table))
    free = _of_no_stream(table, read)
    moved = {stream.name for stream in table.streams if stream.differentiable}
    while True:
        near = {name for name, others in read.items() if name in moved or others & moved}
        more = near.union(*(read[name] for name in near)) - free
        if more <= moved:
            break
        moved |= more
    rest = read.keys() - moved - free
    if not moved or not any(entry.name in rest for entry in table.statistics):
        return (table,)
    return _having(table, moved | free), _having(table, rest | free)


def _read(table: Table) -> Iterator[tuple[str, frozenset[str]]]:
    """For every stream, scalar and statistic, the names of those that its expressions read."""
    entries: tuple[Entry, ...] = (*table.streams, *table.scalars, *table.statistics)
    names = {entry.leaf: entry.name for entry in entries}
    for entry in entries:
        nodes = _nodes(_having(table, {entry.name}))
        yield entry.name, frozenset(names[node] for root in nodes for node in walk(root) if node in names) - {entry.name}


def _of_no_stream(table: Table, read: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The scalars that depend on no stream and no statistic."""
    left = {scalar.name for scalar in table.scalars}
    while bound := {name for name in left if read[name] - left}:
        left -= bound
    return frozenset(left)


def anchored(table: Table) -> tuple[Table, dict[str, str]]:
    """The table with row positions and row extents as leaves, since a block would count both from its own first row.

    Also the axis of each such leaf, by name: the leaf `@index b` has the axis `b`, `@size b` has none.
    """
    nodes = {node for root in _nodes(table) for node in walk(root)}
    found: dict[Node, Node] = {}
    for node in nodes:
        if isinstance(node, Index) and node.axis != table.axis:
            found[node] = Input(f"@index {node.axis}", (node.axis,), "label", node.domain)
        elif isinstance(node, Size) and node.axis != table.axis:
            found[node] = Input(f"@size {node.axis}", (), "real", node.domain, detached=True)
    if not found:
        return table, {}
    axes = {leaf.name: node.axis for node, leaf in found.items() if isinstance(node, Index | Size) and isinstance(leaf, Input)}
    return replaced(table, found), axes


def _nodes(table: Table) -> Iterator[Node]:
    """Every expression of a table."""
    yield from (stream.source for stream in table.streams)
    yield from (scalar.value for scalar in table.scalars)
    yield from (entry.node for entry in table.computed)
    yield from (root.value for root in table.seam)
    for statistic in table.statistics:
        parts = (statistic.body, statistic.mask, statistic.at, statistic.merge.growth)
        yield from (part for part in parts if isinstance(part, Node))
        yield from (slope.value for slope in (*statistic.gradients, *statistic.sensitivities))
        yield from (factor for factor, _ in statistic.merge.terms)


def replaced(table: Table, found: dict[Node, Node]) -> Table:
    """The table with nodes replaced in all of its expressions."""

    def new(node: Node) -> Node:
        return substitute(node, found)

    def of_statistic(s: Statistic) -> Statistic:
        merge = replace(s.merge, terms=tuple((new(factor), name) for factor, name in s.merge.terms),
                        growth=None if s.merge.growth is None else new(s.merge.growth))  # fmt: skip
        return replace(
            s, body=new(s.body), mask=None if s.mask is None else new(s.mask), merge=merge,
            at=new(s.at) if isinstance(s.at, Node) else s.at, gradients=slopes(s.gradients),
            sensitivities=slopes(s.sensitivities),
        )  # fmt: skip

    def slopes(entries: tuple[Slope, ...]) -> tuple[Slope, ...]:
        return tuple(replace(entry, value=new(entry.value)) for entry in entries)

    return replace(
        table,
        streams=tuple(replace(stream, source=new(stream.source)) for stream in table.streams),
        scalars=tuple(replace(scalar, value=new(scalar.value)) for scalar in table.scalars),
        statistics=tuple(of_statistic(statistic) for statistic in table.statistics),
        computed=tuple(replace(entry, node=new(entry.node)) for entry in table.computed),
        seam=tuple(replace(root, value=new(root.value)) for root in table.seam),
    )


def is_smooth(table: Table) -> bool:
    """Whether entries may be rounded differently when gradients are taken than when statistics were.

    They may not if anything compares entries, as the slope of a maximum does, or has a corner where an entry may lie.
    """
    moved = {stream.leaf for stream in table.streams if stream.differentiable}
    parts: list[Node] = []
    for statistic in table.statistics:
        if statistic.purpose != "merge":
            parts += [statistic.body, *(slope.value for slope in (*statistic.gradients, *statistic.sensitivities))]
            parts += [] if statistic.mask is None else [statistic.mask]
    corners = (node for node in walk(*parts) if isinstance(node, Map) and node.function in CORNERS)
    return not any(moved & set(walk(corner)) for corner in corners)


def mixed(table: Table) -> frozenset[str]:
    """The row axes along which expressions in bodies mix entries. A block must be whole along them."""
    nodes = [scalar.value for scalar in table.scalars] + [entry.node for entry in table.computed]
    nodes += [stream.source for stream in table.streams if stream.provider not in ("tensor", "parameter", "centred")]
    return frozenset().union(*(across(part) for part in walk(*nodes))) - {table.axis}


def independent(value: Node) -> frozenset[str]:
    """The axes along which a value is a plain sum: the values of blocks along them add up to it."""
    match value:
        case Reduce(op="sum", over=over, groups=None):
            return frozenset(over) - frozenset().union(*(across(part) for part in walk(*value.children)))
        case Map(function="add", arguments=arguments):
            return frozenset.intersection(*(independent(argument) for argument in arguments))
        case Map(function="mul" | "div", arguments=arguments):
            moving = [argument for argument in arguments if any(_differs(part) for part in walk(argument))]
            if moving == [arguments[0]] or (value.function == "mul" and len(moving) == 1):
                return independent(moving[0])
        case Map(function="where", arguments=(condition, then, otherwise)):
            if otherwise is ZERO and not any(_differs(part) for part in walk(condition)):
                return independent(then)
    return frozenset()


def _differs(node: Node) -> bool:
    """Whether a leaf may differ between blocks, or passes gradient."""
    return isinstance(node, Input) and (bool(node.axes) or not node.detached)


def needed(table: Table) -> Node | None:
    """A mask over rows outside of which no statistic or computed value counts in any root; None where every row may count.

    Of a statistic that is made of scores of other rows too, what counts says nothing of these.
    """
    made: tuple[Statistic | Computed, ...] = (*table.statistics, *table.computed)
    statistics = frozenset(f"@{entry.name}" for entry in made)
    of_rows = frozenset(f"@{entry.name}" for entry in made if entry.leaf.axes - {table.axis})
    blurred = _blurred(table)
    paths: set[Path] = set()
    for root in table.seam:
        for path in _paths(root.value, statistics, of_rows):
            paths.add(frozenset(mask for mask in path if not mask.axes & blurred))
        if frozenset() in paths or len(paths) > MOST_PATHS:
            return None
    ways = [all_of(*sorted(path, key=lambda mask: mask.digest)) for path in sorted(paths, key=_order)]
    found: Node | None = None
    for way in ways:
        assert way is not None
        found = way if found is None else apply("or", found, way)
    return found


def _blurred(table: Table) -> frozenset[str]:
    """The row axes along which operations on scores mix rows."""
    made = [entry.node for entry in table.computed]
    made += [stream.source for stream in table.streams if stream.provider not in ("tensor", "parameter", "centred")]
    scores = {leaf for leaf in walk(*made) if isinstance(leaf, Input) and table.axis in leaf.axes}
    return frozenset().union(*(across(part) for part in walk(*made) if not scores.isdisjoint(walk(part)))) - {table.axis}


def _order(path: Path) -> list[bytes]:
    return sorted(mask.digest for mask in path)


def _paths(root: Node, statistics: frozenset[str], of_rows: frozenset[str]) -> Iterator[Path]:
    """The masks on each way from a root to a statistic of rows."""
    seen: set[tuple[Node, Path]] = set()
    stack: list[tuple[Node, Path]] = [(root, frozenset())]
    while stack:
        node, path = stack.pop()
        if (node, path) in seen or len(seen) > 64 * MOST_PATHS:
            continue
        seen.add((node, path))
        if isinstance(node, Input) and node.name in of_rows:
            yield path
        for child, more in _below(node):
            known = {mask for mask in more if mask.axes <= child.axes and _is_known(mask, statistics)}
            stack.append((child, _lowered(path, node, child) | known))
    if len(seen) > 64 * MOST_PATHS:
        yield frozenset()


def _below(node: Node) -> Iterator[tuple[Node, tuple[Node, ...]]]:
    """The children of a node, each with the masks outside of which it is not seen."""
    match node:
        case Map(function="where", arguments=(condition, then, otherwise)):
            yield condition, ()
            yield then, (condition,)
            yield otherwise, (apply("not", condition),)
        case Reduce(body=body, where=Node() as where) | Along(body=body, where=Node() as where):
            yield body, (where,)
            yield from ((child, ()) for child in node.children if child is not body)
        case _:
            yield from ((child, ()) for child in node.children)


def _is_known(mask: Node, statistics: frozenset[str]) -> bool:
    """Whether a mask depends on no statistic, and so is known before any sweep."""
    return not any(isinstance(part, Input) and part.name in statistics for part in walk(mask))


def _lowered(path: Path, node: Node, child: Node) -> Path:
    """The masks of a path that still speak of the same entries one step further down, in a child."""
    taken: frozenset[str] = frozenset()
    match node:
        case Select(axis=axis):
            taken = frozenset((axis,))
        case Slice() | Rename() | Along() | Call():
            taken = across(node)
        case Reduce(groups=(_, group)):
            taken = frozenset((group,))
    return frozenset(mask for mask in path if mask.axes <= child.axes - taken)
