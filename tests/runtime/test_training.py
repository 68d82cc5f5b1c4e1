"""Training from a run file: what is kept, that splits of a batch do not matter, and held-out numbers."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lossc.grammar.diagnostics import LosscError
from lossc.runtime.cli.boundary import run
from lossc.runtime.objective import Objective
from lossc.runtime.training.curves import draw_curves
from lossc.runtime.training.examples import collate
from lossc.runtime.training.journal import read_journal
from lossc.runtime.training.models import build_network
from lossc.runtime.training.planning import plan_run
from lossc.runtime.training.preparation import prepare

from .training_runs import CLASSES, PAIRS, assert_equal_weights, start, weights, write_pairs


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_pairs(Path("pairs.jsonl"))


def test_the_folder_of_a_run_holds_everything() -> None:
    outcome = start(CLASSES, "one")
    folder = Path("one")
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoints", "curves.png", "manifest.json", "metrics.jsonl", "model", "objective.loss", "run.yaml"
    ]  # fmt: skip
    manifest = json.loads((folder / "manifest.json").read_text())
    text = (folder / "objective.loss").read_text()
    assert manifest["identity"]["objective"] == hashlib.sha256(text.encode()).hexdigest()
    assert "std." not in text
    assert set(manifest["versions"]) == {"lossc", "torch", "transformers", "python"}
    assert outcome.folder.steps() == [4, 8]
    assert (folder / "curves.png").read_bytes()[:4] == b"\x89PNG"
    readings = read_journal(folder / "metrics.jsonl")
    assert [r.step for r in readings if r.split == "train"] == list(range(1, 9))
    assert [r.step for r in readings if r.split == "held_out"] == [0, 4, 8]
    assert set(readings[0].terms) == {"hard", "smooth"}
    assert set(readings[0].monitors) == {"accuracy"}
    assert all(r.loss == pytest.approx(sum(r.terms.values()), rel=1e-6) for r in readings)


def test_training_improves_the_held_out_rows() -> None:
    outcome = start(CLASSES, "one", length={"steps": 80}, evaluate={"every": 80}, save={"every": 80})
    held_out = outcome.journal.of("held_out")
    assert held_out[-1].loss < 0.6 * held_out[0].loss
    assert held_out[-1].monitors["accuracy"] > 0.75


def test_held_out_readings_are_those_of_one_large_batch() -> None:
    outcome = start(PAIRS.replace("batch: 4", "batch: 3\nprecision: fp64"), "one")
    plan = plan_run("run.yaml", {}, resume=False)
    ready = prepare(plan.run, plan.spec, plan.base)
    network = build_network(plan.run.model, ready.sizes, Path()).double()
    first = network.state_dict()
    network.load_state_dict(weights(outcome), strict=False)
    assert first.keys() >= weights(outcome).keys()
    frozen = load_file("one/frozen.safetensors")["ref_logp"][len(ready.train) :]
    batch = collate(ready.held_out)
    with torch.no_grad():
        answers = {"logits": ready.feed.answers["logits"].ask(network.eval(), batch, "")}
        result = Objective(plan.spec.program)({**batch["data"], **answers, "ref_logp": frozen})
    reading = outcome.journal.of("held_out")[-1]
    assert reading.loss == pytest.approx(result.loss.item(), abs=1e-12)
    assert reading.terms["tie"] == pytest.approx(result.terms["tie"].item(), abs=1e-12)
    assert reading.monitors["accuracy"] == pytest.approx(result.monitors["accuracy"].item(), abs=1e-12)


@pytest.mark.parametrize("split", [(1, 8), (3, 3)], ids=str)
def test_accumulation_equals_one_large_batch(split: tuple[int, int]) -> None:
    """Sequences differ in length, so a mean of means would differ from the mean."""
    size, accumulate = split
    precise = PAIRS + "precision: fp64\n"
    whole = start(precise, "whole", **{"batch.size": size * accumulate})
    parts = start(precise, "parts", **{"batch.size": size, "batch.accumulate": accumulate})
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(parts)[name], tensor, rtol=0, atol=1e-9)
    losses = [[reading.loss for reading in outcome.journal.of("train")] for outcome in (whole, parts)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-9)


def test_two_processes_equal_one_large_batch() -> None:
    precise = PAIRS + "precision: fp64\ndevice: cpu\n"
    whole = start(precise, "whole", **{"batch.size": 6})
    Path("run.yaml").write_text(precise.replace("batch: 4", "batch: 3"), encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    command = [*launcher, "-m", "lossc", "train", "run.yaml", "--output", "parts"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    parts = load_file("parts/model/model.safetensors")
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(parts[name], tensor, rtol=0, atol=1e-9)
    losses = [[r.loss for r in read_journal(Path(name, "metrics.jsonl"))] for name in ("whole", "parts")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-9)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("localhost", 0))
        port: int = listening.getsockname()[1]
        return port


def test_the_frozen_network_is_the_one_before_the_first_step() -> None:
    outcome = start(PAIRS, "one")
    before = outcome.journal.of("held_out")[0]
    assert before.terms["pref"] == pytest.approx(0.6931472, abs=1e-5)


def test_a_run_from_the_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--setting", "classes", "--minimize", "focal + 0.1 * z_loss", "--monitor", "nll", "--data", "sklearn:iris"]
    assert run(["train", *arguments, "--steps", "3", "--model", "linear", "--output", "one"]) == 0
    out = capsys.readouterr().out
    assert "use std.ce (focal, z_loss)" in out
    assert "curves.png" in out
    assert json.loads(Path("one/manifest.json").read_text())["identity"]["model"]["kind"] == "linear"
    assert "focal" in Path("one/run.yaml").read_text()


def test_a_parameter_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    run_file = CLASSES.replace("minimize", "param share : nonneg = 0.5\n  minimize").replace("0.5 * mean", "share * mean")
    Path("run.yaml").write_text(run_file, encoding="utf-8")
    assert run(["train", "run.yaml", "--steps", "1", "--set", "share=0.25", "--output", "one"]) == 0
    assert "= 0.25" in Path("one/objective.loss").read_text()
    capsys.readouterr()


PYTHON = "import torch\n\ndef network(features, outputs):\n    return torch.nn.Linear(features, outputs)\n"


def test_a_python_network_only_where_it_is_allowed() -> None:
    Path("mine.py").write_text(PYTHON + "\nopen('ran', 'w').close()\n", encoding="utf-8")
    text = CLASSES.replace("{kind: mlp, hidden: [8], dropout: 0.1}", "{kind: python, function: 'mine.py:network'}")
    with pytest.raises(LosscError) as failure:
        start(text, "one")
    assert [problem.code for problem in failure.value.diagnostics] == ["E841"]
    assert not Path("ran").exists()
    assert not Path("one").exists()
    outcome = start(text, "one", allow_python=True)
    assert Path("ran").exists()
    assert set(weights(outcome)) == {"weight", "bias"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def network(features):\n    return None\n", "TypeError"),
        ("def network(features, outputs):\n    return 3\n", "returned int"),
        ("raise RuntimeError('no')\n", "RuntimeError: no"),
        ("", "AttributeError"),
    ],
)
def test_a_python_network_that_fails(source: str, expected: str) -> None:
    Path("mine.py").write_text(source, encoding="utf-8")
    text = CLASSES.replace("{kind: mlp, hidden: [8], dropout: 0.1}", "{kind: python, function: 'mine.py:network'}")
    with pytest.raises(LosscError, match="E842") as failure:
        start(text, "one", allow_python=True)
    assert expected in str(failure.value)


def test_a_trained_model_is_a_folder_of_transformers_and_a_teacher() -> None:
    start(PAIRS.replace("tokens: 32", "tokens: 32, tokenizer: bpe, vocabulary: 270"), "large")
    Path("texts.csv").write_text("text\n" + "a yes\nno no\nyes yes yes\n" * 4, encoding="utf-8")
    text = (
        "objective: {setting: distill, minimize: 'distill + 0.1 * nll'}\ndata: {source: texts.csv, tokens: 32}\n"
        "feeds: {teacher: {kind: teacher, path: large}}\n"
        "model: {kind: llama, hidden: 8, layers: 1, heads: 2}\nlength: {steps: 2}\nbatch: 4\n"
    )
    outcome = start(text, "small")
    assert outcome.steps == 2
    again = "objective: {setting: tokens, minimize: nll}\ndata: {source: texts.csv, tokens: 32}\n"
    outcome = start(again + "model: {kind: transformers, path: small/model}\nlength: {steps: 1}\n", "more")
    assert outcome.steps == 1
    with pytest.raises(LosscError, match="E843"):
        start(text.replace("tokens: 32", "tokens: 32, tokenizer: bytes"), "other")
    with pytest.raises(LosscError, match="E843"):
        start(text.replace("feeds: {teacher: {kind: teacher, path: large}}\n", ""), "another")
    with pytest.raises(LosscError, match="E840"):
        start(text.replace("path: large", "path: nowhere"), "none")


def test_equal_runs_give_equal_weights() -> None:
    assert_equal_weights(start(CLASSES, "one"), start(CLASSES, "two"))


def test_mixed_precision_trains() -> None:
    outcome = start(PAIRS + "precision: bf16\n", "one", length={"steps": 1})
    assert all(tensor.dtype == torch.float32 for tensor in weights(outcome).values())


def test_a_picture_of_nothing_is_a_picture(tmp_path: Path) -> None:
    draw_curves([], "empty", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").exists()
