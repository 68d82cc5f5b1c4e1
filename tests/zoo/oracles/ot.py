"""Closed forms of the family `ot`, each from the formula of its paper."""

from __future__ import annotations

from itertools import combinations

import torch
from tests.oracles.batches import uniform
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
