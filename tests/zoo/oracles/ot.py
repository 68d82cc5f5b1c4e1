"""Closed forms of the family `ot`, each from the formula of its paper."""

from __future__ import annotations

from itertools import combinations

import torch
from tests.oracles.batches import classes, scores, uniform
from tests.specs.variants import ignored
from tests.zoo.harness import Tensors, oracle
from torch import Tensor

CARDINALITY = 2
"""The k of `topk` in the file."""


def transports(seed: int, variant: str) -> Tensors:
    p, i, j = (1, 3, 1) if variant == "odd" else (2, 5, 4)
    return {
        "u": uniform(p, i, seed=seed),
        "C": 1 + uniform(p, i, j, seed=seed + 1),
        "a": torch.softmax(uniform(p, i, seed=seed + 2), -1),
        "b": torch.softmax(uniform(p, j, seed=seed + 3), -1),
    }


def sparse_conjugate(s: Tensor, mass: Tensor, gamma: float, k: int) -> Tensor:
    """max <s, t> - gamma / 2 |t|^2 over t >= 0 with sum t = mass and at most k nonzeros, by trying every support."""
    best: Tensor | None = None
    for size in range(1, k + 1):
        for support in combinations(range(len(s)), size):
            chosen = s[list(support)]
            t = (chosen - (chosen.sum() - gamma * mass) / size) / gamma
            value = (chosen * t - gamma / 2 * t**2).sum()
            if bool((t >= 0).all()) and (best is None or value > best):
                best = value
    assert best is not None
    return best


@oracle("sparsity_constrained_ot", batch=transports, params=[{}, {"gamma": 2.0}], variants=("plain", "odd"))
def sparsity_constrained_ot(tensors: Tensors, gamma: float = 0.1, k: int = CARDINALITY) -> Tensor:
    """-(<u, a> - sum_j f*_j(u - c_j)), the mean over problems."""
    duals = []
    for u, c, a, b in zip(tensors["u"], tensors["C"], tensors["a"], tensors["b"], strict=True):
        columns = [sparse_conjugate(u - c[:, j], b[j], gamma, k) for j in range(len(b))]
        duals.append((u * a).sum() - torch.stack(columns).sum())
    return -torch.stack(duals).mean()


def distilled(seed: int, variant: str) -> Tensors:
    b, v = (1, 3) if variant == "odd" else (5, 4)
    batch: Tensors = classes(seed, b, v) | {"teacher": scores(b, v, seed=seed + 4)}
    return ignored(batch) if variant == "masked" else batch


def normalised_plan(cost: Tensor, eps: float, steps: int) -> Tensor:
    """exp(-cost / eps) with its rows, then its columns, divided by their sums, `steps` times."""
    plan = torch.exp(-cost / eps)
    for _ in range(steps):
        plan = plan / plan.sum(1, keepdim=True)
        plan = plan / plan.sum(0, keepdim=True)
    return plan


@oracle("sinkd", batch=distilled, params=[{}, {"alpha": 0.3, "beta": 0.7, "tau": 1.5, "eps": 0.4}])
def sinkd(tensors: Tensors, alpha: float = 0.8, beta: float = 0.0016, tau: float = 3.0, eps: float = 0.1) -> Tensor:
    """(1 - alpha) CE + alpha CE(softmax(teacher / tau), student / tau) + beta <K, D> of the whole batch."""
    z, teacher, labels = tensors["logits"], tensors["teacher"], tensors["labels"]
    rows = labels >= 0
    s, t = torch.softmax(z / 2, -1), torch.softmax(teacher / 2, -1)
    cost = (s[:, None] - t[None, :]).abs().sum(-1)
    loss = (1 - alpha) * torch.nn.functional.cross_entropy(z[rows], labels[rows])
    loss = loss - alpha * (torch.softmax(teacher / tau, -1) * torch.log_softmax(z / tau, -1)).sum(-1).mean()
    return loss + beta * (normalised_plan(cost, eps, 20) * cost).sum()
