"""The worked translations of the language page against closed forms written from the same equations, in fp64."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import lossc

LANGUAGE = (Path(__file__).parents[1] / "docs" / "language.md").read_text(encoding="utf-8")
PAPERS = LANGUAGE.partition("## From a paper to lossc")[2].partition("\n## ")[0]
PROGRAMS = {name: text for text, name in re.findall(r"```loss[^\n]*\n(objective (\w+).*?)```", PAPERS, re.DOTALL)}

Batch = dict[str, Tensor]
Loss = Callable[..., Tensor]
CLOSED: dict[str, Loss] = {}


def closed(form: Loss) -> Loss:
    CLOSED[form.__name__] = form
    return form


def mean(x: Tensor, mask: Tensor) -> Tensor:
    total: Tensor = x[mask].sum() / mask.sum()
    return total


@closed
def smoothed(logits: Tensor, labels: Tensor) -> Tensor:
    here = labels >= 0
    z, y = logits[here], labels[here]
    target = 0.9 * torch.nn.functional.one_hot(y, z.shape[1]).double() + 0.1 / z.shape[1]
    return -(target * (z - z.logsumexp(1, keepdim=True))).sum(1).mean()


@closed
def detector_focal(z: Tensor, y: Tensor) -> Tensor:
    p = 1 / (1 + torch.exp(-z))
    hit = -0.25 * (1 - p) ** 2 * p.log()
    miss = -0.75 * p**2 * (1 - p).log()
    return torch.where(y, hit, miss).sum() / y.sum()


@closed
def distillation(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    here = labels >= 0
    p, q = (teacher / 4).softmax(1), (student / 4).softmax(1)
    soft = (p * (p.log() - q.log())).sum(1).mean()
    hard = -student.log_softmax(1)[here, labels[here]].mean()
    return 0.9 * 16 * soft + 0.1 * hard


@closed
def dpo_from_tokens(logits: Tensor, labels: Tensor, mask: Tensor, ref_logp: Tensor) -> Tensor:
    admitted = mask & (labels >= 0)
    token = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    ratio = torch.where(admitted, token, 0.0).sum(-1) - ref_logp
    return -torch.log(1 / (1 + torch.exp(-0.1 * (ratio[:, 0] - ratio[:, 1])))).mean()


@closed
def clip(image: Tensor, text: Tensor) -> Tensor:
    x, y = image / image.norm(dim=1, keepdim=True), text / text.norm(dim=1, keepdim=True)
    s: Tensor = torch.exp(torch.tensor(2.6593).double()) * x @ y.T  # a learned number begins in single precision
    rows, columns = -s.log_softmax(1).diagonal(), -s.log_softmax(0).diagonal()
    return (rows.mean() + columns.mean()) / 2


@closed
def sup_con(z: Tensor, y: Tensor) -> Tensor:
    s: Tensor = z @ z.T / 0.1
    n = len(y)
    rows = []
    for i in range(n):
        others = [a for a in range(n) if a != i]
        partners = [a for a in others if y[a] == y[i] and y[i] >= 0]
        if partners:
            rows.append(torch.stack([s[i, others].logsumexp(0) - s[i, p] for p in partners]).mean())
    return torch.stack(rows).mean()


@closed
def batch_hard(x: Tensor, y: Tensor) -> Tensor:
    rows = []
    for i in range(len(y)):
        same = [a for a in range(len(y)) if y[a] == y[i] and y[i] >= 0]
        apart = [a for a in range(len(y)) if y[a] != y[i] and y[i] >= 0 and y[a] >= 0]
        if same and apart:
            far = max((x[i] - x[a]).norm() for a in same)
            near = min((x[i] - x[a]).norm() for a in apart)
            rows.append(torch.relu(0.2 + far - near))
    return torch.stack(rows).mean()


@closed
def ppo(
    policy: Tensor, value: Tensor, taken: Tensor, mask: Tensor, old_logp: Tensor, reference: Tensor, advantage: Tensor,
    returns: Tensor,
) -> Tensor:  # fmt: skip
    logp = policy.log_softmax(-1)
    pi = logp.exp()
    r = torch.exp(logp.gather(-1, taken.clamp(min=0)[..., None])[..., 0] - old_logp)
    surrogate = torch.minimum(r * advantage, r.clamp(0.8, 1.2) * advantage)
    gained = mean(surrogate, mask & (taken >= 0)) + 0.01 * mean(-(pi * logp).sum(-1), mask)
    drift = (pi * (logp - reference.log_softmax(-1))).sum(-1)
    return -gained + 0.5 * mean((value - returns) ** 2, mask) + 0.05 * mean(drift, mask)


@closed
def actor_critic(value: Tensor, logp: Tensor, reward: Tensor, done: Tensor, after: Tensor) -> Tensor:
    following = torch.cat([value[:, 1:], after[:, None]], 1).detach()
    delta = reward + torch.where(done, 0.0, 0.99 * following) - value.detach()
    advantage = torch.zeros_like(delta)
    for b in range(len(delta)):
        for t in range(delta.shape[1]):
            weight = 1.0
            for later in range(t, delta.shape[1]):
                advantage[b, t] += weight * delta[b, later]
                weight *= 0.99 * 0.95 * (not done[b, later])
    target = advantage + value.detach()
    return -(advantage * logp).mean() + ((value - target) ** 2).mean() / 2


@closed
def regression(pred: Tensor, target: Tensor) -> Tensor:
    error = target[:, None] - pred
    tau = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    quantiles = torch.where(error >= 0, tau * error, (tau - 1) * error).mean()
    return quantiles + torch.nn.functional.huber_loss(pred[:, 1], target)


@closed
def multi_label(z: Tensor, y: Tensor) -> Tensor:
    return torch.nn.functional.binary_cross_entropy_with_logits(z, y.double())


@closed
def dice(logits: Tensor, labels: Tensor) -> Tensor:
    p = logits.softmax(-1)
    g = (labels[..., None] == torch.arange(logits.shape[-1])).double()
    return (1 - (2 * (p * g).sum(1) + 1) / (p.sum(1) + g.sum(1) + 1)).mean()


def batch(objective: lossc.Objective) -> Batch:
    """Drawn tensors in double precision with some labels *none* (but where a one-hot is made by hand)."""
    found = lossc.example_inputs(objective, seed=3, dtype=torch.float64)
    for name, tensor in found.items():
        if tensor.dtype == torch.int64 and objective.program.name != "dice":
            found[name] = torch.where(
                torch.rand(tensor.shape, generator=torch.Generator().manual_seed(7)) < 0.2, -1, tensor
            )
    return found


def test_every_translation_has_a_closed_form() -> None:
    assert CLOSED.keys() == PROGRAMS.keys()


@pytest.mark.parametrize("name", PROGRAMS)
def test_translations_equal_their_equations(name: str) -> None:
    objective = lossc.loads(PROGRAMS[name]).double()
    tensors = batch(objective)
    inputs = [tensor for tensor in tensors.values() if tensor.requires_grad]
    loss, expected = objective(**tensors).loss, CLOSED[name](**tensors)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    found, wanted = (torch.autograd.grad(value, inputs) for value in (loss, expected))
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
