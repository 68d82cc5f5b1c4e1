"""Draws: seeded, recorded and replayed; the same on every backend; different for each call, step, rank and place."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

import lossc
from lossc import LosscError, Objective

F64 = torch.float64

TEXT = """
use std.settings.embeddings
axis m
term noisy(u : real[b, d]) = u + 0.1 * normal(b, d)
minimize
  apart  : mean[b](sum[d](noisy(x)^2) + sum[d](noisy(y)^2))
  sliced : mean[b, m](abs(dot[d](x - y, normal(d, m))))
  half   : mean[b where uniform(b) < 0.5](norm[d](x))
  pairs  : mean[b](mean[j](softplus(s + normal(b, j))))
"""

NOISY = """
axis b : batch
axis v
input z : logits[b, v]
data  y : label[b] in v
let p = log_softmax[v](z + normal(b, v))
minimize
  f : -mean[b](p[v = y])
"""


def made(**options: Any) -> tuple[Objective, dict[str, Tensor]]:
    objective = lossc.loads(TEXT, sizes={"m": 7}, **options)
    return objective, lossc.example_inputs(objective, dtype=F64)


def test_the_formula_over_what_was_drawn() -> None:
    objective, batch = made()
    result = objective(**batch)
    x, y = batch["x"], batch["y"]
    to_x, to_y, directions, uniform, noise = result.draws.values()
    assert [tuple(draw.shape) for draw in result.draws.values()] == [x.shape, x.shape, (9, 7), (6,), (6, 6)]
    unit = [u / u.norm(dim=-1, keepdim=True) for u in (x, y)]
    wanted = {
        "apart": ((x + 0.1 * to_x) ** 2).sum(-1).mean() + ((y + 0.1 * to_y) ** 2).sum(-1).mean(),
        "sliced": ((x - y) @ directions).abs().mean(),
        "half": x.norm(dim=-1)[uniform < 0.5].mean(),
        "pairs": torch.nn.functional.softplus(unit[0] @ unit[1].T + noise).mean(),
    }
    for name, value in wanted.items():
        torch.testing.assert_close(result.terms[name], value.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("text", [TEXT, NOISY])
def test_every_backend_sees_the_same_numbers(text: str) -> None:
    found = []
    for backend in ("reference", "torch", "c", "auto"):
        objective = lossc.loads(text, backend=backend, sizes={"m": 7, "v": 600}, seed=5)
        batch = lossc.example_inputs(objective, dtype=F64)
        result = objective(**batch)
        result.loss.backward()
        gradients = [tensor.grad.flatten() for tensor in batch.values() if tensor.grad is not None]
        found.append(torch.cat([result.loss.detach().reshape(1), *gradients]))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-10, atol=1e-12)


def test_what_is_the_same_and_what_is_not() -> None:
    objective, batch = made()
    first, second = objective(**batch).draws, objective(**batch).draws
    objective.advance()
    third = objective(**batch).draws
    other = made(seed=1)[0](**batch).draws
    directions = list(first)[2]
    for name in first:
        per_call = name != directions
        assert torch.equal(first[name], second[name]) != per_call, "without a batch axis: one for all calls of a step"
        assert not torch.equal(first[name], third[name])
        assert not torch.equal(first[name], other[name])
        assert torch.equal(first[name], made()[0](**batch).draws[name])
    assert not torch.equal(*list(first.values())[:2]), "a term that is called with other arguments draws anew"


def test_a_call_is_repeated_by_its_draws() -> None:
    objective, batch = made()
    result = objective(**batch)
    torch.testing.assert_close(objective(**batch, draws=result.draws).loss, result.loss, rtol=0, atol=0)
    assert objective(**batch).loss != result.loss


def test_draws_that_do_not_fit() -> None:
    objective, batch = made()
    draws = objective(**batch).draws
    with pytest.raises(LosscError, match="E732"):
        objective(**{name: tensor[:3] for name, tensor in batch.items()}, draws=draws)
    with pytest.raises(LosscError, match="E732"):
        objective(**batch, draws={})


@pytest.mark.parametrize("kept", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o)), None])
def test_a_copy_goes_on_drawing_the_same(kept: Any) -> None:
    objective, batch = made(seed=4)
    objective(**batch)
    objective.advance()
    if kept is None:
        other = made()[0]
        other.load_state_dict(objective.state_dict())
    else:
        other = kept(objective)
    assert torch.equal(other(**batch).loss, objective(**batch).loss)


def test_evaluation_draws_the_same_each_time_and_disturbs_nothing() -> None:
    objective, batch = made()
    undisturbed = made()[0]
    losses = []
    for _ in range(2):
        objective.eval()
        losses.append([objective(**batch).loss.item() for _ in range(2)])
        objective.train()
        assert torch.equal(objective(**batch).loss, undisturbed(**batch).loss)
        objective.advance()
        undisturbed.advance()
    assert losses[0] == losses[1]
    assert losses[0][0] != losses[0][1]


def test_denominators_are_those_of_the_calls_that_follow() -> None:
    text = "axis b : batch\ninput x : real[b]\nminimize\n  f : mean[b where uniform(b) < 0.5](x)\n"
    objective = lossc.loads(text)
    x = torch.arange(40.0, dtype=F64, requires_grad=True)
    parts = x.split(8)
    shared = sum(objective.denominators(x=part) for part in parts)
    results = [objective(x=part, denominators=shared) for part in parts]
    kept = torch.cat([next(iter(result.draws.values())) < 0.5 for result in results])
    torch.testing.assert_close(sum(result.loss for result in results), x[kept].mean())


def test_moments() -> None:
    text = "axis b : batch\ninput x : real[b]\nminimize\n  f : mean[b](x)\nmonitor\n"
    text += "  mean : mean[b](normal(b))\n  var : var[b](normal(b))\n  low : min[b](uniform(b))\n  high : max[b](uniform(b))\n"
    monitors = lossc.loads(text)(x=torch.zeros(20_000, requires_grad=True)).monitors
    assert monitors["mean"].abs() < 0.03 and abs(monitors["var"] - 1) < 0.05
    assert 0 <= monitors["low"] < 1e-3 and 1 - 1e-3 < monitors["high"] < 1


def test_draws_in_a_renewal() -> None:
    text = "axis b : batch\naxis k = {one, two}\ninput x : real[b]\n"
    text += "state walk : real[k] = 0 then walk + normal(k)\nminimize\n  f : mean[b](x) + sum[k](walk)\n"
    objective = lossc.loads(text)
    result = objective(x=torch.zeros(3, requires_grad=True))
    objective(x=torch.zeros(3, requires_grad=True))
    objective.advance()
    torch.testing.assert_close(objective.state["walk"], next(iter(result.draws.values())).double())
