"""`step`, `progress` and `ramp`: their values along a run, on every backend, saved and restored."""

from __future__ import annotations

import copy
import importlib.util
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

import lossc
from lossc import LosscError, Objective
from lossc.compiler.check import check_source
from lossc.grammar.source import Source
from lossc.runtime.backends import BACKENDS
from lossc.runtime.standalone import standalone

F64 = torch.float64

TEXT = """
use std.settings.classes
param top : positive = 2
minimize
  ramped : ramp(0 -> top, over = 4) * mean[b](nll)
  fading : (1 - progress)^2 * mean[b](nll) + step / 2
  cosine : mean[b]((1 + cos(pi * progress)) * nll)
monitor
  steps : step
"""


def expected(nll: torch.Tensor, step: int, total: int) -> torch.Tensor:
    share = min(step / total, 1.0)
    cosine = 1 + torch.cos(torch.tensor(torch.pi * share, dtype=F64))
    return 2 * min(step / 4, 1.0) * nll + (1 - share) ** 2 * nll + step / 2 + cosine * nll


@pytest.mark.parametrize("backend", BACKENDS)
def test_values_along_a_run(backend: str) -> None:
    objective = lossc.loads(TEXT, backend=backend, total_steps=8)
    tensors = lossc.example_inputs(objective, dtype=F64)
    nll = functional.cross_entropy(tensors["logits"], tensors["labels"])
    for step in range(10):
        result = objective(**tensors)
        wanted = expected(nll, step, 8)
        torch.testing.assert_close(result.loss, wanted, rtol=1e-12, atol=1e-12)
        found = torch.autograd.grad(result.loss, tensors["logits"])[0]
        torch.testing.assert_close(found, torch.autograd.grad(wanted, tensors["logits"], retain_graph=True)[0])
        assert result.monitors["steps"] == step == objective.step
        objective.advance()


def _saved(objective: Objective) -> Objective:
    fresh = lossc.loads(TEXT)
    fresh.load_state_dict(objective.state_dict())
    return fresh


@pytest.mark.parametrize("kept", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o)), _saved])
def test_the_step_is_kept(kept: Any) -> None:
    objective = lossc.loads(TEXT, total_steps=8)
    for _ in range(3):
        objective.advance()
    other = kept(objective)
    assert (other.step, other.total_steps) == (3, 8)
    other.advance()
    assert (other.step, objective.step) == (4, 3)
    tensors = lossc.example_inputs(objective, dtype=F64)
    nll = functional.cross_entropy(tensors["logits"], tensors["labels"])
    torch.testing.assert_close(other(**tensors).loss, expected(nll, 4, 8))


def test_a_step_recompiles_nothing() -> None:
    torch._dynamo.reset()
    objective = lossc.loads("ramp(0 -> 1, over = 4) * nll", setting="classes")
    compiled = torch.compile(objective, fullgraph=True, backend="eager")
    tensors = lossc.example_inputs(objective, dtype=F64)
    nll = functional.cross_entropy(tensors["logits"], tensors["labels"])
    with torch._dynamo.config.patch(error_on_recompile=True):
        for step in range(3):
            torch.testing.assert_close(compiled(**tensors).loss, step / 4 * nll)
            objective.advance()


@pytest.mark.parametrize("total", [0, -1, True, 2.5])
def test_a_wrong_length_is_refused(total: Any) -> None:
    with pytest.raises(LosscError, match="E731"):
        lossc.loads(TEXT, total_steps=total)


def test_a_run_without_length() -> None:
    objective = lossc.loads(TEXT)
    tensors = lossc.example_inputs(objective)
    with pytest.raises(LosscError, match="E731"):
        objective(**tensors)
    objective.total_steps = 4
    assert objective(**tensors).loss.isfinite()


def test_the_standalone_module_counts_too(tmp_path: Path) -> None:
    objective = lossc.loads(TEXT, total_steps=8)
    file = tmp_path / "ramped.py"
    file.write_text(standalone(objective), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("ramped", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    alone = module.Objective(total_steps=8)
    tensors = lossc.example_inputs(objective, dtype=F64)
    for _ in range(3):
        torch.testing.assert_close(alone(**tensors).loss, objective(**tensors).loss)
        objective.advance()
        alone.advance()
    assert alone.state_dict()["step"] == 3


# ------------------------------------------------------------------------------------------------ domains and faults


def problems(line: str) -> list[str]:
    text = f"use std.settings.classes\nparam a : positive = 1\nparam n : nonneg = 2\nminimize\n  loss : {line}\n"
    return [problem.code for problem in check_source(Source("x.loss", text)).problems.found]


@pytest.mark.parametrize(
    "line", ["ramp(0.5 -> 2, over = 10)", "ramp(a -> 1/3, over = 10)", "ramp(2 -> a, over = step + a)"]
)  # fmt: skip
def test_the_domain_of_a_ramp_is_that_of_its_ends(line: str) -> None:
    """Neither a logarithm nor a division warns: the ramp is known to be positive."""
    assert problems(f"log({line}) / {line} * mean[b](nll) + 0 * (a + n)") == []


@pytest.mark.parametrize(
    ("line", "code"),
    [("ramp(0 -> 1)", "E201"), ("ramp(0, over = 3)", "E201"), ("ramp(0 -> 1, over = 0)", "E401"),
     ("ramp(0 -> 1, over = -3)", "E401"), ("sum[b](ramp(0 -> (nll > 1), over = 3))", "E205")],
)  # fmt: skip
def test_wrong_ramps(line: str, code: str) -> None:
    assert problems(f"{line} * mean[b](nll) + 0 * (a + n)") == [code]


def test_a_ramp_over_no_steps_is_at_its_end() -> None:
    text = "use std.settings.classes\nparam n : nonneg = 0\nminimize\n  loss : ramp(0 -> 3, over = n) * mean[b](nll)\n"
    objective = lossc.loads(text)
    tensors = lossc.example_inputs(objective, dtype=F64)
    nll = functional.cross_entropy(tensors["logits"], tensors["labels"])
    torch.testing.assert_close(objective(**tensors).loss, 3 * nll)
