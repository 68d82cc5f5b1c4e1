"""Closed forms of the family `information`, each from the formula of its paper."""

from __future__ import annotations

import torch
from tests.oracles.batches import uniform
from tests.zoo.harness import Tensors, oracle
from torch import Tensor, nn


def bottleneck(seed: int, variant: str) -> Tensors:
    b, p, d = (2, 3, 1) if variant == "odd" else (6, 2, 3)
    return {
        "x": uniform(b, p, seed=seed),
        "t": uniform(b, d, seed=seed + 1),
        "yhat": uniform(b, seed=seed + 2),
        "y": uniform(b, seed=seed + 3),
    }


def gram(x: Tensor, y: Tensor, sigma: float) -> Tensor:
    """exp(-|x_i - y_j|^2 / (2 sigma^2))."""
    x, y = x.reshape(len(x), -1), y.reshape(len(y), -1)
    return torch.exp(-((x[:, None] - y[None, :]) ** 2).sum(-1) / (2 * sigma**2))


def quadratic_information(k: Tensor, t: Tensor) -> Tensor:
    """log2(tr(K T) / n^2) + log2(sum K sum T / n^4) - 2 log2(1' K T 1 / n^3)."""
    n, one = len(k), torch.ones(len(k), dtype=k.dtype)
    joint, marginal, cross = torch.trace(k @ t) / n**2, k.sum() * t.sum() / n**4, one @ k @ t @ one / n**3
    return torch.log2(joint) + torch.log2(marginal) - 2 * torch.log2(cross)


@oracle("cs_ib", batch=bottleneck, params=[{}, {"sigma": 0.5, "beta": 2.0}], variants=("plain", "odd"))
def cs_ib(tensors: Tensors, sigma: float = 1.0, beta: float = 0.01) -> Tensor:
    """D_CS(p(y|x); q(yhat|x)) + beta I_CS(x; t) / sqrt(I_CS(x; x) I_CS(t; t)) of the Gram matrices."""
    x, y, yhat = tensors["x"], tensors["y"], tensors["yhat"]
    k, t = gram(x, x, sigma), gram(tensors["t"], tensors["t"], sigma)
    d = (k**2).sum(1)

    def conditional(other: Tensor) -> Tensor:
        return torch.log2(((k * other).sum(1) / d).sum())

    divergence = conditional(gram(y, y, sigma)) + conditional(gram(yhat, yhat, sigma))
    divergence = divergence - 2 * conditional(gram(yhat, y, sigma))
    scale = (quadratic_information(k, k) * quadratic_information(t, t)).clamp(min=1e-18).sqrt()
    return divergence + beta * quadratic_information(k, t) / scale


class Critic(nn.Module):
    """tanh(x A) W y + c |y|^2 / 2, which is not linear in either argument."""

    def __init__(self, seed: int, d: int, e: int) -> None:
        super().__init__()
        self.a = nn.Parameter(uniform(d, d, seed=seed))
        self.w = nn.Parameter(uniform(d, e, seed=seed + 1))
        self.c = nn.Parameter(uniform(1, seed=seed + 2))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return ((torch.tanh(x @ self.a) @ self.w) * y).sum(-1) + self.c * (y**2).sum(-1) / 2


def criticised(seed: int, variant: str) -> Tensors:
    b, d, e = (2, 1, 3) if variant == "odd" else (5, 3, 2)
    return {
        "x": uniform(b, d, seed=seed),
        "y": uniform(b, e, seed=seed + 1),
        "f": Critic(seed + 2, d, e),
        "mix": (uniform(b, seed=seed + 5) + 1) / 2,
    }


@oracle("wasserstein_predictive_coding", batch=criticised, params=[{}, {"lam": 0.5}], variants=("plain", "odd"))
def wasserstein_predictive_coding(tensors: Tensors, lam: float = 10.0) -> Tensor:
    """InfoNCE over the critic's scores of all pairs, and the two-sided penalty on its slopes at mixed points."""
    x, y, f, mix = tensors["x"], tensors["y"], tensors["f"], tensors["mix"]
    b = len(x)
    scores = torch.stack([torch.stack([f(x[i : i + 1], y[j : j + 1])[0] for j in range(b)]) for i in range(b)])
    loss = torch.nn.functional.cross_entropy(scores, torch.arange(b))
    for i in range(b):
        at = mix[i] * y[i] + (1 - mix[i]) * y[(i + 1) % b]
        slopes = torch.autograd.grad(f(x[i : i + 1], at[None])[0], (x, at), create_graph=True)
        length = torch.cat([slopes[0][i], slopes[1]]).norm()
        loss = loss + lam * (length - 1) ** 2 / b
    return loss
