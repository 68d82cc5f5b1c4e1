"""Training with a ramp, a state of every example, a draw and constraints: accumulation and resuming change nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lossc.runtime.training.journal import read_journal

from .training_runs import assert_equal_weights, start

RUN = """\
objective: |
  objective followed
  use std.settings.classes
  axis example
  data id : label[b] in example
  state losses : real[example] = 1 then 0.9 * losses + 0.1 * mean[b by id](nll)
  state middle : real = 1 then middle + 0.1 * (0.5 - mean[b](nll < middle))
  minimize
    warm  : ramp(0.5 -> 1, over = 4) * mean[b](nll / (1 + losses[example = id]))
    tail  : (1 - progress) * mean[b](relu(nll - middle))
    noisy : 0.01 * mean[b](nll * normal(b)^2)
  subject to flat : mean[b](logsumexp[v](logits)) <= 1
  subject to fit per b by id : nll <= 0.2
data: {source: sklearn:iris, held_out: 0.2}
model: {kind: mlp, hidden: [8]}
optimiser: {name: sgd, rate: 1e-2}
precision: fp64
batch: 16
length: {steps: 6}
save: {every: 3}
evaluate: {every: 6}
feeds: {id: {kind: number}}
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def held(folder: str, step: int) -> dict[str, torch.Tensor]:
    """What of the objective a checkpoint holds."""
    tensors = load_file(Path(folder) / "checkpoints" / str(step) / "model.safetensors")
    return {name: tensor for name, tensor in tensors.items() if name.startswith("objective.") and tensor.is_floating_point()}


def test_resuming_gives_the_same_numbers() -> None:
    whole = start(RUN, "whole")
    start(RUN, "parts")
    shutil.rmtree(Path("parts") / "checkpoints" / "6")
    resumed = start(RUN, "parts", resume=True)
    assert_equal_weights(resumed, whole)
    first, second = held("whole", 6), held("parts", 6)
    assert {name for name in first if "state" in name or "multipliers" in name} == {
        "objective.state.losses", "objective.state.middle", "objective.multipliers.flat", "objective.multipliers.fit"
    }  # fmt: skip
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    assert first["objective.multipliers.fit"].max() > 0
    assert (first["objective.state.losses"] != 1).sum() > 60
    readings = [read_journal(Path(folder) / "metrics.jsonl") for folder in ("whole", "parts")]
    assert [r.loss for r in readings[0]] == [r.loss for r in readings[1]]


def test_accumulation_changes_nothing() -> None:
    """Without draws, which each micro-batch has of its own."""
    text = RUN.replace("    noisy : 0.01 * mean[b](nll * normal(b)^2)\n", "")
    start(text, "whole")
    start(text, "split", batch={"size": 4, "accumulate": 4})
    first, second = held("whole", 6), held("split", 6)
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-9, atol=1e-12, msg=name)
