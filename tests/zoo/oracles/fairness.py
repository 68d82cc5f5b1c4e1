"""Closed forms of the family `fairness`, each from the formula of its paper."""

from __future__ import annotations

import torch
from tests.oracles.batches import integers, uniform
from tests.zoo.harness import Tensors, oracle
from torch import Tensor


def protected(seed: int, variant: str) -> Tensors:
    b, s, m = (2, 1, 1) if variant == "odd" else (7, 2, 2)
    return {
        "yhat": uniform(b, seed=seed),
        "y": uniform(b, seed=seed + 1),
        "number": uniform(b, s, seed=seed + 2),
        "category": integers(b, m, high=3, seed=seed + 3),
    }


def distances(vectors: Tensor) -> Tensor:
    """|v_k - v_l| of rows, by pairs; the distance of a row to itself has no gradient."""
    n = len(vectors)
    zero = torch.zeros((), dtype=vectors.dtype)
    rows = [[zero if k == m else (vectors[k] - vectors[m]).pow(2).sum().sqrt() for m in range(n)] for k in range(n)]
    return torch.stack([torch.stack(row) for row in rows])


def doubly_centred(d: Tensor) -> Tensor:
    return d - d.mean(0, keepdim=True) - d.mean(1, keepdim=True) + d.mean()


def one_hot(category: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(category, 3).to(torch.float64)


@oracle(
    "dcov_fairness",
    batch=protected,
    params=[{}, {"measure": "dcov", "lam": 3.0}, {"measure": "jdcov"}],
    variants=("plain", "odd"),
)
def dcov_fairness(tensors: Tensors, lam: float = 1.0, measure: str = "ccdcov") -> Tensor:
    """mean (y - yhat)^2 + lambda Psi(yhat, S); dCov^2(X, Y) = 1/n^2 sum_kl A_kl B_kl."""
    yhat, n = tensors["yhat"], len(tensors["yhat"])
    a = doubly_centred(distances(yhat[:, None]))
    attributes = [tensors["number"][:, s, None] for s in range(tensors["number"].shape[1])]
    attributes += [one_hot(tensors["category"][:, m]) for m in range(tensors["category"].shape[1])]
    each = [doubly_centred(distances(attribute)) for attribute in attributes]
    if measure == "dcov":
        penalty = torch.stack([(a * b).sum() / n**2 for b in each]).sum()
    elif measure == "ccdcov":
        penalty = (a * doubly_centred(distances(torch.cat(attributes, 1)))).sum() / n**2
    else:
        joint = 1 - a
        for b in each:
            joint = joint * (1 - b)
        penalty = joint.sum() / n**2 - 1
    return ((tensors["y"] - yhat) ** 2).mean() + lam * penalty
