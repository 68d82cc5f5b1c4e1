"""The page of the backends: its tables are those of the file of results that it names, and its scripts run."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lossc.runtime.backends import BACKENDS
from lossc.runtime.bench import ALLOCATORS, DTYPES, VARIANTS

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "backends.md").read_text(encoding="utf-8")
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
KEYS = {"objective", "path", "variant", "dtype", "allocator", "ms", "floor_ms", "peak_bytes", "grad_error", "compile_s"}


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_run", ROOT / "benchmarks" / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_backend_is_on_the_page() -> None:
    below = PAGE.partition("## What there is\n")[2].partition("\n## ")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", below, re.MULTILINE)) == BACKENDS


def test_the_scripts_run() -> None:
    names: dict[str, Any] = {}
    for script in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        exec(compile(script, "backends.md", "exec"), names)
    assert names["objective"].backend == "reference"


def test_the_table_is_that_of_the_results(runner: ModuleType) -> None:
    (named,) = re.findall(r"\(\.\./benchmarks/results/([\w.-]+\.json)\)", PAGE)
    record = json.loads((ROOT / "benchmarks" / "results" / named).read_text(encoding="utf-8"))
    shown = PAGE.partition("<!-- measured -->\n")[2].partition("<!-- end -->\n")[0]
    assert shown == runner.page(record, named)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_results_say_what_they_were_measured_on(path: Path) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    assert {"date", "machine", "sizes", "load", "left_out", "rows"} <= set(record)
    assert all(KEYS <= set(row) <= KEYS | {"loss_error"} for row in record["rows"])
    assert {row["variant"] for row in record["rows"]} <= set(VARIANTS)
    assert {row["dtype"] for row in record["rows"]} <= set(DTYPES)
    assert {row["allocator"] for row in record["rows"]} <= set(ALLOCATORS)
