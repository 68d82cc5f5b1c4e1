"""The standalone module: imported where lossc is not, it gives what the objective gives."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lossc
from lossc.runtime.standalone import standalone

SPECS = {
    "pairs": lambda: lossc.loads("dpo(beta=0.2) + 0.2*sft", setting="pairs"),
    "tokens": lambda: lossc.loads("label_smoothing(logits, labels) + 0.1*z_loss + 0.1*nll", setting="tokens"),
    "embeddings": lambda: lossc.loads("info_nce", setting="embeddings"),
    "rollouts": lambda: lossc.loads("grpo + 0.04*k3", setting="rollouts"),
    "groups": lambda: lossc.loads("""
axis b : batch
axis group
input x : real[b]
data  g : label[b] in group
data  n : nonneg[b]
param p : positive = 0.5
learn bias : real = 0.25
minimize
  f : mean[b]((x + bias - mean[b by g](x)[group = g])^2)^p
monitor
  spread : std[b](x)
"""),
    "extents": lambda: lossc.loads("""
axis b : batch
axis bin
input x : real[b]
data edges : real[bin]
minimize
  f : mean[b](sum[bin](softmax[bin](-(x - index[bin] / size[bin])^2) * index[bin] + 0 * edges))
"""),
}  # fmt: skip

SCRIPT = """
import importlib, json, sys, warnings
warnings.simplefilter("error")
import torch
found = {}
for name in sys.argv[1:]:
    tensors = torch.load(name + ".pt", weights_only=True)
    result = importlib.import_module(name).Objective()(**tensors)
    inputs = {key: tensor for key, tensor in tensors.items() if tensor.requires_grad}
    grads = torch.autograd.grad(result.loss, list(inputs.values()), allow_unused=True)
    values = {**result.terms, **result.monitors, **{"#" + key: value for key, value in result.counts.items()}}
    found[name] = {
        "loss": result.loss.item(),
        **{key: value.item() for key, value in values.items()},
        **{"d" + key: 0.0 if grad is None else grad.square().sum().item() for key, grad in zip(inputs, grads)},
    }
assert not any(name.partition(".")[0] in ("lossc", "compiler", "runtime") for name in sys.modules)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """What the modules give in a process that cannot import lossc."""
    folder = tmp_path_factory.mktemp("standalone")
    for name, made in SPECS.items():
        objective = made()
        (folder / f"{name}.py").write_text(standalone(objective), encoding="utf-8")
        torch.save(lossc.example_inputs(objective, seed=1, dtype=torch.float64), folder / f"{name}.pt")
    command = [sys.executable, "-c", SCRIPT, *SPECS]
    done = subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    values: dict[str, dict[str, float]] = json.loads(done.stdout)
    return values


@pytest.mark.parametrize("name", SPECS)
def test_it_equals_the_objective_without_lossc(name: str, found: dict[str, dict[str, float]]) -> None:
    objective = SPECS[name]()
    tensors = lossc.example_inputs(objective, seed=1, dtype=torch.float64)
    result = objective(**tensors)
    inputs = {key: tensor for key, tensor in tensors.items() if tensor.requires_grad}
    grads = torch.autograd.grad(result.loss, list(inputs.values()), allow_unused=True)
    values = {**result.terms, **result.monitors, **{f"#{key}": value for key, value in result.counts.items()}}
    squares = {f"d{key}": 0.0 if grad is None else grad.square().sum().item() for key, grad in zip(inputs, grads, strict=True)}
    expected = {"loss": result.loss.item(), **{key: value.item() for key, value in values.items()}, **squares}
    assert found[name] == pytest.approx(expected, rel=1e-12)


HOSTILE = '''
"""A title with three quotes is text: it stays out of the module."""
title "three \\"\\"\\" quotes and a ' single one"
axis b : batch
input lambda : real[b]
input exp : real[b]
input like : real[b]
data  v0 : real[b]
param torch : positive = 2
let program = lambda * exp + like
minimize
  class : torch * mean[b](program * v0)
'''


def test_names_of_a_spec_are_data(tmp_path: Path) -> None:
    objective = lossc.loads(HOSTILE)
    text = standalone(objective)
    tree = ast.parse(text)
    identifiers = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not identifiers & {"exp", "class", "quotes"}
    assert "three" not in text
    assert "lambda" not in text.replace("'lambda'", "")
    names: dict[str, object] = {"__name__": "loss"}
    exec(compile(text, "loss", "exec"), names)
    tensors = lossc.example_inputs(objective)
    result = names["Objective"]()(**tensors)  # type: ignore[operator]
    torch.testing.assert_close(result.loss, objective(**tensors).loss)


def test_lines_are_readable() -> None:
    text = standalone(SPECS["pairs"]())
    assert max(map(len, text.splitlines())) <= 128
    assert "type: ignore" not in text
