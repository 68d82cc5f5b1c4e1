"""Closed forms of the family `ce`, each from the formula of its paper, row by row."""

from __future__ import annotations

import torch
from tests.oracles.batches import integers, uniform
from tests.oracles.rows import gathered, mean
from tests.oracles.settings import sequence_logp
from tests.zoo.harness import Tensors, of_setting, oracle
from tests.zoo.oracles.attacks import ascended, network
from torch import Tensor


def labelled(tensors: Tensors, *names: str) -> tuple[Tensor, ...]:
    """The tensors of the rows that have a label, and their labels."""
    rows = tensors["labels"] >= 0
    return (*(tensors[name][rows] for name in names), tensors["labels"][rows])


@oracle("z_loss", batch=of_setting("classes"), params=[{}, {"a": 0.3, "b": 10}])
def z_loss(tensors: Tensors, a: float = 1, b: float = 3) -> Tensor:
    """(1/a) log(1 + exp(a (b - z_c))),  z = (o - mean o) / sqrt(mean o^2 - (mean o)^2)."""
    o, c = labelled(tensors, "logits")
    mu = o.sum(-1, keepdim=True) / o.shape[-1]
    sigma = ((o**2).sum(-1, keepdim=True) / o.shape[-1] - mu**2).sqrt()
    z = gathered((o - mu) / sigma, c)
    return mean((1 + (a * (b - z)).exp()).log() / a)


@oracle("dco", batch=of_setting("tokens"), params=[{}, {"N": 1}, {"N": 2.5}])
def dco(tensors: Tensors, N: float = 16) -> Tensor:  # noqa: N803 (the paper's letter)
    """-log(1 - (1 - p)^N) with p of the whole sequence, in logarithms."""
    rows = zip(tensors["logits"], tensors["labels"], tensors["mask"], strict=True)
    logps = [sequence_logp(*row) for row in rows]
    p = torch.stack([logp for logp in logps if logp is not None]).exp()
    return mean(-torch.log(-torch.expm1(N * torch.log1p(-p))))


def with_features(tensors: Tensors, seed: int) -> Tensors:
    return {"features": uniform(len(tensors["labels"]), 6, seed=seed + 9)}


@oracle("bias_loss", batch=of_setting("classes", with_features, b=6), params=[{}, {"alpha": 0, "beta": 0}])
def bias_loss(tensors: Tensors, alpha: float = 0.3, beta: float = 0.3) -> Tensor:
    """-z(v_i) log p_y,  z(v) = exp(alpha v) - beta,  v the unbiased variance of the features scaled over the batch."""
    variance = tensors["features"].detach().var(-1, correction=1)
    v = (variance - variance.min()) / (variance.max() - variance.min())
    o, y, z = tensors["logits"], tensors["labels"], (alpha * v).exp() - beta
    rows = [i for i in range(len(y)) if int(y[i]) >= 0]
    return torch.stack([z[i] * (o[i].logsumexp(-1) - o[i, y[i]]) for i in rows]).mean()


def prototypes(seed: int, variant: str) -> Tensors:
    b, d, v = (1, 5, 11) if variant == "odd" else (5, 3, 7)
    labels = integers(b, high=v, seed=seed + 2)
    x = 2 * uniform(b, d, seed=seed)
    if variant == "masked":
        labels[1], x[1] = -100, torch.nan
    return {"x": x, "w": 2 * uniform(v, d, seed=seed + 1), "labels": labels}


DISTANCES = ("euclidean", "cosine", "manhattan", "minkowski", "bray_curtis")


def distance(kind: str, x: Tensor, w: Tensor, order: float = 3) -> Tensor:
    """The distances of one row to every prototype, by definition."""
    if kind == "cosine":
        return torch.stack([1 - (x * p).sum() / (x.norm() * p.norm()) for p in w])
    if kind == "bray_curtis":
        return torch.stack([(x - p).abs().sum() / (x + p).abs().sum() for p in w])
    power = {"euclidean": 2.0, "manhattan": 1.0, "minkowski": order}[kind]
    return torch.stack([((x - p).abs() ** power).sum() ** (1 / power) for p in w])


@oracle(
    "harmonic",
    batch=prototypes,
    params=[{"distance": kind} for kind in DISTANCES] + [{"n": 4}],
    stays="norm",
)
def harmonic(tensors: Tensors, distance: str = "euclidean", n: float = 1, eps: float = 1e-4) -> Tensor:
    """n log d_y + log sum_j d_j^(-n)."""
    rows = [i for i, y in enumerate(tensors["labels"].tolist()) if y >= 0]
    log_d = torch.stack([(_distance(distance, tensors["x"][i], tensors["w"]) + eps).log() for i in rows])
    return mean(n * gathered(log_d, tensors["labels"][rows]) + (-n * log_d).logsumexp(-1))


_distance = distance


def with_network(tensors: Tensors, seed: int) -> Tensors:
    """An input, a network and where its attack begins, which is drawn otherwise."""
    b, v = tensors["logits"].shape
    return {"x": uniform(b, 3, seed=seed + 5), "net": network(3, v), "start": uniform(b, 3, seed=seed + 6) / 50}


@oracle(
    "comp_sum",
    batch=of_setting("classes", with_network),
    params=[{}, {"t": 0, "nu": 0.5}, {"t": 1.7, "rho": 2, "gamma": 0.3}, {"t": 2, "nu": 0}],
    stays="a model is called in it",
)
def comp_sum(tensors: Tensors, t: float = 1, rho: float = 1, nu: float = 1, gamma: float = 0.03) -> Tensor:
    """((1 + u)^(1 - t) - 1) / (1 - t),  u = sum_{k != y} exp((h_k - h_y) / rho),  + nu |Delta(x', y) - Delta(x, y)|."""
    h, x, y = labelled(tensors, "logits", "x")
    delta = gathered(h, y).unsqueeze(-1) - h
    others = torch.arange(h.shape[-1]) != y.unsqueeze(-1)
    u = ((-delta / rho).exp() * others).sum(-1)
    family = (1 + u).log() if t == 1 else ((1 + u) ** (1 - t) - 1) / (1 - t)

    def moved(e: Tensor) -> Tensor:
        far = tensors["net"](x + e)
        return (gathered(far, y).unsqueeze(-1) - far - delta).norm(dim=-1)

    start = tensors["start"][tensors["labels"] >= 0]
    return mean(family + nu * moved(ascended(moved, start, gamma, steps=10)))
