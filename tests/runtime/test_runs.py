"""The runs that the library carries, for a few steps on a few rows; what they reach is in the README."""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from lossc.runtime.training.planning import embedded_runs, plan_run

from .training_runs import carry_out

SMALL = {"kind": "llama", "hidden": 16, "layers": 1, "heads": 2}
FEW: dict[str, dict[str, Any]] = {
    "teacher": {"model": SMALL, "length": {"steps": 2}, "batch": {"size": 8}},
    "completions": {"count": 2, "tokens": 6},
    "forget": {"limit": 16}, "retain": {"limit": 24},
}  # fmt: skip


def shortened(name: str) -> dict[str, Any]:
    """The changes that make a run a matter of a second."""
    text = files("lossc.specs").joinpath("runs", f"{name}.yaml").read_text(encoding="utf-8")
    values = yaml.load(text, Loader=yaml.BaseLoader)  # texts as they were written
    changes: dict[str, Any] = {
        "length": {"steps": 3}, "evaluate": {"every": 3, "batch": 16}, "save": {"every": 3}, "batch": {"size": 16},
        "data.limit": 60, "data.held_out": 0.25, "output": "run",
        "feeds": {key: {**feed, **FEW.get(key, {})} for key, feed in values.get("feeds", {}).items()},
    }  # fmt: skip
    if "start" in values:
        changes["start"] = {**values["start"], "length": {"steps": 2}}
    if values["model"]["kind"] == "llama":
        changes["model"] = SMALL
    return changes


@pytest.mark.parametrize("name", embedded_runs())
def test_a_run_of_the_library_trains(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = carry_out(plan_run(name, shortened(name), resume=False))
    before, after = outcome.journal.of("held_out")
    assert (before.step, after.step) == (0, 3)
    assert before.monitors and all(math.isfinite(value) for value in (*before.monitors.values(), *after.monitors.values()))
    assert before.loss != after.loss
    assert Path("run/curves.png").stat().st_size > 10_000
    assert Path("run/samples.jsonl").exists() == (name == "rollouts")
    first = {path.name for path in Path("run/first").iterdir()} if Path("run/first").exists() else set()
    started = {"start"} & set(shortened(name))
    assert first == started | ({"teacher"} if name == "distill" else set())
