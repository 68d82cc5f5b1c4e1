"""Closed forms of the family `regression`, each from the formula of its paper."""

from __future__ import annotations

import torch
from tests.oracles.batches import integers, uniform
from tests.oracles.rows import mean
from tests.zoo.harness import Tensors, oracle
from torch import Tensor


def bags(seed: int, variant: str) -> Tensors:
    """Rows in bags; masked, some rows join none and a bag that nothing joins has no response."""
    b, a = (3, 1) if variant == "odd" else (9, 4)
    tensors: Tensors = {
        "f": 2 * uniform(b, seed=seed),
        "bag": integers(b, high=max(a - 1, 1), seed=seed + 1),
        "ybar": 2 * uniform(a, seed=seed + 2),
    }
    if variant == "masked":
        tensors["bag"] = torch.where(torch.arange(b) % 3 == 1, -1, tensors["bag"])
        tensors["f"] = torch.where(tensors["bag"] < 0, torch.nan, tensors["f"])
        tensors["ybar"] = torch.where(torch.arange(a) == a - 1, torch.inf, tensors["ybar"])
    return tensors


@oracle("aggregate_responses", batch=bags, params=[{}, {"rho": 0}, {"rho": 1}])
def aggregate_responses(tensors: Tensors, rho: float = 0.5) -> Tensor:
    """(1 - rho) L_bag + rho L_ins, bag by bag."""
    bag_losses, instance_losses = [], []
    for a, response in enumerate(tensors["ybar"]):
        rows = tensors["f"][tensors["bag"] == a]
        if len(rows):
            bag_losses.append((response - rows.mean()) ** 2)
            instance_losses.append(((response - rows) ** 2).mean())
    return (1 - rho) * torch.stack(bag_losses).mean() + rho * torch.stack(instance_losses).mean()


def quantiles(seed: int, variant: str) -> Tensors:
    b, tau, j = (1, 3, 1) if variant == "odd" else (4, 5, 3)
    return {
        "scores": uniform(b, tau, j, seed=seed),
        "q": 2 * uniform(b, tau, j, seed=seed + 1),
        "level": torch.arange(1, tau + 1, dtype=torch.float64) / (tau + 1),
        "y": 2 * uniform(b, seed=seed + 2),
    }


@oracle("quantile_aggregation", batch=quantiles, params=[{}, {"lam": 0.3, "delta": 0.5}], variants=("plain", "odd"))
def quantile_aggregation(tensors: Tensors, lam: float = 1.0, delta: float = 0.01) -> Tensor:
    """The pinball loss of the mixture at every level, and the crossing penalty of every pair of levels."""
    g = (torch.softmax(tensors["scores"], -1) * tensors["q"]).sum(-1)
    levels = tensors["level"]
    loss = torch.zeros(g.shape[0], dtype=g.dtype)
    for i, tau in enumerate(levels):
        error = tensors["y"] - g[:, i]
        loss = loss + torch.where(error >= 0, tau * error, (tau - 1) * error)
        for k in range(i + 1, len(levels)):
            loss = loss + lam * torch.relu(g[:, i] - g[:, k] + delta)
    return mean(loss)
