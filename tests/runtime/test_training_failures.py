"""Runs that stop: interrupted, killed, out of space, out of the finite numbers; and what is still there."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lossc.grammar.diagnostics import LosscError
from lossc.runtime.cli.boundary import run
from lossc.runtime.training.folder import RunFolder
from lossc.runtime.training.journal import Journal, Reading, read_journal

from .training_runs import CLASSES, PAIRS, assert_equal_weights, start, write_pairs

REGRESSION = """\
objective: {setting: regression, minimize: mse}
data: {source: sklearn:diabetes, limit: 64}
model: linear
optimiser: {rate: 1e-2}
length: {steps: 6}
save: {every: 2}
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_pairs(Path("pairs.jsonl"))


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], None]) -> None:
    """Does something right after the reading of a step was written, once."""
    write = Journal.write

    def watched(self: Journal, reading: Reading) -> None:
        write(self, reading)
        if reading.split == "train" and reading.step == step:
            monkeypatch.setattr(Journal, "write", write)
            act()

    monkeypatch.setattr(Journal, "write", watched)


def lines(folder: str) -> list[str]:
    return Path(folder, "metrics.jsonl").read_text().splitlines()


@pytest.mark.parametrize(("text", "step"), [(CLASSES, 5), (PAIRS, 3)], ids=["rows", "language"])
def test_an_interrupted_run_continues_to_the_same_numbers(
    text: str, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = start(text, "whole")
    at_step(monkeypatch, step, lambda: os.kill(os.getpid(), signal.SIGINT))
    broken = start(text, "broken")
    assert (broken.interrupted, broken.steps) == (True, step)
    assert broken.folder.steps()[-1] == step
    resumed = start(text, "broken", resume=True)
    assert not resumed.interrupted
    assert lines("broken") == lines("whole")
    assert_equal_weights(whole, resumed)


def test_a_second_interruption_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    at_step(monkeypatch, 5, twice)
    with pytest.raises(KeyboardInterrupt):
        start(CLASSES, "one")
    assert RunFolder(Path("one")).steps() == [4]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_killed_process_loses_nothing_that_was_saved() -> None:
    whole = start(REGRESSION, "whole")
    program = (
        "import os, signal; from lossc.runtime.training.journal import Journal; write = Journal.write\n"
        "def watched(self, reading):\n"
        "    write(self, reading)\n"
        "    if reading.split == 'train' and reading.step == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Journal.write = watched\n"
        "from lossc.runtime.cli.boundary import run; run(['train', 'run.yaml', '--output', 'killed'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    folder = RunFolder(Path("killed"))
    assert folder.steps() == [2, 4]
    assert read_journal(folder.metrics)[-1].step == 5
    with folder.metrics.open("a") as file:
        file.write('{"step": 6, "spl')
    resumed = start(REGRESSION, "killed", resume=True)
    assert lines("killed") == lines("whole")
    assert_equal_weights(whole, resumed)


def test_a_full_disk_keeps_the_last_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    save = torch.save
    full: dict[str, Any] = {"yet": False}

    def failing(*arguments: Any, **options: Any) -> None:
        if full["yet"]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(*arguments, **options)

    monkeypatch.setattr(torch, "save", failing)
    at_step(monkeypatch, 3, lambda: full.update(yet=True))
    with pytest.raises(LosscError, match="E831") as failure:
        start(REGRESSION, "one")
    assert "the checkpoint of step 2 is whole" in str(failure.value)
    assert sorted(path.name for path in Path("one/checkpoints").iterdir()) == ["2"]
    full["yet"] = False
    assert start(REGRESSION, "one", resume=True).steps == 6


def test_a_limit_on_file_sizes_is_no_traceback() -> None:
    """The limit is met inside of safetensors and torch, which do not raise OSError."""
    Path("run.yaml").write_text(REGRESSION.replace("model: linear", "model: {kind: mlp, hidden: [512]}"), encoding="utf-8")
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))\n"
        "from lossc.runtime.cli.boundary import main; main(['train', 'run.yaml', '--output', 'one'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "error[E831]" in done.stderr
    assert "Traceback" not in done.stderr
    assert RunFolder(Path("one")).steps() == []
    assert not RunFolder(Path("one")).staging.exists()


def test_numbers_that_are_not_finite_stop_the_run_before_the_step() -> None:
    with pytest.raises(LosscError, match="E836") as failure:
        start(REGRESSION.replace("1e-2", "1e30, clip: 0"), "one", evaluate={"every": 6})
    assert "the step was not taken" in str(failure.value)
    assert "Traceback" not in str(failure.value)
    metrics = read_journal(Path("one/metrics.jsonl"))
    assert all(torch.isfinite(torch.tensor(reading.loss)) for reading in metrics)


def test_a_folder_is_never_taken_twice() -> None:
    start(REGRESSION, "one")
    before = {path: path.read_bytes() for path in Path("one").rglob("*") if path.is_file()}
    with pytest.raises(LosscError, match="E832"):
        start(REGRESSION, "one")
    with pytest.raises(LosscError, match="E833"):
        start(REGRESSION, "two", resume=True)
    with pytest.raises(LosscError, match="E834") as failure:
        start(REGRESSION, "one", resume=True, **{"optimiser.rate": 0.5, "seed": 3})
    assert "`optimiser.rate` was 0.01, is 0.5; `seed` was 0, is 3" in str(failure.value)
    assert {path: path.read_bytes() for path in Path("one").rglob("*") if path.is_file()} == before


def test_a_finished_run_can_be_resumed_and_stays_as_it_is() -> None:
    first = start(REGRESSION, "one")
    again = start(REGRESSION, "one", resume=True)
    assert again.steps == first.steps
    assert_equal_weights(first, again)


def test_a_run_is_resumed_by_its_folder(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    at_step(monkeypatch, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    Path("deep").mkdir()
    Path("deep/run.yaml").write_text(REGRESSION, encoding="utf-8")
    assert run(["train", "deep/run.yaml", "--output", "one"]) == 130
    captured = capsys.readouterr()
    assert "lossc train one --resume" in captured.err
    assert run(["train", "one", "--resume"]) == 0


def test_a_folder_that_cannot_be_written() -> None:
    Path("file").write_text("")
    begun = time.perf_counter()
    with pytest.raises(LosscError, match="E830"):
        start(REGRESSION, "file/run")
    assert time.perf_counter() - begun < 30
    assert Path("file").read_text() == ""
