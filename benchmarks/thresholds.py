"""Measures from which size on each backend is faster than the reference, and writes the table that `auto` reads.

    python benchmarks/thresholds.py [--compiled] [--write]

One forward and backward pass of O1, O3, O4 and O8 in single precision, the backends taking turns, the best of many; where
two are close, of more. With `--compiled` each is under `torch.compile`, which is what counts inside a compiled training
step, and `c alone` is the backend `c` outside of it: what `auto` runs where somebody else would have compiled the reference.
A backend is taken from the smallest size on from which it is never slower than the reference on any objective with as many
sums over its classes. `--again` works the table out anew from the points that it holds. Each run takes two or three minutes
on two quiet cores; on others, first ask `uptime`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import lossc
from lossc.compiler.simplify import simplify
from lossc.compiler.table import tables
from lossc.runtime.backends import choose
from lossc.runtime.examples import example_inputs

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

OBJECTIVES = ("o1_ce", "o3_ce_smoothing_z_entropy", "o4_ce_distillation", "o8_dpo_nll")
SHAPES = ((64, 1000), (4096, 16), (128, 1000), (2048, 64), (256, 1000), (16384, 16), (4096, 64),
          (512, 1000), (1024, 1000), (16384, 64), (65536, 16), (2048, 1000), (64, 32000), (256, 32000))  # fmt: skip
COMPILED = ((64, 1000), (256, 1000), (1024, 1000), (256, 32000))
"""Compiling takes some ten seconds a point."""

BACKENDS = ("reference", "torch", "c")
ALONE = "c alone"

CLASSES = (64, 8)
"""The fewest classes of an entry of the table. A row of few classes costs a kernel almost as much as one of many, so that
those are told apart; below the last what is computed on rows counts as much as what is computed on classes."""

FEWEST = 64_000
"""Entries below which no backend is built: a kernel takes half a second, which so small a batch never earns."""

NOISE = 1.02
"""The ratio of two times that may be the same."""

CLOSE = 1.1
"""The ratio of two times up to which both are measured longer."""

FEW = 5
SECONDS = 3.0
"""The longest that a point is measured, as long as there were a few turns."""

Point = dict[str, Any]


def batch(objective: lossc.Objective, rows: int, classes: int) -> dict[str, Tensor]:
    import baselines

    drawn = example_inputs(objective, {"v": classes, "b": 4, "pair": 2, "t": rows // 4})
    drawn = {name: torch.ones_like(x) if x.dtype == torch.bool else x for name, x in drawn.items()}
    likely = baselines.BATCHES.get(objective.name, lambda x: x)(drawn)
    return {name: x.detach().requires_grad_(x.requires_grad) for name, x in likely.items()}


def times(name: str, rows: int, classes: int, repeats: int, *, compiled: bool) -> dict[str, float]:
    """Microseconds by backend."""
    torch.compiler.reset()
    loaded = {b: lossc.load(HERE / f"{name}.loss", backend=b, check_labels=False) for b in BACKENDS}
    tensors = batch(loaded["reference"], rows, classes)
    steps: dict[str, Callable[..., Any]] = dict(loaded)
    if compiled:
        steps = {b: torch.compile(objective, fullgraph=True, dynamic=False) for b, objective in loaded.items()}
        steps[ALONE] = loaded["c"]
    best = dict.fromkeys(steps, float("inf"))
    for _ in range(2):
        _turn(steps, tensors, {})
    until = time.perf_counter() + SECONDS
    for turn in range(4 * repeats):
        if turn >= FEW and (time.perf_counter() > until or (turn >= repeats and not _is_close(best))):
            break
        _turn(steps, tensors, best)
    return best


def _turn(steps: dict[str, Callable[..., Any]], tensors: dict[str, Tensor], best: dict[str, float]) -> None:
    """One step of each."""
    for backend, step in steps.items():
        for tensor in tensors.values():
            tensor.grad = None
        start = time.perf_counter()
        step(tensors).loss.backward()
        best[backend] = min(best.get(backend, float("inf")), (time.perf_counter() - start) * 1e6)


def _is_close(best: dict[str, float]) -> bool:
    """Whether some backend takes about as long as the reference."""
    reference = best["reference"]
    return any(1 / CLOSE < best[backend] / reference < CLOSE for backend in best if backend != "reference")


def sums_of(name: str) -> int:
    """The sums over classes in the table of an objective."""
    program = simplify(lossc.load(HERE / f"{name}.loss").program).program
    return max(choose.sums(table) for table in tables(program))


def measured(repeats: int, *, compiled: bool) -> list[Point]:
    points: list[Point] = []
    for rows, classes in COMPILED if compiled else SHAPES:
        for name in OBJECTIVES:
            found = times(name, rows, classes, repeats, compiled=compiled)
            best = {backend: round(value, 1) for backend, value in found.items()}
            points.append({"objective": name, "rows": rows, "classes": classes, "entries": rows * classes, **best})
            print(points[-1], flush=True)
    return points


# ------------------------------------------------------------------------------------------------ the table


def thresholds(points: list[Point]) -> list[Point]:
    """The table of `auto`: the fastest first, from the sizes on from which nothing slower stands before it."""
    found: list[Point] = []
    for backend, others in (("c", ("reference", "torch")), ("torch", ("reference",))):
        for sums, classes in ((2, CLASSES[0]), (1, CLASSES[0]), (2, CLASSES[1]), (1, CLASSES[1])):
            entries = _threshold([p for p in points if p["classes"] >= classes], backend, others, sums)
            if entries is not None:
                found.append({"backend": backend, "entries": entries, "classes": classes, "sums": sums})
    return [each for each in found if not any(_covers(other, each) for other in found if other is not each)]


def _covers(wide: Point, narrow: Point) -> bool:
    """Whether one entry of the table admits all that another of the same backend does."""
    return wide["backend"] == narrow["backend"] and all(wide[key] <= narrow[key] for key in ("entries", "classes", "sums"))


def _threshold(points: list[Point], backend: str, others: tuple[str, ...], sums: int) -> int | None:
    """The number of entries from which on the backend is never slower, for objectives with at least so many sums."""
    own = [p for p in points if sums_of(p["objective"]) >= sums]
    slower = [p["entries"] for p in own if any(p[backend] > NOISE * p[other] for other in others)]
    sizes = sorted({p["entries"] for p in own if p["entries"] >= FEWEST})
    return next((size for size in sizes if size > max(slower, default=0)), None)


def alone_from(points: list[Point]) -> int | None:
    """The entries from which on `c` outside of `torch.compile` is never slower than the compiled reference."""
    slower = [p["entries"] for p in points if p[ALONE] > NOISE * p["reference"]]
    return min((p["entries"] for p in points if p["entries"] > max(slower, default=0)), default=None)


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{processor}, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--compiled", action="store_true", help="every backend under torch.compile")
    parser.add_argument("--write", action="store_true", help="write the table that `auto` reads")
    parser.add_argument("--again", action="store_true", help="from the points that are there, without measuring")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.manual_seed(0)
    record = json.loads(choose.FILE.read_text(encoding="utf-8"))
    device, kept = ("compiled", "compiled_points_us") if options.compiled else ("cpu", "points_us")
    if not options.again:
        record[kept] = measured(options.repeats, compiled=options.compiled)
        record[f"{device}_load"] = f"load average {os.getloadavg()[1]:.1f} on {os.cpu_count()} cores while measured"
        record |= {"date": datetime.date.today().isoformat(), "machine": machine(),
                   "versions": {"python": platform.python_version(), "torch": torch.__version__}}  # fmt: skip
    record[device] = thresholds(record[kept])
    print(json.dumps(record[device], indent=2))
    if options.compiled and all(ALONE in point for point in record[kept]):
        record["alone_from"] = alone_from(record[kept])
        print(f"c outside of torch.compile is never slower than the compiled reference from {record['alone_from']} entries on")
    if options.write:
        choose.FILE.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
