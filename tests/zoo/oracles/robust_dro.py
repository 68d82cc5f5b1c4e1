"""Closed forms of the family `robust_dro`, each from the formula of its paper, row by row."""

from __future__ import annotations

import math

import torch
from tests.oracles.batches import integers, uniform
from tests.zoo.harness import Objective, Tensors, of_setting, oracle
from tests.zoo.oracles.attacks import ascended, network
from torch import Tensor

TEMPERATURES = 1.1 + uniform(9, seed=40)
"""What the training examples have been visited with."""


def with_ids(tensors: Tensors, seed: int) -> Tensors:
    return {"id": (7 * torch.arange(len(tensors["labels"])) + seed) % 9}


def visited(objective: Objective, tensors: Tensors) -> None:
    """Temperatures that earlier visits left."""
    objective.state["lambda"].copy_(TEMPERATURES)


def margins(f: Tensor, y: int, c: float) -> Tensor:
    """f_k - f_y + c 1[k != y]."""
    return f - f[y] + c * (torch.arange(len(f)) != y)


@oracle(
    "aldr_kl",
    batch=of_setting("classes", with_ids),
    params=[{}, {"lambda_0": 0.7, "alpha": 1.5, "c": 0}],
    prepare=visited,
    load={"sizes": {"example": 9}},
)
def aldr_kl(tensors: Tensors, lambda_0: float = 1, alpha: float = 2, c: float = 0.1) -> Tensor:
    """lambda_i log mean_k exp((f_k - f_y + c 1[k != y]) / lambda_i) - (alpha log K) / (2 lambda_0) (lambda_i - lambda_0)^2.

    lambda_i = lambda_0 - lambda_0 KL(p_i, uniform) / (alpha log K), p_i the softmax of the margins at the stored lambda_i.
    """
    losses = []
    for f, y, i in zip(tensors["logits"], tensors["labels"].tolist(), tensors["id"], strict=True):
        if y < 0:
            continue
        h, log_k = margins(f, y, c), math.log(len(f))
        p = (h.detach() / TEMPERATURES[i]).softmax(-1)
        now = lambda_0 - lambda_0 * (p * (p * len(f)).log()).sum() / (alpha * log_k)
        worst = now * (h / now).exp().mean().log()
        losses.append(worst - alpha * log_k / (2 * lambda_0) * (now - lambda_0) ** 2)
    return torch.stack(losses).mean()


def attackable(seed: int, variant: str) -> Tensors:
    b, d, v = (1, 5, 11) if variant == "odd" else (4, 3, 5)
    labels = integers(b, high=v, seed=seed + 1)
    if variant == "masked":
        labels[1] = -1
    return {"x": uniform(b, d, seed=seed), "labels": labels, "net": network(d, v)}


@oracle("done", batch=attackable, params=[{}, {"r": 0.1, "eps": 0.5}, {"r": 50}])
def done(tensors: Tensors, r: float = 1, eps: float = 0.03) -> Tensor:
    """r log mean_i exp(l(x_i + delta_i) / r),  delta_i the worst in a ball of the largest entry."""
    rows = tensors["labels"] >= 0
    x, y = tensors["x"][rows], tensors["labels"][rows]

    def loss(e: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(tensors["net"](x + e), y, reduction="none")

    attacked = loss(ascended(loss, torch.zeros_like(x), eps, steps=10))
    return r * (attacked / r).exp().mean().log()
