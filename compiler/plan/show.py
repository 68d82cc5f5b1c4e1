"""A plan as text and as a JSON record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from lossc.compiler.plan.budget import BLOCK_BYTES, HEAD_BYTES, block_rows, head_rows
from lossc.compiler.plan.build import ITEM
from lossc.compiler.plan.model import Axes, AxisPlan, Intermediate, PairsPlan, Pass, Plan
from lossc.compiler.table import render, to_record

_UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_TIMES = {0: "not read", 1: "read once", 2: "read twice"}


def render_plan(plan: Plan) -> str:
    """The plan as text: for each class axis its table, passes, schedule and memory; then whatever remains."""
    extents = ", ".join(f"{axis}={extent}" for axis, extent in plan.sizes.items())
    blocks = [f"{plan.name}  at {extents}, bytes of fp32" if extents else plan.name]
    blocks += ["\n".join(_axis_lines(each, plan.positions)) for each in plan.axes]
    if plan.rows_only:
        blocks.append("\n".join(_rest_lines(plan)))
    if plan.whole:
        blocks.append("\n".join(_whole_lines(plan)))
    blocks += ["\n".join(_pairs_lines(each)) for each in plan.pairs]
    largest = plan.largest
    remaining = "none" if largest is None else f"{largest.name} {_list(largest.axes)}{_amount(largest.bytes)}"
    blocks.append(f"largest vocabulary-sized intermediate: {remaining}")
    return "\n\n".join(blocks)


def _rest_lines(plan: Plan) -> Iterator[str]:
    yield f"without a class axis: {', '.join(plan.rows_only)}"
    if plan.widest is not None:
        yield f"  plain torch; the largest value is {_list(plan.widest.axes)}{_amount(plan.widest.bytes)}"


def _whole_lines(plan: Plan) -> Iterator[str]:
    yield f"as it stands: {', '.join(entry.name for entry in plan.whole)}"
    for entry in plan.whole:
        yield f"  {entry.name}: {entry.reason}; the largest value is {_list(entry.axes)}{_amount(entry.bytes)}"


def _pairs_lines(plan: PairsPlan) -> Iterator[str]:
    """What happens to a matrix of all pairs that is given as its two factors."""
    yield f"{plan.name} {_list(plan.axes)} given as lossc.Pairs: {'the matrix is formed' if plan.whole else 'no matrix'}"
    yield from (f"  {reason}" for reason in plan.whole)
    for axis in dict.fromkeys(() if plan.whole else plan.along):
        times = plan.along.count(axis)
        yield f"  gone through along {axis}{f', {times} times' if times > 1 else ''}"


def _axis_lines(plan: AxisPlan, positions: Mapping[str, Axes]) -> Iterator[str]:
    sections = (
        ("programs", list(_program_lines(plan))),
        ("schedule", list(_schedule_lines(plan))),
        ("memory", list(_memory_lines(plan))),
        ("remaining", [f"{e.name} {_list(e.axes)}{_amount(e.bytes)} remains: {e.reason}" for e in plan.intermediates]),
    )
    yield render(plan.table, positions)
    for title, lines in sections:
        if lines:
            yield from ("", title, *(f"  {line}" for line in lines))


# ------------------------------------------------------------------------------------------------ sections


def _program_lines(plan: AxisPlan) -> Iterator[str]:
    """One line for each pass, in columns, with the seam between them where it runs."""
    rows = [_columns(each) for each in plan.passes]
    at = next((number for number, each in enumerate(plan.passes) if each.kind == "gradient"), len(rows))
    names = ", ".join(root.name for root in plan.table.seam if " " not in root.name)
    rows.insert(at, ("seam", "rows", "", names if plan.once else f"{names}, and dL/d of every statistic", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, (*widths, 0), strict=True)).rstrip()


def _columns(each: Pass) -> tuple[str, str, str, str, str]:
    sweeps = f"{each.sweeps} sweep{'s' if each.sweeps > 1 else ''}" if each.sweeps else "no sweep"
    known = "" if each.kind != "gradient" else " and statistics"
    written = [*each.statistics, *(f"dL/d {name}" for name in each.gradients)]
    return each.kind, _list(each.rows), sweeps, f"reads {', '.join(each.reads)}{known}", f"writes {', '.join(written)}"


def _schedule_lines(plan: AxisPlan) -> Iterator[str]:
    if plan.once:
        yield "one visit: a row's values, seam and gradient are worked out while it is in the cache"
    elif not any(each.kind == "gradient" for each in plan.passes):
        yield "one visit: nothing here passes gradient"
    else:
        yield f"two visits: {_why(plan)}"
    if plan.reason:
        yield f"the backend `torch` runs it, block by block, also for `c`: {plan.reason}"
    for visit in plan.visits:
        write = ", gradient written" if visit.writes else ""
        yield f"{visit.stream} {_list(visit.axes)}{_amount(visit.bytes)}: {_times(visit.reads)}{write}"


def _why(plan: AxisPlan) -> str:
    """Why the gradient has to wait for the statistics."""
    if plan.coupled:
        return f"rows are coupled by {', '.join(plan.coupled)}, so the gradient waits for all statistics"
    if plan.late:
        return f"the denominator of {', '.join(plan.late)} is known only with all statistics"
    return "statistics of all rows first, then the gradient"


def _memory_lines(plan: AxisPlan) -> Iterator[str]:
    if plan.moved is None or plan.workspace is None or plan.rows is None or plan.classes is None:
        return
    moved = {visit.stream: visit for visit in plan.visits if visit.bytes}
    parts = [f"{name} {_size((visit.bytes or 0) * (visit.reads + visit.writes))}" for name, visit in moved.items()]
    share = f", of which {', '.join(parts)}" if len(parts) > 1 else ""
    yield f"moved      {_size(plan.moved)}{share}"
    yield f"floor      {_size(plan.floor or 0)}: each stream read once, each gradient written once"
    yield f"gradients  {_size(plan.gradients or 0)}"
    yield f"workspace  {_size(plan.workspace)}: the statistics of {plan.rows} rows in fp64"
    yield "blocks     backend c: row by row"
    for device, budget in BLOCK_BYTES.items():
        each = block_rows(plan.classes * ITEM, device)
        yield f"           backend torch on {_the(device)}: {_blocks(plan.rows, each)}, {_size(budget)} a value"


    heads = plan.heads
    row = len(heads) * plan.classes * ITEM
    for device in HEAD_BYTES if heads else ():
        each = min(head_rows(row, device), max(plan.rows, 1))
        of = f"{', '.join(heads)} given as lossc.Linear, on {_the(device)}"
        yield f"           {of}: {_blocks(plan.rows, each)}, {_size(each * row)} of scores"


def _blocks(rows: int, each: int) -> str:
    """`125 blocks of 65 rows`."""
    each = min(each, max(rows, 1))
    count = -(-rows // each)
    return "one block" if count <= 1 else f"{count} blocks of {each} row{'s' if each > 1 else ''}"


def _the(device: str) -> str:
    return "the CPU" if device == "cpu" else device


def _times(number: int) -> str:
    return _TIMES.get(number, f"read {number} times")


def _list(axes: Iterable[str]) -> str:
    return f"[{', '.join(axes)}]"


def _amount(amount: int | None) -> str:
    return "" if amount is None else f", {_size(amount)}"


def _size(amount: int) -> str:
    size, unit = next(((size, unit) for size, unit in _UNITS if amount >= size), (1, "B"))
    return f"{amount / size:.3g} {unit}" if amount < 1000 * size else f"{amount / size:.0f} {unit}"


# ------------------------------------------------------------------------------------------------ record


def plan_record(plan: Plan) -> dict[str, object]:
    """The plan as a JSON object."""
    return {
        "objective": plan.name,
        "sizes": dict(plan.sizes),
        "axes": [_axis_record(each, plan.positions) for each in plan.axes],
        "rows_only": list(plan.rows_only),
        "widest": None if plan.widest is None else _intermediate_record(plan.widest),
        "whole": [_intermediate_record(entry) for entry in plan.whole],
        "pairs": [{"name": each.name, "axes": list(each.axes), "along": list(each.along), "formed": list(each.whole)}
                  for each in plan.pairs],
        "largest": None if plan.largest is None else _intermediate_record(plan.largest),
    }


def _axis_record(plan: AxisPlan, positions: Mapping[str, Axes]) -> dict[str, object]:
    return {
        "table": to_record(plan.table, positions),
        "levels": plan.table.levels,
        "schedule": "once" if plan.once else "twice",
        "coupled": list(plan.coupled),
        "late": list(plan.late),
        "programs": [
            {"kind": p.kind, "rows": list(p.rows), "sweeps": p.sweeps, "reads": list(p.reads),
             "statistics": list(p.statistics), "gradients": list(p.gradients)}
            for p in plan.passes
        ],
        "visits": [{"stream": v.stream, "axes": list(v.axes), "reads": v.reads, "writes": v.writes, "bytes": v.bytes}
                   for v in plan.visits],
        "moved": plan.moved,
        "floor": plan.floor,
        "gradients": plan.gradients,
        "workspace": plan.workspace,
        "no_kernel": plan.reason or None,
        "intermediates": [_intermediate_record(entry) for entry in plan.intermediates],
    }  # fmt: skip


def _intermediate_record(entry: Intermediate) -> dict[str, object]:
    return {"name": entry.name, "axes": list(entry.axes), "reason": entry.reason, "bytes": entry.bytes}
