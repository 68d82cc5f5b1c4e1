"""Closed forms of the family `other`, each from the formula of its paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise, product

import torch
from tests.oracles.batches import integers, uniform
from tests.zoo.harness import Tensors, oracle
from torch import Tensor


def subsets(seed: int, variant: str) -> Tensors:
    """Masked, one subset is empty: its determinant is 1."""
    b, i, d = (1, 2, 1) if variant == "odd" else (3, 5, 3)
    chosen = uniform(b, i, seed=seed + 1) > 0
    if variant == "masked":
        chosen[1] = False
    return {"f": uniform(b, i, d, seed=seed), "chosen": chosen}


@oracle("dpp", batch=subsets, params=[{"jitter": 0.5}])
def dpp(tensors: Tensors, jitter: float = 0.1) -> Tensor:
    """log det(L + I) - log det(L_Y), L_Y the rows and columns of the chosen items."""
    losses = []
    for f, chosen in zip(tensors["f"], tensors["chosen"], strict=True):
        eye = torch.eye(len(f), dtype=f.dtype)
        kernel = f @ f.T + jitter * eye
        losses.append(torch.logdet(kernel + eye) - torch.logdet(kernel[chosen][:, chosen]))
    return torch.stack(losses).mean()


def games(seed: int, variant: str) -> Tensors:
    b, i, j = (1, 1, 2) if variant == "odd" else (3, 3, 2)
    payoffs = {"u_row": uniform(b, 2, i, j, seed=seed + 2), "u_column": uniform(b, 2, i, j, seed=seed + 3)}
    return {"row": uniform(i, seed=seed), "column": uniform(j, seed=seed + 1), **payoffs}


def projected(payoffs: Tensor, strategy: Tensor, tau: float) -> Tensor:
    """The slope of the payoff with entropy, less its mean."""
    g = payoffs - tau * (strategy.log() + 1)
    return g - g.mean()


@oracle("nash", batch=games, params=[{}, {"tau": 1, "eta_1": 2, "eta_2": 0.5}], variants=("plain", "odd"))
def nash(tensors: Tensors, tau: float = 0.1, eta_1: float = 1, eta_2: float = 1) -> Tensor:
    """sum_k eta_k <Pi g_k, Pi g'_k> of the two halves of the samples."""
    x, y = tensors["row"].softmax(-1), tensors["column"].softmax(-1)
    u_row, u_column = tensors["u_row"].mean(0), tensors["u_column"].mean(0)
    row = [projected(u_row[half] @ y, x, tau) for half in range(2)]
    column = [projected(x @ u_column[half], y, tau) for half in range(2)]
    return eta_1 * row[0] @ row[1] + eta_2 * column[0] @ column[1]


def judged_answers(seed: int, variant: str) -> Tensors:
    b = 1 if variant == "odd" else 6
    return {"r": uniform(b, seed=seed), "right": uniform(b, seed=seed + 1) > 0}


@oracle("reject_fixed", batch=judged_answers, params=[{}, {"c": 0.4, "alpha": 1}], variants=("plain", "odd"))
def reject_fixed(tensors: Tensors, c: float = 0.2, alpha: float = 4) -> Tensor:
    """exp(alpha / 2 (r - a)) + c exp(-beta r)."""
    beta = alpha / (2 * c) * (c * math.exp(alpha / 2) + (1 - c) * math.exp(-alpha / 2))
    a = 2 * tensors["right"].to(torch.float64) - 1
    return (torch.exp(alpha / 2 * (tensors["r"] - a)) + c * torch.exp(-beta * tensors["r"])).mean()


def tagged_sentences(seed: int, variant: str) -> Tensors:
    """Sentences of several lengths, one word among them; masked, one without words too."""
    b, t, k = (1, 1, 2) if variant == "odd" else (4, 4, 3)
    words = torch.arange(t) < torch.tensor([t, 1, 3, 2][:b]).unsqueeze(1)
    z, y = uniform(b, t, k, seed=seed), integers(b, t, high=k, seed=seed + 1)
    if variant == "masked":
        words[3] = False
        z[~words], y = torch.nan, torch.where(words, y, -1)
    tags = {"begin": uniform(k, seed=seed + 2), "end": uniform(k, seed=seed + 3), "A": uniform(k, k, seed=seed + 4)}
    return {"z": z, "y": y, "words": words, **tags}


@oracle("crf", batch=tagged_sentences)
def crf(tensors: Tensors) -> Tensor:
    """log sum_y' exp s(y') - s(y), over all paths y'."""
    begin, end, steps = tensors["begin"], tensors["end"], tensors["A"]
    losses = []
    for z, y, words in zip(tensors["z"], tensors["y"], tensors["words"], strict=True):

        def score(path: Sequence[int], z: Tensor = z) -> Tensor:
            own = sum(row[tag] for row, tag in zip(z, path, strict=False))
            return begin[path[0]] + own + sum(steps[before, tag] for before, tag in pairwise(path)) + end[path[-1]]

        if n := int(words.sum()):
            paths = product(range(z.shape[-1]), repeat=n)
            losses.append(torch.stack([score(path) for path in paths]).logsumexp(0) - score(y[:n].tolist()))
    return torch.stack(losses).mean()
