"""Closed forms of the family `rl_other`, each from the formula of its paper."""

from __future__ import annotations

import math

import torch
from tests.oracles.batches import scores, uniform
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
