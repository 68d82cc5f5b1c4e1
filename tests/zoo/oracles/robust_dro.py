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


@oracle("mart", batch=attackable, params=[{"eps": 0.5, "lam": 1}], steps=5)
def mart(tensors: Tensors, eps: float = 0.03, lam: float = 5) -> Tensor:
    """-log p_y - log(1 - max_{k != y} p_k) of the attacked example + lambda KL(clean, attacked) (1 - p_y(clean))."""
    rows = tensors["labels"] >= 0
    x, y, net = tensors["x"][rows], tensors["labels"][rows], tensors["net"]

    def loss(e: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(net(x + e), y, reduction="none")

    point = ascended(loss, torch.zeros_like(x), eps, steps=10)
    losses = []
    for clean, attacked, k in zip(net(x).softmax(-1), net(x + point).softmax(-1), y.tolist(), strict=True):
        others = torch.cat([attacked[:k], attacked[k + 1 :]])
        divergence = (clean * (clean / attacked).log()).sum()
        losses.append(-attacked[k].log() - (1 - others.max()).log() + lam * divergence * (1 - clean[k]))
    return torch.stack(losses).mean()


def with_groups(tensors: Tensors, seed: int) -> Tensors:
    """Two of three groups have members."""
    return {"g": 2 * (torch.arange(len(tensors["labels"])) % 2), "q": torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)}


@oracle("group_dro", batch=of_setting("classes", with_groups), params=[{"eta": 1}], load={"sizes": {"group": 3}}, steps=6)
def group_dro(tensors: Tensors, eta: float = 0.01) -> Tensor:
    """sum_g q_g L_g,  q_g exp(eta L_g) normalised."""
    y, z, g = tensors["labels"], tensors["logits"], tensors["g"]
    members = [[i for i in range(len(y)) if g[i] == k and y[i] >= 0] for k in range(3)]
    risks = [torch.stack([-z[i].log_softmax(-1)[y[i]] for i in rows]).mean() if rows else None for rows in members]
    grown = [q if risk is None else q * (eta * risk.detach()).exp() for q, risk in zip(tensors["q"], risks, strict=True)]
    return sum((w * risk for w, risk in zip(grown, risks, strict=True) if risk is not None), torch.zeros(())) / sum(grown)


def environments(seed: int, variant: str) -> Tensors:
    env, b, v = (1, 1, 3) if variant == "odd" else (2, 4, 3)
    labels = integers(env, b, high=v, seed=seed + 1)
    if variant == "masked":
        labels[1, 1] = -1
    return {"logits": 2 * uniform(env, b, v, seed=seed), "labels": labels, "w": torch.ones(env, dtype=torch.float64)}


@oracle("irm", batch=environments, params=[{"lam": 10}], steps=6)
def irm(tensors: Tensors, lam: float = 1) -> Tensor:
    """sum_e R_e + lambda (dR_e(w z) / dw at w = 1)^2; the slope of -log softmax(w z)_y is sum_v p_v z_v - z_y."""
    loss = torch.zeros((), dtype=torch.float64)
    for z, y in zip(tensors["logits"], tensors["labels"], strict=True):
        z, y = z[y >= 0], y[y >= 0]
        own = z[torch.arange(len(y)), y]
        slope = ((z.softmax(-1) * z).sum(-1) - own).mean()
        loss = loss + (z.logsumexp(-1) - own).mean() + lam * slope**2
    return loss


def isotonic(y: list[float]) -> list[float]:
    """Pool adjacent violators: the closest ascending numbers."""
    blocks: list[list[float]] = []
    for value in y:
        blocks.append([value, 1.0])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            (a, m), (c, n) = blocks[-2:]
            blocks[-2:] = [[(a * m + c * n) / (m + n), m + n]]
    return [mean for mean, length in blocks for _ in range(int(length))]


@oracle("prospect", batch=of_setting("classes"), params=[{}, {"nu": 0.05, "draws": 4}, {"nu": 0.3, "draws": 1.5}])
def prospect(tensors: Tensors, nu: float = 1, draws: float = 2) -> Tensor:
    """q l - nu n |q - 1/n|^2 at the worst q, the projection of l / (2 nu n) + 1/n on the permutahedron of sigma."""
    rows = tensors["labels"] >= 0
    losses = torch.nn.functional.cross_entropy(tensors["logits"][rows], tensors["labels"][rows], reduction="none")
    n = len(losses)
    order = losses.detach().argsort()
    s = [float(losses[i].detach()) / (2 * nu * n) + 1 / n for i in order]
    sigma = [((i + 1) / n) ** draws - (i / n) ** draws for i in range(n)]
    v = isotonic([a - c for a, c in zip(s, sigma, strict=True)])
    q = torch.tensor([a - c for a, c in zip(s, v, strict=True)], dtype=losses.dtype)
    return (q * losses[order]).sum() - nu * n * ((q - 1 / n) ** 2).sum()
