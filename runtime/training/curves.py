"""The picture of a run: one panel for the loss, each term and each monitor, trained and held-out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from lossc.runtime.files import write_png
from lossc.runtime.training.journal import Reading

_TRAIN, _HELD_OUT = "#9db8d9", "#c0392b"


def draw_curves(readings: Sequence[Reading], title: str, path: Path) -> None:
    """Writes a PNG of every quantity against the step."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for reading in readings for name in reading.values()))
    columns = min(3, max(1, len(names)))
    rows = max(1, math.ceil(len(names) / columns))
    figure = Figure(figsize=(4.2 * columns, 0.6 + 2.9 * rows), dpi=120)
    figure.suptitle(title)
    margin = 1 / (0.6 + 2.9 * rows)
    figure.subplots_adjust(0.16 / columns, 0.5 * margin, 1 - 0.08 / columns, 1 - 0.75 * margin, wspace=0.22, hspace=0.4)
    for place, name in enumerate(names, start=1):
        _panel(figure.add_subplot(rows, columns, place), name, readings)
    write_png(figure, path)


def _panel(axes: object, name: str, readings: Sequence[Reading]) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    for split, colour, style in (("train", _TRAIN, "-"), ("held_out", _HELD_OUT, "o-")):
        points = [(r.step, r.values()[name]) for r in readings if r.split == split and name in r.values()]
        if points:
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, style, color=colour, label=split.replace("_", "-"), markersize=3, linewidth=1.2)
    axes.set_title(name, fontsize=10)
    axes.set_xlabel("step", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7, frameon=False)
