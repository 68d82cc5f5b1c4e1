"""Closed forms of the family `multiobjective`, each from the formula of its paper."""

from __future__ import annotations

import torch
from tests.oracles.batches import uniform
from tests.zoo.harness import Tensors, oracle
from torch import Tensor


def tasks(seed: int, variant: str) -> Tensors:
    b, d, k = (1, 2, 1) if variant == "odd" else (4, 3, 2)
    return {"x": uniform(b, d, seed=seed), "y": uniform(b, 2, k, seed=seed + 1), "W": uniform(d, k, seed=seed + 2),
            "first": 1.5 + uniform(2, seed=seed + 3), "w": 1.5 + uniform(2, seed=seed + 4)}  # fmt: skip


@oracle("gradnorm", batch=tasks, params=[{}, {"alpha": 0.5}], variants=("plain", "odd"), steps=8, rate=0.01)
def gradnorm(tensors: Tensors, alpha: float = 1.5) -> Tensor:
    """sum_i |G_i - mean G r_i^alpha|, G_i the norm of the gradient of w_i L_i to W, the target a constant."""
    at = tensors["W"].clone().requires_grad_()
    shared, y = tensors["x"] @ at, tensors["y"]
    losses = [((shared - y[:, 0]) ** 2).mean(), (shared - y[:, 1]).abs().mean()]
    slopes = [torch.autograd.grad(loss, at, retain_graph=True)[0].norm() for loss in losses]
    sizes = torch.stack([w * slope for w, slope in zip(tensors["w"], slopes, strict=True)])
    pace = torch.stack(losses).detach() / tensors["first"]
    return (sizes - (sizes.mean() * (pace / pace.mean()) ** alpha).detach()).abs().sum()
