"""Measures from which size on each backend is faster than the reference, and writes the table that `auto` reads.

    python benchmarks/thresholds.py [--write]

One forward and backward pass of O1, O3, O4 and O8 in single precision, the backends taking turns, the best of many. A
backend is taken from the smallest size on from which it is never slower than the reference on any of them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

import lossc
from lossc.runtime.backends import choose
from lossc.runtime.examples import example_inputs

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

OBJECTIVES = ("o1_ce", "o3_ce_smoothing_z_entropy", "o4_ce_distillation", "o8_dpo_nll")
SHAPES = ((64, 10), (64, 100), (64, 1000), (4096, 16), (128, 1000), (2048, 64), (256, 1000), (16384, 16), (4096, 64),
          (512, 1000), (1024, 1000), (16384, 64), (65536, 16), (2048, 1000), (64, 32000), (256, 32000))  # fmt: skip
BACKENDS = ("reference", "torch", "c")
CLASSES = 8
"""Below this number of classes what is computed on rows counts as much as what is computed on classes."""


def batch(objective: lossc.Objective, rows: int, classes: int) -> dict[str, Tensor]:
    import baselines

    drawn = example_inputs(objective, {"v": classes, "b": 4, "pair": 2, "t": rows // 4})
    drawn = {name: torch.ones_like(x) if x.dtype == torch.bool else x for name, x in drawn.items()}
    return baselines.BATCHES.get(objective.name, lambda x: x)(drawn)


def times(name: str, rows: int, classes: int, repeats: int) -> dict[str, float]:
    """Microseconds by backend."""
    objectives = {b: lossc.load(HERE / f"{name}.loss", backend=b, check_labels=False) for b in BACKENDS}
    tensors = batch(objectives["reference"], rows, classes)
    best = dict.fromkeys(BACKENDS, float("inf"))
    for turn in range(repeats + 2):
        for backend, objective in objectives.items():
            for tensor in tensors.values():
                tensor.grad = None
            start = time.perf_counter()
            objective(tensors).loss.backward()
            if turn >= 2:
                best[backend] = min(best[backend], (time.perf_counter() - start) * 1e6)
    return best


def threshold(points: list[dict[str, object]], backend: str) -> int:
    """The number of entries from which on the backend is never slower than the reference."""
    slower = [int(p["entries"]) for p in points if p[backend] > p["reference"]]  # type: ignore[operator,call-overload]
    sizes = sorted({int(p["entries"]) for p in points})  # type: ignore[call-overload]
    return next((size for size in sizes if size > max(slower, default=0)), 1 << 62)


def processor() -> str:
    """The model of the processor."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def measured(repeats: int) -> dict[str, object]:
    points: list[dict[str, object]] = []
    for rows, classes in SHAPES:
        for name in OBJECTIVES:
            found = {backend: round(value, 1) for backend, value in times(name, rows, classes, repeats).items()}
            points.append({"objective": name, "rows": rows, "classes": classes, "entries": rows * classes, **found})
            print(points[-1], flush=True)
    wide = [point for point in points if int(point["classes"]) >= CLASSES]  # type: ignore[call-overload]
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{processor()}, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "cpu": [{"backend": b, "entries": threshold(wide, b), "classes": CLASSES} for b in ("c", "torch")],
        "points_us": points,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true", help="write the table that `auto` reads")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.manual_seed(0)
    record = measured(options.repeats)
    print(json.dumps({key: value for key, value in record.items() if key != "points_us"}, indent=2))
    if options.write:
        before = json.loads(choose.FILE.read_text(encoding="utf-8")) if choose.FILE.exists() else {}
        choose.FILE.write_text(json.dumps({**before, **record}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
