"""Rows as bars: time and memory by variant, objective by objective, beside the floor of the time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from lossc.runtime.bench.rows import VARIANTS, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {"eager": "#b8c2cc", "terms": "#93a1b0", "compile": "#64748b", "torch": "#6fb98f", "c": "#0f766e",
            "again": "#2dd4bf", "triton": "#155e75", "lce": "#d6b98c", "liger": "#b08d57"}  # fmt: skip
_LABELS = {"eager": "eager PyTorch", "terms": "library calls, added up", "compile": "torch.compile",
           "lce": "F.linear_cross_entropy", "liger": "Liger", "torch": "lossc, backend torch", "c": "lossc, backend c",
           "again": "lossc, blocks made again", "triton": "lossc, backend triton"}  # fmt: skip


def draw(rows: Sequence[Row], path: Path) -> None:
    """Writes the chart: logarithmic axes, a line at the floor of each objective."""
    from matplotlib.figure import Figure

    scenes = list(dict.fromkeys((row.dtype, row.allocator) for row in rows))
    objectives = list(dict.fromkeys(row.objective for row in rows))
    width = max(8.0, 1.0 + 1.1 * len(objectives))
    figure = Figure(figsize=(width, 5.6 * len(scenes) + 0.5), layout="constrained")
    panels = figure.subplots(2 * len(scenes), 1)
    for line, scene in zip(panels.reshape(len(scenes), 2), scenes, strict=True):
        shown = [row for row in rows if (row.dtype, row.allocator) == scene]
        _bars(line[0], shown, {(row.objective, row.variant): row.ms for row in shown}, "ms, forward and backward")
        _floors(line[0], shown)
        _bars(line[1], shown, {(row.objective, row.variant): row.peak_bytes / 2**20 for row in shown}, "peak MiB")
        line[0].set_title(f"{scene[0]}, {scene[1]} allocator", fontsize=9, loc="left")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=3, fontsize=8, frameon=False, loc="outside upper center")
    figure.savefig(path, dpi=150)


def _bars(axes: Axes, rows: Sequence[Row], values: dict[tuple[str, str], float], title: str) -> None:
    objectives = list(dict.fromkeys(row.objective for row in rows))
    variants = [name for name in _LABELS if name in VARIANTS and any(row.variant == name for row in rows)]
    width = 0.84 / max(len(variants), 1)
    for at, variant in enumerate(variants):
        places = [n + (at - (len(variants) - 1) / 2) * width for n, name in enumerate(objectives) if (name, variant) in values]
        heights = [values[name, variant] for name in objectives if (name, variant) in values]
        bars = axes.bar(places, heights, 0.94 * width, label=_LABELS[variant], color=_COLOURS[variant])
        axes.bar_label(bars, [_figure(value) for value in heights], fontsize=5.5, rotation=90, padding=2)
    axes.set_yscale("log")
    axes.margins(y=0.25)
    axes.set_ylabel(title, fontsize=8)
    axes.set_xticks(range(len(objectives)), [_name(objective) for objective in objectives], fontsize=7)
    axes.tick_params(axis="y", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _floors(axes: Axes, rows: Sequence[Row]) -> None:
    for number, name in enumerate(dict.fromkeys(row.objective for row in rows)):
        floor = next(row.floor_ms for row in rows if row.objective == name)
        label = "" if number else "floor: one read, one write"
        axes.hlines(floor, number - 0.45, number + 0.45, "#b91c1c", linewidth=1.2, label=label)


def _name(objective: str) -> str:
    """`o2_ce_smoothing_z` in short lines."""
    head, _, rest = objective.partition("_")
    return "\n".join([head, *wrap(rest.replace("_", " "), 14)])


def _figure(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
