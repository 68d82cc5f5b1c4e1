"""Small runs for the tests of training: made in a moment, the same every time."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors.torch import load_file

from lossc.runtime.training.planning import Plan, plan_run
from lossc.runtime.training.session import Outcome, Session, train

torch.set_num_threads(1)  # the networks are so small that threads only wait for each other

CLASSES = """\
objective: |
  objective small
  use std.settings.classes
  use std.ce (ce, label_smoothing)
  minimize
    hard   : mean[b](ce(logits, labels))
    smooth : 0.5 * mean[b](label_smoothing(logits, labels))
  monitor
    accuracy : mean[b](argmax[v](logits) == labels)
data: {source: sklearn:iris, held_out: 0.2}
model: {kind: mlp, hidden: [8], dropout: 0.1}
optimiser: {rate: 1e-2}
schedule: {name: cosine, warmup: 0.2}
batch: 16
length: {steps: 8}
evaluate: {every: 4}
save: {every: 4}
"""

PAIRS = """\
objective: |
  objective words
  use std.settings.pairs
  use std.preference (dpo)
  minimize
    pref : mean[pair](dpo(margin))
    tie  : 0.5 * sft
  monitor
    accuracy : mean[pair](margin > 0)
data: {source: pairs.jsonl, held_out: 0.25, tokens: 32}
model: {kind: llama, hidden: 16, layers: 1, heads: 2}
optimiser: {rate: 1e-2}
batch: 4
length: {steps: 4}
save: {every: 2}
"""


def write_pairs(path: Path, count: int = 32) -> None:
    """Pairs of unequal lengths."""
    rows = [
        {"prompt": f"{n}:", "chosen": " yes" * (1 + n % 4), "rejected": " no" * (1 + n % 3)} for n in range(count)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def start(text: str, folder: str, *, resume: bool = False, allow_python: bool = False, **changes: Any) -> Outcome:
    """Trains the run of `text`, written to run.yaml, in `folder`."""
    Path("run.yaml").write_text(text, encoding="utf-8")
    return carry_out(plan_run("run.yaml", {"output": folder, **changes}, resume), allow_python=allow_python)


def carry_out(plan: Plan, *, allow_python: bool = False) -> Outcome:
    session = Session(
        plan.run, plan.spec, plan.base, plan.folder, plan.text, Console(file=io.StringIO()),
        resume=plan.resume, allow_python=allow_python,
    )  # fmt: skip
    return train(session)


def weights(outcome: Outcome) -> dict[str, torch.Tensor]:
    return load_file(outcome.folder.model / "model.safetensors")


def assert_equal_weights(left: Outcome, right: Outcome) -> None:
    """Bit for bit."""
    first, second = weights(left), weights(right)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name
