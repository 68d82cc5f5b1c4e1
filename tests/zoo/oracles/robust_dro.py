"""Closed forms of the family `robust_dro`, each from the formula of its paper, row by row."""

from __future__ import annotations

import math

import torch
from tests.oracles.batches import uniform
from tests.zoo.harness import Objective, Tensors, of_setting, oracle
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
