"""Rows as bars: time by variant, for each objective, type and allocator, beside the floor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lossc.runtime.bench.rows import VARIANTS, Row

_COLOURS = {"eager": "#9aa5b1", "compile": "#6b7c93", "terms": "#c3ccd5", "torch": "#4c9f70", "c": "#1f6f8b"}


def draw(rows: Sequence[Row], path: Path) -> None:
    """Writes the chart; milliseconds on a logarithmic axis, a dash at the floor of each group."""
    from matplotlib.figure import Figure

    groups = list(dict.fromkeys((row.objective, row.dtype, row.allocator) for row in rows))
    variants = [variant for variant in VARIANTS if any(row.variant == variant for row in rows)]
    figure = Figure(figsize=(max(6.0, 1.3 * len(groups)), 4.5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(variants)
    for at, variant in enumerate(variants):
        found = {(row.objective, row.dtype, row.allocator): row.ms for row in rows if row.variant == variant}
        places = [number + (at - (len(variants) - 1) / 2) * width for number, group in enumerate(groups) if group in found]
        heights = [found[group] for group in groups if group in found]
        axes.bar(places, heights, width, label=variant, color=_COLOURS.get(variant))
    for number, group in enumerate(groups):
        floor = next(row.floor_ms for row in rows if (row.objective, row.dtype, row.allocator) == group)
        axes.hlines(floor, number - 0.42, number + 0.42, "black", linewidth=1, label="" if number else "floor")
    axes.set_yscale("log")
    axes.set_ylabel("ms, forward and backward")
    axes.set_xticks(range(len(groups)), ["\n".join(group) for group in groups], fontsize=7)
    axes.legend(ncols=len(variants) + 1, fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.12))
    figure.savefig(path, dpi=150)
