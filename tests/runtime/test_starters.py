"""Every setting has a starter that checks, is formatted, and trains on rows of the kind that it asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lossc.compiler.library import shipped_module
from lossc.runtime.cli.boundary import run
from lossc.runtime.cli.new import starters
from lossc.runtime.training.feeds import FEEDS, STREAMS

from .training_runs import start

ROWS: dict[str, list[dict[str, Any]]] = {
    "unpaired": [{"prompt": f"{n}?", "completion": " yes" * (1 + n % 2), "desirable": n % 3 == 0} for n in range(12)],
    "rollouts": [{"prompt": f"{n}?", "answer": "12"} for n in range(12)],
    "forget_retain": [{"text": "a fact" + "!" * (n % 3)} for n in range(12)],
}  # fmt: skip
SOURCES = {
    "unpaired": "judged.jsonl", "rollouts": "prompts.jsonl", "forget_retain": "kept.jsonl",
}  # fmt: skip
PER_TOKEN = "a text of a few tokens"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_setting_has_a_starter_and_a_feed() -> None:
    settings = shipped_module("std.settings")
    assert settings is not None
    assert {*FEEDS, *STREAMS} == set(settings.settings)
    assert set(starters()) == set(settings.settings) - {"referenced"}


@pytest.mark.parametrize("setting", starters())
def test_a_starter_checks_is_formatted_and_trains(setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new", setting]) == 0
    assert run(["check", f"{setting}.loss"]) == 0
    assert "no problems" in capsys.readouterr().out
    assert run(["fmt", "--check", f"{setting}.loss"]) == 0
    text = Path(f"{setting}.run.yaml").read_text(encoding="utf-8")
    changes: dict[str, Any] = {"length": {"steps": 2}, "batch": {"size": 4}, "evaluate.every": 2, "save": {"every": 2}}
    network = FEEDS[setting].network if setting in FEEDS else "language"
    if setting == "embeddings":
        del changes["batch"]
    if setting in ROWS:
        Path(SOURCES[setting]).write_text("".join(json.dumps(row) + "\n" for row in ROWS[setting]), encoding="utf-8")
    elif network == "language":
        Path("texts.csv").write_text("text,prompt,chosen,rejected\n" + f"{PER_TOKEN},2+2=,4,5\n" * 12, encoding="utf-8")
        changes["data.source"] = "texts.csv"
    if setting == "forget_retain":
        Path("forgotten.jsonl").write_text('{"text": "a secret"}\n' * 8, encoding="utf-8")
    text = text.replace("steps: 200", "steps: 1").replace("hidden: 128", "hidden: 16")
    if network == "language":
        changes["model"] = {"kind": "llama", "hidden": 16, "layers": 1, "heads": 2}
    outcome = start(text, "one", **changes)
    assert outcome.steps == 2
    assert outcome.journal.of("held_out")[-1].monitors
