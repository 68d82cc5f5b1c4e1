"""Closed forms of the family `rec_ranking`, each from the formula of its paper."""

from __future__ import annotations

import math

import torch
from tests.oracles.batches import integers, lengths_mask, uniform
from tests.zoo.harness import Tensors, oracle
from torch import Tensor

softplus = torch.nn.functional.softplus


def lists(seed: int, variant: str) -> Tensors:
    """Documents with grades of which some are equal; masked, a list ends early and NaN follows."""
    q, doc = (1, 2) if variant == "odd" else (3, 6)
    rel = integers(q, doc, high=4, seed=seed + 1).double()
    rel[:, :2] = torch.tensor([2.0, 1.0])
    s, mask = uniform(q, doc, seed=seed), torch.ones(q, doc, dtype=torch.bool)
    if variant == "masked":
        mask = lengths_mask(q, doc, seed=seed + 2) | (torch.arange(doc) < 2)
        s[~mask] = torch.nan
    return {"s": s, "rel": rel, "mask": mask}


@oracle("lambdarank", batch=lists, params=[{"sigma": 2}], steps=6)
def lambdarank(tensors: Tensors, sigma: float = 1) -> Tensor:
    """sum_{i above j} |G_i - G_j| |1/D_i - 1/D_j| / IDCG log(1 + exp(-sigma (s_i - s_j)))."""
    losses = []
    for scores, rel, mask in zip(*tensors.values(), strict=True):
        s, grades = scores[mask], rel[mask].tolist()
        place = {int(doc): at for at, doc in enumerate(s.argsort(descending=True))}
        ideal = sum((2**g - 1) / math.log2(at + 2) for at, g in enumerate(sorted(grades, reverse=True)))
        loss = torch.zeros((), dtype=s.dtype)
        for i, g in enumerate(grades):
            for j, h in enumerate(grades):
                if g > h:
                    swap = abs(1 / math.log2(place[i] + 2) - 1 / math.log2(place[j] + 2)) * (2**g - 2**h) / ideal
                    loss = loss + swap * softplus(-sigma * (s[i] - s[j]))
        losses.append(loss)
    return torch.stack(losses).mean()


@oracle("listmle", batch=lists)
def listmle(tensors: Tensors) -> Tensor:
    """-log prod_r exp(s_(r)) / sum_{k >= r} exp(s_(k)) of the documents in their right order."""
    losses = []
    for scores, rel, mask in zip(*tensors.values(), strict=True):
        order = sorted(range(int(mask.sum())), key=lambda doc, grades=rel[mask]: -float(grades[doc]))
        s = scores[mask][order]
        losses.append(sum(torch.logsumexp(s[at:], 0) - s[at] for at in range(len(s))))
    return torch.stack(losses).mean()


def items(seed: int, variant: str) -> Tensors:
    b, n = (1, 1) if variant == "odd" else (5, 7)
    return {"pos": 2 * uniform(b, seed=seed), "neg": 2 * uniform(b, n, seed=seed + 1)}


@oracle("warp", batch=items, variants=("plain", "odd"))
def warp(tensors: Tensors) -> Tensor:
    """sum_{k <= rank} 1/k times the mean hinge of the violators."""
    losses = []
    for pos, neg in zip(tensors["pos"], tensors["neg"], strict=True):
        violators = [1 + n - pos for n in neg if bool(1 + n - pos > 0)]
        weight = sum(1 / (k + 1) for k in range(len(violators)))
        losses.append(weight * torch.stack(violators).mean() if violators else 0 * pos)
    return torch.stack(losses).mean()
