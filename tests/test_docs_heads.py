"""The page of linear heads: its scripts run, what it says of sizes is so, and its tables are those of the results."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import lossc
from lossc.runtime.backends import both_ways, heads
from lossc.runtime.bench import Row
from lossc.runtime.bench.record import Record

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "heads.md").read_text(encoding="utf-8")


def test_the_scripts_run() -> None:
    names: dict[str, Any] = {}
    for script in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        exec(compile(script, "heads.md", "exec"), names)
    assert names["hidden"].grad.abs().sum() > 0
    assert names["lm_head"].weight.grad.isfinite().all()
    assert isinstance(names["x"].grad, torch.Tensor)


def test_the_sizes_of_blocks() -> None:
    assert f"{heads.CPU_BYTES >> 20} MiB of scores on a CPU and {heads.DEVICE_BYTES >> 20} MiB" in " ".join(PAGE.split())
    assert f"in multiples of {heads.CPU_ROWS} or {heads.DEVICE_ROWS} rows" in " ".join(PAGE.split())


def test_the_features_from_which_both_directions_share_their_products() -> None:
    assert f"fewer than {both_ways.LEAST_FEATURES} features" in " ".join(PAGE.split())


@pytest.fixture
def heads_of_benchmarks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("heads")


@pytest.fixture
def scaling(heads_of_benchmarks: ModuleType) -> ModuleType:
    return importlib.import_module("scaling")


def test_the_tables_are_those_of_the_results(heads_of_benchmarks: ModuleType) -> None:
    shown = PAGE.partition("<!-- measured -->\n")[2].partition("<!-- end -->\n")[0]
    (named,) = re.findall(r"\(\.\./benchmarks/results/heads/([\w.-]+\.json)\)", shown)
    record = json.loads((ROOT / "benchmarks" / "results" / "heads" / named).read_text(encoding="utf-8"))
    assert shown == heads_of_benchmarks.page(record, named)


def row(variant: str, **changes: object) -> Record:
    made = {
        "objective": "o3_ce_smoothing_z_entropy", "path": "linear", "variant": variant, "dtype": "bf16", "allocator": "default",
        "ms": 110.0, "floor_ms": 100.0, "peak_bytes": 300 << 20, "grad_error": None, "compile_s": 0.5, "loss_error": None,
        "rows": 2048, "classes": 32000, "ignored": 0.0, "gradient_bytes": 200 << 20,
    }  # fmt: skip
    return {**made, **changes}


def record(*rows: Record) -> Record:
    load = {"before": [0.1, 0.2, 0.3], "after": [1.5, 0.5, 0.1]}
    on = {"processor": "P", "cores": 2, "threads": 2, "capability": "AVX2", "torch": "2.13", "python": "3.11"}
    return {"date": "2026-11-21", "machine": on, "load": load, "left_out": [], "features": 1024, "rows": list(rows)}


def test_a_page_of_results(heads_of_benchmarks: ModuleType) -> None:
    orpo = {"objective": "o10_orpo", "dtype": "fp32", "ignored": 0.4}
    dpo = {"objective": "o11_dpo_reference", "peak_bytes": 250 << 20}
    text = heads_of_benchmarks.page(
        record(
            row("c"), row("again", ms=140.0, peak_bytes=310 << 20), row("c", **orpo, loss_error=1e-6),
            row("liger", **orpo, ms=220.0, peak_bytes=600 << 20, loss_error=3e-2), row("c", rows=512, ms=90.0),
            row("c", **dpo), row("given", **dpo, ms=80.0), row("liger", **dpo, ms=160.0),
        ),
        "x.json",
    )  # fmt: skip
    assert text.startswith("2026-11-21, P, AVX2, 2 threads, torch 2.13; load average of the 2 cores 0.1 before and 1.5 after")
    assert "| 32000, 2048 | bf16 | 100 | 1.10 x | 1.40 x |  | 100, 110 |" in text
    assert "| 32000, 512 | bf16 | 100 | 0.90 x |  |  | 100 |" in text
    assert "| ORPO, Liger | 32000, 2048, 40% ignored | fp32 |  | 110 | 220 | 2.00 |  | 100, 400 | 1e-06, 3e-02 |" in text
    assert "| DPO, a reference head, Liger | 32000, 2048 | bf16 | 100 | 110 | 160 | 1.45 | 1.60 | 50, 50 |  |" in text
    assert "given to lossc, Liger | 32000, 2048 | bf16 |  | 80 | 160 | 2.00 |  | 50, 50 |  |" in text


def test_what_is_measured_exists(heads_of_benchmarks: ModuleType, scaling: ModuleType, tmp_path: Path) -> None:
    tasks = [case.task() for case in heads_of_benchmarks.CASES]
    tasks += [task for _, _, task in scaling.tasks(tmp_path, "bf16", quick=True)]
    for task in tasks:
        axes = lossc.load(task.file).program.axes
        assert set(task.sizes) <= set(axes), task.file
        assert task.path == "linear"


def test_what_counts_as_gradient(heads_of_benchmarks: ModuleType) -> None:
    """Of 2 pairs of 2 sequences of 128 tokens: rows in their own type, and the weight in single precision."""
    case = heads_of_benchmarks.Case("o10_orpo", {"pair": 2, "t": 128, "v": 1000}, "bf16", ("c",))
    found = Row("o10_orpo", "linear", "c", "bf16", "default", 1.0, 1.0, 1, None, 0.0)
    entry = heads_of_benchmarks.entry(case.task(), found)
    assert entry["rows"] == 512 and entry["classes"] == 1000
    assert entry["gradient_bytes"] == 1024 * (512 * 2 + 1000 * 4)


def test_the_picture_of_growth(scaling: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [
        row(variant, sweep=sweep, terms=terms, rows=count, classes=classes)
        for sweep, points in scaling.SWEEPS.items() for count, classes, terms in points for variant in ("c", "eager")
    ]  # fmt: skip
    scaling.draw(record(*rows), tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
