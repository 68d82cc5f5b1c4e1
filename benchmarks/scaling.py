"""Cost of a linear head with its loss against the number of classes, of rows, and of terms: time and extra memory.

    python benchmarks/scaling.py [--dtype bf16] [--quick]

writes `benchmarks/results/heads/DATE-MACHINE-scaling.json` and, with `--picture`, `docs/heads.png`; about two minutes on two
cores that do nothing else. `--draw FILE` makes the picture from such a file. Plain cross-entropy, but where terms are counted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from heads import FEATURES, HERE, PICTURE, RESULTS, entry

from lossc.runtime.bench import Task
from lossc.runtime.bench.record import Record, Session, save, where

if TYPE_CHECKING:
    from matplotlib.axes import Axes

VARIANTS = ("c", "lce", "eager")
MOST = 32000
"""Classes up to which `F.linear_cross_entropy` is measured: beyond, a pass of its few rows a block takes half a minute."""
TERMS = (
    "ce(logits, labels)",
    "1e-4 * z_loss(logits)",
    "-0.01 * entropy(logits)",
    "0.1 * gce(logits, labels)",
    "0.1 * focal(logits, labels)",
    "0.1 * label_smoothing(logits, labels)",
)
USED = "use std.settings.tokens\nuse std.ce (ce, z_loss, entropy, gce, focal, label_smoothing)\n\nminimize\n"

SWEEPS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "classes": tuple((256, classes, 1) for classes in (8000, 16000, 32000, 64000, 128000)),
    "rows": tuple((rows, 16000, 1) for rows in (256, 512, 1024, 2048)),
    "terms": tuple((512, 16000, terms) for terms in (1, 2, 4, 6)),
}
"""Rows, classes and terms of each point."""

LABELS = {"floor": "bare products", "c": "lossc", "lce": "F.linear_cross_entropy", "eager": "eager PyTorch"}
COLOURS = {"floor": "#b91c1c", "c": "#0f766e", "lce": "#d6b98c", "eager": "#64748b"}


def tasks(folder: Path, dtype: str, *, quick: bool) -> Iterator[tuple[str, int, Task]]:
    """For each sweep and number of terms what is measured; plain cross-entropy is O1, which other libraries have."""
    for sweep, points in SWEEPS.items():
        for rows, classes, terms in points:
            file = HERE / "o1_ce.loss" if terms == 1 else folder / f"terms_{terms}.loss"
            if terms > 1:
                lines = [f"  part{at} : mean[b, t where mask]({term})\n" for at, term in enumerate(TERMS[:terms])]
                file.write_text(f"objective {file.stem}\n\n{USED}{''.join(lines)}", encoding="utf-8")
            sizes = {"b": 1, "t": rows // 16 if quick else rows, "v": classes // 16 if quick else classes}
            variants = VARIANTS if terms == 1 and classes <= MOST else ("c", "eager")
            yield sweep, terms, Task(str(file), {}, sizes, dtype, "default", variants, 1, path="linear",
                                     baselines=str(HERE / "baselines.py"), features=FEATURES, exact=False)  # fmt: skip


def measure(options: argparse.Namespace) -> None:
    session = Session()
    with TemporaryDirectory() as folder:
        todo = list(tasks(Path(folder), options.dtype, quick=options.quick))
        session.run([task for _, _, task in todo])
    rows = [{"sweep": sweep, "terms": terms, **entry(own, row)}
            for sweep, terms, own in todo for task, row in session.rows if task is own]  # fmt: skip
    record = session.to_record(features=FEATURES, rows=rows)
    path = save(record, RESULTS, options.output, ending="-scaling")
    print(path)
    draw(record, options.picture or path.with_suffix(".png"))


# ------------------------------------------------------------------------------------------------ the picture


def draw(record: Record, path: Path) -> None:
    """Time above, memory below; a column for each sweep."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 6.4), layout="constrained")
    panels = figure.subplots(2, len(SWEEPS), squeeze=False)
    for column, sweep in enumerate(SWEEPS):
        rows = [row for row in record["rows"] if row["sweep"] == sweep]
        _lines(panels[0, column], rows, sweep, lambda row: row["ms"], "ms, forward and backward")
        _lines(panels[1, column], rows, sweep, _extra, "MiB beside gradients")
        panels[0, column].set_title(_held(rows, sweep), fontsize=9, loc="left")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=4, fontsize=8, frameon=False, loc="outside upper center")
    figure.supxlabel(where(record), fontsize=7)
    figure.savefig(path, dpi=150)


def _held(rows: Sequence[Record], sweep: str) -> str:
    """What is the same at all points."""
    first = rows[0]
    held = [f"{first[name]} {name}" for name in SWEEPS if name != sweep and not (name == "terms" and first[name] == 1)]
    return f"{', '.join(held)}, {first['dtype']}"


def _extra(row: Record) -> float:
    """MiB beside the gradients; what stays below the resolution of a measurement is drawn at 1."""
    return max(1.0, (row["peak_bytes"] - row["gradient_bytes"]) / 2**20)


def _lines(axes: Axes, rows: Sequence[Record], sweep: str, value: Callable[[Record], Any], title: str) -> None:
    for variant, label in LABELS.items():
        own = [row for row in rows if row["variant"] == ("c" if variant == "floor" else variant)]
        if variant == "floor":
            heights = [row["floor_ms"] for row in own] if title.startswith("ms") else []
        else:
            heights = [value(row) for row in own]
        places = [row[sweep] for row in own][: len(heights)]
        line = "--" if variant == "floor" else "-"
        axes.plot(places, heights, line, marker="o", markersize=3, label=label, color=COLOURS[variant], linewidth=1.4)
    if sweep != "terms":
        axes.set_xscale("log", base=2)
        axes.set_xticks([row[sweep] for row in rows], [_short(row[sweep]) for row in rows])
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.set_xlabel(sweep, fontsize=8)
    axes.set_ylabel(title, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _short(count: int) -> str:
    return f"{count // 1000}k" if count >= 1000 and count % 1000 == 0 else str(count)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--quick", action="store_true", help="a sixteenth of all sizes: that everything runs")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--picture", type=Path, help="where it goes, by default beside the results")
    parser.add_argument("--draw", type=Path, help="a file of results: make the picture from it")
    options = parser.parse_args()
    if options.draw:
        draw(json.loads(options.draw.read_text(encoding="utf-8")), options.picture or PICTURE)
    else:
        measure(options)


if __name__ == "__main__":
    main()
