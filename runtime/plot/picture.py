"""Curves as a picture: a row of panels for each term, its value to the left and its slope to the right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lossc.runtime.files import write_png
from lossc.runtime.plot.curves import Curve, Line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#0f766e", "#c0392b", "#3b6fb0", "#b08d57", "#64748b", "#7c3aed", "#2dd4bf", "#334155")


def draw(curves: Sequence[Curve], along: str, title: str, path: Path) -> None:
    """Writes a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 0.7 + 2.9 * len(curves)), dpi=120, layout="constrained")
    figure.suptitle(title, fontsize=11)
    panels = figure.subplots(len(curves), 2, squeeze=False)
    for (left, right), curve in zip(panels, curves, strict=True):
        _panel(left, curve, along, curve.term, lambda line: line.values)
        _panel(right, curve, along, f"d {curve.term} / d {along}", lambda line: line.slopes)
    write_png(figure, path)


def _panel(axes: Axes, curve: Curve, along: str, title: str, of_line: Callable[[Line], tuple[float, ...]]) -> None:
    for at, line in enumerate(curve.lines):
        axes.plot(curve.places, of_line(line), color=_COLOURS[at % len(_COLOURS)], linewidth=1.6, label=line.label or None)
    axes.set_title(title, fontsize=9, parse_math=False)
    axes.set_xlabel(along, fontsize=8, parse_math=False)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.axhline(0.0, color="#94a3b8", linewidth=0.8, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    if any(line.label for line in curve.lines):
        axes.legend(fontsize=7, frameon=False)
