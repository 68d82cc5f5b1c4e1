"""Closed forms of the family `rl_other`, each from the formula of its paper."""

from __future__ import annotations

import math

import torch
from tests.oracles.batches import integers, scores, uniform
from tests.zoo.harness import Tensors, oracle
from torch import Tensor


def transitions(seed: int, variant: str) -> Tensors:
    """Where an episode ends there is no next state: its scores are NaN in the variant `masked`."""
    b, i = (1, 11) if variant == "odd" else (4, 21)
    done = torch.arange(b) % 3 == 1
    following = scores(b, i, seed=seed + 1)
    if variant == "masked":
        following[done] = torch.nan
    return {"logits": scores(b, i, seed=seed), "next_logits": following, "r": uniform(b, seed=seed + 2), "done": done}


def normal_cdf(x: Tensor) -> Tensor:
    return (1 + torch.special.erf(x / math.sqrt(2))) / 2


def histogram(y: Tensor, edges: Tensor, s: Tensor) -> Tensor:
    """The mass of a normal distribution around `y` in each bin, renormalised on the range."""
    below = normal_cdf((edges - y.unsqueeze(-1)) / s)
    return (below[:, 1:] - below[:, :-1]) / (below[:, -1:] - below[:, :1])


@oracle("hl_gauss", batch=transitions, params=[{}, {"v_min": -2, "v_max": 3, "gamma": 0.5, "ratio": 2}])
def hl_gauss(
    tensors: Tensors, v_min: float = -10, v_max: float = 10, gamma: float = 0.99, ratio: float = 0.75
) -> Tensor:
    """-sum_i q_i log softmax(l)_i,  q_i = Phi((z_i + d/2 - y)/s) - Phi((z_i - d/2 - y)/s) renormalised."""
    bins = tensors["logits"].shape[-1]
    edges = torch.linspace(v_min, v_max, bins + 1, dtype=torch.float64)
    centres = (edges[1:] + edges[:-1]) / 2
    y = tensors["r"].clone()
    for n in range(len(y)):
        if not bool(tensors["done"][n]):
            y[n] = y[n] + gamma * (tensors["next_logits"][n].softmax(-1) * centres).sum()
    q = histogram(y, edges, ratio * (edges[1] - edges[0]))
    return -(q * tensors["logits"].log_softmax(-1)).sum(-1).mean()


def atoms(seed: int, variant: str) -> Tensors:
    b, n, i = (1, 1, 3) if variant == "odd" else (3, 2, 4)
    done = torch.arange(b) % 3 == 1
    z, following = (uniform(b, n, i, seed=seed + at) for at in range(2))
    return {"z": z, "next": following, "r": uniform(b, seed=seed + 2), "done": done}


@oracle("tqc", batch=atoms, params=[{}, {"drop": 2, "gamma": 0.5}], variants=("plain", "odd"))
def tqc(tensors: Tensors, drop: int = 1, gamma: float = 0.99) -> Tensor:
    """The quantile Huber loss of every atom of every critic to the kept atoms of the target, smallest first."""
    z, following, r, done = tensors.values()
    b, n, i = z.shape
    losses = []
    for row in range(b):
        kept = following[row].flatten().sort().values[: n * (i - drop)]
        for at in range(n * i):
            u = r[row] + gamma * (0 if done[row] else 1) * kept - z[row].flatten()[at]
            size = torch.where(u.abs() <= 1, u**2 / 2, u.abs() - 0.5)
            losses.append(((((at % i) + 0.5) / i - (u < 0).to(u.dtype)).abs() * size).mean())
    return torch.stack(losses).mean()


def steps(seed: int, variant: str) -> Tensors:
    """Where an episode ends there is no next state: its scores are NaN in the variant `masked`."""
    b, a, n = (1, 2, 3) if variant == "odd" else (4, 3, 5)
    done = torch.arange(b) % 3 == 1
    return {"logits": scores(b, a, n, seed=seed), "next": scores(b, a, n, seed=seed + 1),
            "taken": integers(b, high=a, seed=seed + 2), "r": 2 * uniform(b, seed=seed + 3), "done": done}  # fmt: skip


@oracle("c51", batch=steps, params=[{"low": -1, "high": 3, "gamma": 0.5}], variants=("plain", "odd"), steps=6)
def c51(tensors: Tensors, low: float = -10, high: float = 10, gamma: float = 0.99) -> Tensor:
    """The projection of the paper's algorithm: each atom's mass goes to the two atoms beside where it moves."""
    losses = []
    for z, following, taken, r, done in zip(*tensors.values(), strict=True):
        n = z.shape[-1]
        width, m, p = (high - low) / (n - 1), [0.0] * n, following.softmax(-1)
        best = int((p * torch.linspace(low, high, n, dtype=z.dtype)).sum(-1).argmax())
        for j in range(n):
            to = min(max(float(r) + (0 if done else gamma * (low + width * j)), low), high)
            below, above = math.floor((to - low) / width), math.ceil((to - low) / width)
            share = (to - low) / width - below
            m[below] += float(p[best, j]) * (1 - share)
            m[above] += float(p[best, j]) * share
        losses.append(-(torch.tensor(m, dtype=z.dtype) * z[taken].log_softmax(-1)).sum())
    return torch.stack(losses).mean()


def soft(seed: int, variant: str) -> Tensors:
    """Masked, nothing is known of what follows the end of an episode."""
    b = 1 if variant == "odd" else 5
    done = torch.arange(b) % 3 == 1
    next_q, next_logp = uniform(b, 2, seed=seed + 3), uniform(b, seed=seed + 4)
    if variant == "masked":
        next_q[done], next_logp[done] = torch.nan, torch.nan
    return {"q": uniform(b, 2, seed=seed), "q_pi": uniform(b, 2, seed=seed + 1), "logp": uniform(b, seed=seed + 2),
            "next_q": next_q, "next_logp": next_logp, "r": uniform(b, seed=seed + 5), "done": done,
            "log_alpha": torch.tensor(0.3, dtype=torch.float64)}  # fmt: skip


@oracle("sac", batch=soft, params=[{"gamma": 0.5, "target": -1}])
def sac(tensors: Tensors, gamma: float = 0.99, target: float = -3) -> Tensor:
    """sum_i E (Q_i - y)^2 / 2 + E(alpha log pi - min Q) - E alpha (log pi + target)."""
    alpha = tensors["log_alpha"].exp()
    held = float(alpha.detach())
    backed = [
        float(r) if done else float(r) + gamma * (float(q.min()) - held * float(logp))
        for r, done, q, logp in zip(tensors["r"], tensors["done"], tensors["next_q"], tensors["next_logp"], strict=True)
    ]
    y = torch.tensor(backed, dtype=torch.float64)
    critic = sum(((q - y) ** 2).mean() for q in tensors["q"].T) / 2
    actor = (held * tensors["logp"] - tensors["q_pi"].min(dim=1).values).mean()
    return critic + actor - alpha * (tensors["logp"].detach() + target).mean()


def advantages(seed: int, variant: str) -> Tensors:
    b = 2 if variant == "odd" else 7
    eta = torch.tensor(0.8, dtype=torch.float64)
    return {"logp": uniform(b, seed=seed), "advantage": uniform(b, seed=seed + 1), "eta": eta}


@oracle("v_mpo", batch=advantages, params=[{"eps": 0.5}], variants=("plain", "odd"))
def v_mpo(tensors: Tensors, eps: float = 0.02) -> Tensor:
    """-sum psi log pi + eta eps + eta log mean exp(A / eta) over the better half."""
    logp, advantage, eta = tensors.values()
    best = advantage.topk(len(logp) // 2).indices
    weights = (advantage[best] / eta.detach()).exp()
    policy = -(weights / weights.sum() * logp[best]).sum()
    return policy + eta * eps + eta * (advantage[best] / eta).exp().mean().log()
