"""Closed forms of the family `regression`, each from the formula of its paper."""

from __future__ import annotations

import torch
from tests.oracles.batches import integers, uniform
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
def quantile_aggregation(tensors: Tensors, lam: float = 1.0, delta: float = 0.001) -> Tensor:
    """The pinball loss of the mixture, the mean over levels, and the crossing penalty, the mean over pairs of levels."""
    g = (torch.softmax(tensors["scores"], -1) * tensors["q"]).sum(-1)
    levels = tensors["level"]
    losses, crossings = [], []
    for i, tau in enumerate(levels):
        error = tensors["y"] - g[:, i]
        losses.append(torch.where(error >= 0, tau * error, (tau - 1) * error))
        crossings += [torch.relu(g[:, i] - g[:, k] + delta) for k in range(i + 1, len(levels))]
    return torch.stack(losses).mean() + lam * torch.stack(crossings).mean()
