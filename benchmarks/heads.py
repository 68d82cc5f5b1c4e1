"""Measures objectives whose scores a linear head makes: against the bare products, and against other libraries.

    python benchmarks/heads.py [--only o3,o10] [--dtype bf16] [--most 32000] [--slow] [--quick] [--write-page]

writes `benchmarks/results/heads/DATE-MACHINE.json`; some ten minutes on two cores that do nothing else. `--page FILE`
writes the tables of `docs/heads.md` from such a file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lossc.runtime.bench import Row, Task
from lossc.runtime.bench.record import Record, Session, save, where

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "heads"
PAGE = HERE.parent / "docs" / "heads.md"
PICTURE = HERE.parent / "docs" / "heads.png"
BOUND = """
`products` are the bare products of all rows, each at once into fresh memory: `other / products` is what `other / lossc` would
be if nothing else took any time.
"""
"""Stands below the table against other libraries."""

GROWTH = """
![Time and extra memory against classes, rows and terms](heads.png)

Time and extra memory of cross-entropy over a head, against the number of classes and of rows, and against the number of terms
over the same scores.
"""
"""Stands below the tables where the picture is there."""

FEATURES = 1024

ITEM_BYTES = {"fp32": 4, "bf16": 2}
ACCUMULATED = 4
"""Bytes of an entry of the weight's gradient while blocks are added up: single precision for a 16-bit weight too."""


@dataclass(frozen=True)
class Case:
    """An objective at one size and type, and the variants that are compared on it; `slow` ones are measured when asked for."""

    name: str
    sizes: dict[str, int]
    dtype: str
    variants: tuple[str, ...]
    exact: bool = False
    repeats: int = 2
    ignored: float = 0.0
    slow: bool = False

    def task(self) -> Task:
        return Task(str(HERE / f"{self.name}.loss"), {}, self.sizes, self.dtype, "default", self.variants, self.repeats,
                    ignored=self.ignored, path="linear", features=FEATURES, exact=self.exact)  # fmt: skip


def _tokens(rows: int, classes: int) -> dict[str, int]:
    return {"b": 1, "t": rows, "v": classes}


def _pairs(rows: int, classes: int) -> dict[str, int]:
    """Pairs of sequences of 128 tokens."""
    return {"pair": rows // 256, "t": 128, "v": classes}


O1, O3, O10, O11 = "o1_ce", "o3_ce_smoothing_z_entropy", "o10_orpo", "o11_dpo_reference"
CASES = (
    Case(O3, _tokens(2048, 32000), "fp32", ("c", "again"), repeats=6),
    Case(O3, _tokens(2048, 32000), "bf16", ("c", "again", "eager"), exact=True, repeats=6),
    Case(O3, _tokens(1024, 128256), "fp32", ("c", "again"), repeats=6),
    Case(O3, _tokens(1024, 128256), "bf16", ("c", "again"), repeats=6),
    Case(O3, _tokens(2048, 128256), "bf16", ("c", "again"), repeats=6),
    Case(O3, _tokens(2048, 128256), "fp32", ("c", "again"), repeats=4, slow=True),
    Case(O1, _tokens(2048, 32000), "fp32", ("c", "lce"), repeats=1),
    Case(O1, _tokens(2048, 32000), "bf16", ("c", "lce"), exact=True, repeats=1),
    Case(O1, _tokens(512, 128256), "fp32", ("c", "lce"), repeats=1, slow=True),
    Case(O1, _tokens(512, 128256), "bf16", ("c", "lce"), repeats=1, slow=True),
    Case(O10, _pairs(2048, 32000), "fp32", ("c", "liger")),
    Case(O10, _pairs(2048, 32000), "bf16", ("c", "liger")),
    Case(O10, _pairs(2048, 32000), "bf16", ("c", "liger"), ignored=0.4),
    Case(O11, _pairs(2048, 32000), "fp32", ("c", "given", "liger")),
    Case(O11, _pairs(2048, 32000), "bf16", ("c", "given", "liger")),
)


def _quick(case: Case) -> Case:
    """The same with little work: that everything runs."""
    small = {"b": 1, "t": 24, "pair": 2, "v": 1000}
    return replace(case, sizes={axis: small[axis] for axis in case.sizes}, repeats=1)


def measure(options: argparse.Namespace) -> None:
    only = options.only.split(",") if options.only else None
    known = [case for case in CASES if case.dtype in options.dtype.split(",") and case.sizes["v"] <= options.most]
    chosen = [case for case in known if (options.slow or not case.slow) and (not only or case.name.partition("_")[0] in only)]
    session = Session()
    for case in chosen:  # each in a process of its own: what another left in the heap would count as memory
        session.run([(_quick(case) if options.quick else case).task()])
    rows = [entry(task, row) for task, row in session.rows]
    path = save(session.to_record(features=FEATURES, rows=rows), RESULTS, options.output)
    print(path)
    if options.write_page:
        write_page(path)


def entry(task: Task, row: Row) -> Record:
    """A row with what it was measured at; `gradient_bytes` are those of hidden states and weight."""
    classes = task.sizes["v"]
    rows = task.sizes.get("b", 2 * task.sizes.get("pair", 1)) * task.sizes["t"]
    size = ITEM_BYTES[task.dtype]
    gradients = task.features * (rows * size + classes * max(size, ACCUMULATED))
    return {**row.to_record(), "rows": rows, "classes": classes, "ignored": task.ignored, "gradient_bytes": gradients}


# ------------------------------------------------------------------------------------------------ the page


def page(record: Record, name: str) -> str:
    """What was measured on, and the tables of the page."""
    scenes = _scenes(record["rows"])
    yields = [where(record), f"[All rows](../benchmarks/results/heads/{name}).", "", *_products(scenes), ""]
    growth = [GROWTH] if PICTURE.exists() else [""]
    return "\n".join([*yields, *_others(scenes), BOUND.rstrip("\n"), *growth])


def _scenes(rows: Sequence[Record]) -> list[dict[str, Record]]:
    """Rows by variant, for each objective at one size and type."""
    found: dict[tuple[Any, ...], dict[str, Record]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("objective", "classes", "rows", "dtype", "ignored"))
        found.setdefault(key, {})[row["variant"]] = row
    return list(found.values())


def _products(scenes: Iterable[dict[str, Record]]) -> Iterator[str]:
    """The table against the bare products."""
    yield "| classes, rows | type | bare products, ms | gradients with the block | blocks made again | eager | extra MiB |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    for scene in scenes:
        if "c" in scene and scene["c"]["objective"] == O3:
            ours = scene["c"]
            times = " | ".join(_times(scene[v], ours["floor_ms"]) if v in scene else "" for v in ("c", "again", "eager"))
            extra = ", ".join(_extra(scene[variant]) for variant in ("c", "again") if variant in scene)
            yield f"| {_size(ours)} | {ours['dtype']} | {ours['floor_ms']:.0f} | {times} | {extra} |"


def _others(scenes: Iterable[dict[str, Record]]) -> Iterator[str]:
    """The table against what other libraries have."""
    yield ("| objective | classes, rows | type | products, ms | lossc, ms | other, ms | other / lossc | other / products "
           "| extra MiB: lossc, other | loss error |")  # fmt: skip
    yield "|---|---|---|---:|---:|---:|---:|---:|---:|---:|"
    for scene in scenes:
        for name, label in (("lce", "`F.linear_cross_entropy`"), ("liger", "Liger")):
            for own in ("c", "given"):
                if name in scene and own in scene:
                    yield _versus(scene[own], scene[name], label)


def _versus(ours: Record, other: Record, label: str) -> str:
    """The bare products stand where both compute them: not where rows are left out, or what a head would give is given."""
    counted = f", {ours['ignored']:.0%} ignored" if ours["ignored"] else ""
    errors = ", ".join(f"{row['loss_error']:.0e}" for row in (ours, other) if row["loss_error"] is not None)
    same = ours["variant"] == "c" and not ours["ignored"]
    bare, most = (f"{ours['floor_ms']:.0f}", f"{other['ms'] / ours['floor_ms']:.2f}") if same else ("", "")
    cells = (
        f"{_title(ours)}, {label}", _size(ours) + counted, ours["dtype"], bare, f"{ours['ms']:.0f}",
        f"{other['ms']:.0f}", f"{other['ms'] / ours['ms']:.2f}", most, f"{_extra(ours)}, {_extra(other)}", errors,
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _title(row: Record) -> str:
    if row["variant"] == "given":
        return "DPO, log-probabilities of the reference given to lossc"
    return {O1: "cross-entropy", O10: "ORPO", O11: "DPO, a reference head"}.get(row["objective"], row["objective"])


def _size(row: Record) -> str:
    return f"{row['classes']}, {row['rows']}"


def _times(row: Record, floor: float) -> str:
    return f"{row['ms'] / floor:.2f} x"


def _extra(row: Record) -> str:
    """Beside gradients; what the gradient of a 16-bit weight is added up in counts as that gradient."""
    return f"{(row['peak_bytes'] - row['gradient_bytes']) / 2**20:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", help="o3,o10: those alone")
    parser.add_argument("--dtype", default="fp32,bf16")
    parser.add_argument("--most", type=int, default=1 << 20, help="classes: cases of more are left out")
    parser.add_argument("--slow", action="store_true", help="those too whose passes take half a minute")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: that everything runs")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--write-page", action="store_true", help="the page too, from what was measured")
    parser.add_argument("--page", type=Path, help="a file of results: write the page from it")
    options = parser.parse_args()
    if options.page:
        write_page(options.page)
    else:
        measure(options)


def write_page(path: Path) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition("<!-- measured -->\n")
    _, _, tail = rest.partition("<!-- end -->\n")
    PAGE.write_text(f"{head}<!-- measured -->\n{page(record, path.name)}<!-- end -->\n{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
