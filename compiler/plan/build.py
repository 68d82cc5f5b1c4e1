"""Builds the plan of a simplified program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

from lossc.compiler.core import Along, Call, Input, Node, Param, Rename, Slice, differentiable, walk
from lossc.compiler.cut import cut
from lossc.compiler.emission import complete_extents
from lossc.compiler.kernels import Kernel, NoKernelError, kernels
from lossc.compiler.plan.model import Axes, AxisPlan, Intermediate, Pass, Plan, Visit
from lossc.compiler.program import Program
from lossc.compiler.table import Table, class_axes, is_opaque, program_roots

ITEM, STATISTIC = 4, 8
"""Bytes of an entry and of a statistic: fp32 and fp64."""


def plan(program: Program, sizes: Mapping[str, int] | None = None) -> Plan:
    """The plan of a simplified program. With `sizes`, the extents of axes by name, the plan also has bytes."""
    roots = program_roots(program)
    positions = {name: info.positions for name, info in program.axes.items() if info.positions}
    named = {name: len(found) for name, found in positions.items()}
    parts = cut(program, roots)
    extents = complete_extents(parts.made, {**named, **(sizes or {})})
    terms = frozenset(name for name in roots if name.partition(".")[0] in {term.name for term in program.terms})
    classes = frozenset(class_axes(program))
    whole = {name: root for name, root in parts.rest.items() if is_opaque(root)}
    rest = {name: root for name, root in parts.rest.items() if name not in whole}
    return Plan(
        program.name, tuple(_axis_plan(table, terms, extents) for table in parts.tables),
        tuple(name for name in rest if " " not in name), _widest(rest, extents), dict(sizes or {}), positions,
        tuple(_as_it_stands(name, root, classes, extents) for name, root in whole.items() if " " not in name), classes,
    )  # fmt: skip


def _axis_plan(table: Table, terms: frozenset[str], sizes: Mapping[str, int]) -> AxisPlan:
    covered = {root.name for root in table.seam}
    moving = [root for root in table.seam if root.name in terms and differentiable(root.value)]
    late = tuple(r.name for r in moving if {f"{r.name} denominator", f"{r.name} coefficient"} & covered)
    leaves = {root.name: Input(f"@weight {root.name}", ()) for root in moving if root.name not in late}
    passes, reason = _passes(table, leaves, alone=len(leaves) == len(moving))
    coupled = tuple(root.name for root in moving if not root.separable)
    rows = _rows(table)
    return AxisPlan(
        table, coupled, late, passes, tuple(_visits(table, passes, sizes)), tuple(_intermediates(table, sizes)),
        _workspace(table, sizes), _count(tuple(rows), sizes), sizes.get(table.axis), reason,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ passes


def _passes(table: Table, weights: Mapping[str, Node], *, alone: bool) -> tuple[tuple[Pass, ...], str]:
    """The passes over the rows, and the reason why they are not kernels, where they are not."""
    try:
        found = kernels(table, weights if alone and weights else None)
    except NoKernelError as problem:
        return tuple(_without_kernel(table, moving=bool(weights) or not alone)), str(problem)
    if found and all(kernel.adjoints is not None for kernel in found):
        return tuple(_pass("visit", kernel) for kernel in found), ""
    gradient = [_pass("gradient", kernel) for kernel in found if kernel.differentiable] if weights or not alone else []
    return (*(_pass("statistics", kernel) for kernel in found), *reversed(gradient)), ""


def _pass(kind: str, kernel: Kernel) -> Pass:
    reads = tuple(stream.name for stream in kernel.streams)
    statistics = tuple(s.name for s in kernel.every) if kind != "gradient" else ()
    gradients = tuple(s.name for s in kernel.differentiable) if kind != "statistics" else ()
    sweeps = {"visit": kernel.levels + bool(gradients), "statistics": kernel.levels, "gradient": 1}[kind]
    return Pass(kind, kernel.rows, sweeps, reads, statistics, gradients)  # type: ignore[arg-type]


def _without_kernel(table: Table, *, moving: bool) -> Iterator[Pass]:
    """The passes of the backend `torch`: all statistics, then all gradients."""
    streams = [stream for stream in table.streams if stream.provider != "centred"]
    reads, rows = tuple(stream.name for stream in streams), tuple(_rows(table))
    names = tuple(statistic.name for statistic in table.statistics if statistic.purpose != "merge")
    yield Pass("statistics", rows, table.levels, reads, names, ())
    gradients = tuple(stream.name for stream in streams if stream.differentiable)
    if gradients and moving:
        yield Pass("gradient", rows, 1, reads, (), gradients)


def _visits(table: Table, passes: tuple[Pass, ...], sizes: Mapping[str, int]) -> Iterator[Visit]:
    """How often each dense stream is read, and whether its gradient is written."""
    for stream in table.streams:
        if stream.shape == "dense" and stream.provider != "centred":
            axes = _order(stream.leaf)
            reads = sum(stream.name in each.reads for each in passes)
            writes = any(stream.name in each.gradients for each in passes)
            yield Visit(stream.name, axes, reads, int(writes), _bytes(axes, sizes))


# ------------------------------------------------------------------------------------------------ values


def kept_wide(table: Table, sizes: Mapping[str, int]) -> Iterator[Intermediate]:
    """Values that PyTorch operations deliver to a table and that are vocabulary-sized, or are made of such values."""
    rows = _rows(table)
    for entry in table.computed:
        made = _made_of(entry.node, table.axis)
        nodes = [node for node in walk(entry.node) if node.axes & made and node.axes - made]
        wide = [_order(node) for node in nodes if not rows or node.axes & set(rows)]
        if wide:
            axes = max(wide, key=lambda names: (_bytes(names, sizes) or 0, len(names)))
            yield Intermediate(entry.name, axes, entry.reason, _bytes(axes, sizes))


def _intermediates(table: Table, sizes: Mapping[str, int]) -> Iterator[Intermediate]:
    yield from kept_wide(table, sizes)
    for stream in table.streams:
        if stream.provider == "pairs":
            axes = _order(stream.leaf)
            yield Intermediate(stream.name, axes, "the products of all pairs are formed", _bytes(axes, sizes))


def _made_of(root: Node, axis: str) -> frozenset[str]:
    """The class axis and the axes derived from it in a graph."""
    found = {axis}
    for node in walk(root):
        match node:
            case Along(axis=old, new=str() as new) | Rename(old=old, new=new) | Slice(axis=old, new=new) if old in found:
                found.add(new)
    return frozenset(found)


_CALLS = {
    "model": "a model is called in it", "extern": "a function in Python is called in it",
    "grad": "a gradient is taken in it", "worst": "it searches a worst case", "root": "it searches a root",
    "fold": "it goes from step to step", "leaf": "it follows the leaves of weights",
}  # fmt: skip


def _as_it_stands(name: str, root: Node, classes: frozenset[str], sizes: Mapping[str, int]) -> Intermediate:
    """A term that runs on the reference backend because of a call in it, with its largest intermediate."""
    calls = [node for node in walk(root) if isinstance(node, Call) and node.is_opaque]
    reasons = dict.fromkeys(_CALLS[call.function.partition(":")[0]] for call in calls)
    nodes = [node for node in walk(root) if node.axes and not isinstance(node, Input | Param)]
    axes = max((_order(node) for node in nodes), key=lambda names: (
        bool(classes & set(names)), _bytes(names, sizes) or 0, len(names)
    ), default=())  # fmt: skip
    shown = tuple("entry" if axis.startswith("#") else axis for axis in axes)
    return Intermediate(name, shown, ", ".join(reasons), _bytes(axes, sizes))


def _widest(roots: Mapping[str, Node], sizes: Mapping[str, int]) -> Intermediate | None:
    """The largest intermediate of whatever runs as plain PyTorch operations."""
    nodes = [node for node in walk(*roots.values()) if node.axes and not isinstance(node, Input | Param)]
    if not nodes:
        return None
    axes = max((_order(node) for node in nodes), key=lambda names: (_bytes(names, sizes) or 0, len(names)))
    return Intermediate(next(iter(roots)), axes, "it has no class axis", _bytes(axes, sizes))


def _workspace(table: Table, sizes: Mapping[str, int]) -> int | None:
    """Bytes of the statistics of all rows."""
    amounts = [_count(s.rows, sizes) for s in table.statistics if s.purpose != "merge"]
    return None if None in amounts else STATISTIC * sum(amount for amount in amounts if amount is not None)


def _rows(table: Table) -> Axes:
    """The row axes, in the order of the widest stream."""
    orders = [_order(stream.leaf) for stream in table.streams if stream.provider != "centred"]
    return tuple(axis for axis in max(orders, key=len, default=()) if axis != table.axis)


def _order(node: Node) -> Axes:
    return node.order if isinstance(node, Input | Param) else tuple(sorted(node.axes))


def _count(axes: Axes, sizes: Mapping[str, int]) -> int | None:
    return prod(sizes[axis] for axis in axes) if all(axis in sizes for axis in axes) else None


def _bytes(axes: Axes, sizes: Mapping[str, int]) -> int | None:
    count = _count(axes, sizes)
    return None if count is None else count * ITEM
