"""Closed forms of the family `survival`, each from the formula of its paper."""

from __future__ import annotations

import math

import torch
from tests.oracles.batches import integers, scores, uniform
from tests.zoo.harness import Tensors, oracle
from torch import Tensor


def patients(seed: int, variant: str) -> Tensors:
    """Times with ties; the first has an event."""
    b = 1 if variant == "odd" else 8
    event = (uniform(b, seed=seed + 2) > -0.3) | (torch.arange(b) == 0)
    return {"h": uniform(b, seed=seed), "time": 1.0 + integers(b, high=4, seed=seed + 1).double(), "event": event}


@oracle("cox_efron", batch=patients, variants=("plain", "odd"))
def cox_efron(tensors: Tensors) -> Tensor:
    """-sum over times of sum h_D - sum_l log(sum over R of exp h - l/m sum over D of exp h), over the events."""
    h, time, event = tensors["h"], tensors["time"], tensors["event"]
    loss = torch.zeros((), dtype=h.dtype)
    for now in sorted(set(time[event].tolist())):
        died = h[event & (time == now)]
        at_risk, m = h[time >= now].exp().sum(), len(died)
        loss = loss - died.sum() + sum(torch.log(at_risk - at / m * died.exp().sum()) for at in range(m))
    return loss / event.sum()


def bins(seed: int, variant: str) -> Tensors:
    """Nobody is censored in the last bin, where nothing can follow."""
    b, n = (1, 2) if variant == "odd" else (6, 5)
    event = uniform(b, seed=seed + 2) > -0.4
    return {"z": scores(b, n, seed=seed), "k": integers(b, high=n - 1, seed=seed + 1), "event": event}


@oracle("deephit", batch=bins, params=[{"alpha": 1, "sigma": 1}], variants=("plain", "odd"), steps=6)
def deephit(tensors: Tensors, alpha: float = 0.2, sigma: float = 0.1) -> Tensor:
    """-log p_k or -log of what follows k, and exp(-(F_i(k_i) - F_j(k_i)) / sigma) of the pairs that can be ordered."""
    p, k, event = tensors["z"].softmax(-1), tensors["k"], tensors["event"]
    b = len(k)
    likelihood = [torch.log(p[i, k[i]] if event[i] else p[i, k[i] + 1 :].sum()) for i in range(b)]
    pairs = [
        torch.exp((p[j, : k[i] + 1].sum() - p[i, : k[i] + 1].sum()) / sigma)
        for i in range(b)
        for j in range(b)
        if event[i] and k[i] < k[j]
    ]
    return -torch.stack(likelihood).mean() + alpha * sum(pairs, start=torch.zeros(())) / b**2


def failures(seed: int, variant: str) -> Tensors:
    b = 1 if variant == "odd" else 6
    return {"mu": uniform(b, seed=seed), "log_sigma": uniform(b, seed=seed + 1) / 2, "time": 2.0 + uniform(b, seed=seed + 2),
            "event": uniform(b, seed=seed + 3) > 0}  # fmt: skip


@oracle("lognormal_aft", batch=failures, variants=("plain", "odd"))
def lognormal_aft(tensors: Tensors) -> Tensor:
    """-log f(t) where the event was seen, -log S(t) where it was not."""
    spread, time = tensors["log_sigma"].exp(), tensors["time"]
    u = (time.log() - tensors["mu"]) / spread
    density = torch.exp(-(u**2) / 2) / (time * spread * math.sqrt(2 * math.pi))
    survival = torch.special.erfc(u / math.sqrt(2)) / 2
    return -torch.where(tensors["event"], density, survival).log().mean()
