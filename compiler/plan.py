"""How an objective is computed: the statistic table of each class axis, its schedule, and what stays vocabulary-sized."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from lossc.compiler.core import Along, Input, Node, Param, Rename, Slice, walk
from lossc.compiler.program import Program
from lossc.compiler.table import Table, program_roots, render, tables, to_record
from lossc.compiler.table.show import sweeps

ITEM = 4
"""Bytes of an entry: fp32."""

_UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


@dataclass(frozen=True)
class Visit:
    """How often a dense stream is gone through: read `reads` times, its gradient written or not."""

    stream: str
    axes: tuple[str, ...]
    reads: int
    writes: int
    bytes: int | None


@dataclass(frozen=True)
class Intermediate:
    """A vocabulary-sized value that is written out, and why."""

    name: str
    axes: tuple[str, ...]
    reason: str
    bytes: int | None


@dataclass(frozen=True)
class AxisPlan:
    """The plan of one class axis. `coupled` names the values whose gradient needs every row before it starts."""

    table: Table
    coupled: tuple[str, ...]
    visits: tuple[Visit, ...]
    intermediates: tuple[Intermediate, ...]


@dataclass(frozen=True)
class Plan:
    """The plan of a program; `rows_only` are terms and monitors without a class axis."""

    axes: tuple[AxisPlan, ...]
    rows_only: tuple[str, ...]
    sizes: Mapping[str, int]
    positions: Mapping[str, tuple[str, ...]]

    @property
    def largest(self) -> Intermediate | None:
        """The largest vocabulary-sized intermediate that remains."""
        every = [entry for plan in self.axes for entry in plan.intermediates]
        return max(every, key=lambda entry: (entry.bytes or 0, len(entry.axes)), default=None)

    def render(self) -> str:
        """The plan as text."""
        blocks = ["\n".join(_axis_lines(plan, self.positions)) for plan in self.axes]
        if self.rows_only:
            blocks.append(f"without a class axis: {', '.join(self.rows_only)}")
        largest = self.largest
        remaining = "none" if largest is None else f"{largest.name} {_list(largest.axes)}{_amount(largest.bytes)}"
        blocks.append(f"largest vocabulary-sized intermediate: {remaining}")
        return "\n\n".join(blocks)

    def to_record(self) -> dict[str, object]:
        """The plan as a JSON object."""
        return {
            "sizes": dict(self.sizes),
            "axes": [_axis_record(plan, self.positions) for plan in self.axes],
            "rows_only": list(self.rows_only),
            "largest": None if self.largest is None else _intermediate_record(self.largest),
        }


def plan(program: Program, sizes: Mapping[str, int] | None = None) -> Plan:
    """The plan of a simplified program; with `sizes`, extents of axes by name, bytes are worked out."""
    extents = {**{name: len(info.positions) for name, info in program.axes.items() if info.positions}, **(sizes or {})}
    found = tables(program)
    covered = {root.name.split(" ")[0] for table in found for root in table.seam}
    rows_only = (name for name in program_roots(program) if " " not in name and name not in covered)
    positions = {name: info.positions for name, info in program.axes.items() if info.positions}
    return Plan(tuple(_axis_plan(table, extents) for table in found), tuple(rows_only), dict(sizes or {}), positions)


def _axis_plan(table: Table, sizes: Mapping[str, int]) -> AxisPlan:
    coupled = tuple(root.name for root in table.seam if not root.separable)
    return AxisPlan(table, coupled, tuple(_visits(table, bool(coupled), sizes)), tuple(_intermediates(table, sizes)))


def _visits(table: Table, coupled: bool, sizes: Mapping[str, int]) -> Iterator[Visit]:
    """A row is read once while it stays in cache; rows that are coupled are read again for the gradient."""
    for stream in table.streams:
        if stream.shape == "dense" and stream.provider != "centred":
            axes = _order(stream.leaf)
            yield Visit(stream.name, axes, 2 if coupled else 1, int(stream.differentiable), _bytes(axes, sizes))


def _intermediates(table: Table, sizes: Mapping[str, int]) -> Iterator[Intermediate]:
    rows = frozenset().union(*(stream.leaf.axes for stream in table.streams)) - {table.axis}
    for entry in table.computed:
        made = _made_of(entry.node, table.axis)
        nodes = [node for node in walk(entry.node) if node.axes & made and node.axes - made]
        wide = [_order(node) for node in nodes if not rows or node.axes & rows]
        if wide:
            axes = max(wide, key=lambda names: (_bytes(names, sizes) or 0, len(names)))
            yield Intermediate(entry.name, axes, entry.reason, _bytes(axes, sizes))


def _made_of(root: Node, axis: str) -> frozenset[str]:
    """The class axis and the axes that are made of it in a graph."""
    found = {axis}
    for node in walk(root):
        match node:
            case Along(axis=old, new=str() as new) | Rename(old=old, new=new) | Slice(axis=old, new=new) if old in found:
                found.add(new)
    return frozenset(found)


def _order(node: Node) -> tuple[str, ...]:
    return node.order if isinstance(node, Input | Param) else tuple(sorted(node.axes))


def _bytes(axes: tuple[str, ...], sizes: Mapping[str, int]) -> int | None:
    return prod(sizes[axis] for axis in axes) * ITEM if all(axis in sizes for axis in axes) else None


# ------------------------------------------------------------------------------------------------ text and record


def _axis_lines(plan: AxisPlan, positions: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    yield render(plan.table, positions)
    yield ""
    yield "schedule"
    if plan.coupled:
        yield f"  {sweeps(plan.table.levels)}; rows are coupled by {', '.join(plan.coupled)}: statistics, seam, then gradient"
    else:
        yield f"  {sweeps(plan.table.levels)}, while the row is in cache"
    for visit in plan.visits:
        write = ", gradient written" if visit.writes else ""
        yield f"  {visit.stream} {_list(visit.axes)}{_amount(visit.bytes)}: read {_times(visit.reads)}{write}"
    for entry in plan.intermediates:
        yield f"  {entry.name} {_list(entry.axes)}{_amount(entry.bytes)} remains: {entry.reason}"


def _times(number: int) -> str:
    return "once" if number == 1 else "twice"


def _list(axes: tuple[str, ...]) -> str:
    return f"[{', '.join(axes)}]"


def _amount(amount: int | None) -> str:
    if amount is None:
        return ""
    size, unit = next(((size, unit) for size, unit in _UNITS if amount >= size), (1, "B"))
    return f", {amount / size:.3g} {unit} in fp32"


def _axis_record(plan: AxisPlan, positions: Mapping[str, tuple[str, ...]]) -> dict[str, object]:
    return {
        "table": to_record(plan.table, positions),
        "levels": plan.table.levels,
        "coupled": list(plan.coupled),
        "visits": [{"stream": v.stream, "axes": list(v.axes), "reads": v.reads, "writes": v.writes, "bytes": v.bytes}
                   for v in plan.visits],
        "intermediates": [_intermediate_record(entry) for entry in plan.intermediates],
    }  # fmt: skip


def _intermediate_record(entry: Intermediate) -> dict[str, object]:
    return {"name": entry.name, "axes": list(entry.axes), "reason": entry.reason, "bytes": entry.bytes}
