"""Measures O1-O9 as `lossc bench` does, and keeps the rows with what they were measured on.

    python benchmarks/run.py [--sizes v=32000,t=256] [--dtype fp32,bf16] [--allocator default,tuned] [--only o1,o3]

writes `benchmarks/results/DATE-MACHINE.json` and a picture beside it. `--page` writes the tables of `docs/backends.md` and the
picture of the README from a file of results.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

from lossc.runtime.bench import VARIANTS, Row, Task, chart
from lossc.runtime.bench.record import Record, Session, save
from lossc.runtime.cli.options import parse_sizes

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "backends.md"
PICTURE = HERE.parent / "docs" / "backends.png"
SIZES = "v=32000,t=256,b=4,pair=2,q=2,sample=2"
"""1024 rows of each objective."""


def tasks(options: argparse.Namespace) -> list[Task]:
    only = options.only.split(",") if options.only else None
    files = [path for path in sorted(HERE.glob("o?_*.loss")) if only is None or path.stem.partition("_")[0] in only]
    extents = parse_sizes(options.sizes)
    return [
        Task(str(file), {}, extents, dtype, allocator, tuple(options.variants.split(",")), seconds=options.seconds)
        for allocator in options.allocator.split(",") for file in files for dtype in options.dtype.split(",")
    ]  # fmt: skip


def write(options: argparse.Namespace) -> None:
    session = Session()
    session.run(tasks(options))
    rows = [row for _, row in session.rows]
    record = session.to_record(sizes=parse_sizes(options.sizes), rows=[row.to_record() for row in rows])
    path = save(record, RESULTS, options.output)
    chart.draw(rows, path.with_suffix(".png"))
    print(path)


# ------------------------------------------------------------------------------------------------ the page


def page(record: Record, name: str) -> str:
    """What was measured on, and the tables of the page: for each type and allocator the milliseconds of every variant."""
    scenes = dict.fromkeys((row["dtype"], row["allocator"]) for row in record["rows"])
    tables = [line for dtype, allocator in scenes for line in _table(record["rows"], dtype, allocator)]
    return "\n".join([*_where(record, name), *tables])


def _where(record: Record, name: str) -> Iterable[str]:
    on, load = record["machine"], record["load"]
    yield f"{record['date']}, {on['processor']}, {on['capability']}, {on['threads']} threads, torch {on['torch']};"
    sizes = ", ".join(f"{axis}={extent}" for axis, extent in record["sizes"].items())
    busy = f"{load['before'][0]:.1f} before and {load['after'][0]:.1f} after"
    yield f"{sizes}. Load average of the {on['cores']} cores {busy}, the measurement included: on a busy machine"
    yield "every figure is too high, those of the quick variants and the floor most. All took turns."
    yield f"[All rows](../benchmarks/results/{name}), with gradient errors and cold compilation."
    yield ""


def _table(rows: list[Record], dtype: str, allocator: str) -> Iterable[str]:
    shown = [row for row in rows if (row["dtype"], row["allocator"]) == (dtype, allocator)]
    variants = [variant for variant in VARIANTS if any(row["variant"] == variant for row in shown)]
    yield from (f"{dtype}, {allocator} allocator:", "")
    yield f"| objective | floor | {' | '.join(variants)} | c / floor | compile / c | peak MiB: eager, compile, c |"
    yield f"|---|{'---:|' * (len(variants) + 4)}"
    for name in dict.fromkeys(row["objective"] for row in shown):
        found = {row["variant"]: row for row in shown if row["objective"] == name}
        times = " | ".join(f"{found[v]['ms']:.1f}" if v in found else "" for v in variants)
        floor = next(iter(found.values()))["floor_ms"]
        peaks = ", ".join(f"{found[v]['peak_bytes'] / 2**20:.0f}" for v in ("eager", "compile", "c") if v in found)
        gain = f"{found['compile']['ms'] / found['c']['ms']:.1f}x" if {"compile", "c"} <= set(found) else ""
        near = f"{found['c']['ms'] / floor:.2f}x" if "c" in found else ""
        yield f"| {name.replace('_', ' ')} | {floor:.1f} | {times} | {near} | {gain} | {peaks} |"
    yield ""


def write_page(path: Path) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition("<!-- measured -->\n")
    _, _, tail = rest.partition("<!-- end -->\n")
    PAGE.write_text(f"{head}<!-- measured -->\n{page(record, path.name)}<!-- end -->\n{tail}", encoding="utf-8")
    rows = [Row(**row) for row in record["rows"] if (row["dtype"], row["allocator"]) == ("fp32", "default")]
    chart.draw(rows, PICTURE)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--dtype", default="fp32,bf16")
    parser.add_argument("--allocator", default="default,tuned")
    parser.add_argument("--variants", default="eager,compile,terms,torch,c")
    parser.add_argument("--only", help="o1,o3: those alone")
    parser.add_argument("--seconds", type=float, default=6.0, help="what rounds fit in, for each objective and type")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--page", type=Path, help="a file of results: write the page from it")
    options = parser.parse_args()
    if options.page:
        write_page(options.page)
    else:
        write(options)


if __name__ == "__main__":
    main()
