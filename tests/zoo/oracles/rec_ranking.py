"""Closed forms of the family `rec_ranking`, each from the formula of its paper."""

from __future__ import annotations

import math
from itertools import product

import torch
from tests.oracles.batches import integers, lengths_mask, uniform
from tests.zoo.harness import Objective, Tensors, advanced, oracle
from tests.zoo.oracles.networks import Scores
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


def views(seed: int, variant: str) -> Tensors:
    b, d = (2, 1) if variant == "odd" else (4, 3)
    return {"x": uniform(b, d, seed=seed), "y": uniform(b, d, seed=seed + 1)}


@oracle("mw", batch=views, params=[{}, {"tau": 0.5}], variants=("plain", "odd"))
def mw(tensors: Tensors, tau: float = 0.01) -> Tensor:
    """-(1/B) sum_i sum_{k, j != k} log sigma((s_ii - s_kj) / tau) of cosines, by loops."""
    x, y = (rows / rows.pow(2).sum(-1, keepdim=True).sqrt() for rows in (tensors["x"], tensors["y"]))
    s, b = x @ y.T, len(x)
    wrong = [s[k, j] for k in range(b) for j in range(b) if k != j]
    return sum(softplus(-(s[i, i] - score) / tau) for i in range(b) for score in wrong) / b


def gated(seed: int, variant: str) -> Tensors:
    """Two features of five are in no row."""
    b, field, d = (1, 1, 2) if variant == "odd" else (4, 3, 2)
    return {
        "e": uniform(b, field, d, seed=seed),
        "feature": integers(b, field, high=3, seed=seed + 1),
        "y": (uniform(b, seed=seed + 2) + 1) / 2,
        "f": Scores(seed + 3, field * d),
        "m": uniform(5, seed=seed + 4),
    }


def half_of_four_steps(objective: Objective, tensors: Tensors) -> None:
    """Brings a run to its middle."""
    objective.total_steps = 4
    for _ in range(2 - objective.step):
        objective.advance()


@oracle(
    "optfs", batch=gated, params=[{"lam": 0.1, "last": 9}, {}], variants=("plain", "odd"), prepare=half_of_four_steps,
    load={"sizes": {"k": 5}}, steps=6,
)  # fmt: skip
def optfs(tensors: Tensors, lam: float = 1e-8, last: float = 200) -> Tensor:
    """BCE(f(g e), y) + lambda sum_k sigma(tau m_k), tau = sqrt(last) halfway, g = sigma(tau m) / sigma(1/2)."""
    opened = 1 / (1 + torch.exp(-math.sqrt(last) * tensors["m"]))
    gates = opened[tensors["feature"]] * (1 + math.exp(-0.5))
    p = 1 / (1 + torch.exp(-tensors["f"](gates[..., None] * tensors["e"])))
    y = tensors["y"]
    return -(y * p.log() + (1 - y) * (1 - p).log()).mean() + lam * opened.sum()


def answers(seed: int, variant: str) -> Tensors:
    b = 1 if variant == "odd" else 5
    return {"s": uniform(b, 2, seed=seed), "D": (uniform(b, seed=seed + 1) + 1) / 2}


@oracle("curriculum", batch=answers, params=[{"m": 8}, {"m": 2}], variants=("plain", "odd"), prepare=advanced(3))
def curriculum(tensors: Tensors, m: float = 1000) -> Tensor:
    """mean W l,  W = D + (1 - D) min(3 / m, 1),  l = log(1 + exp(s_other - s_relevant))."""
    grown = min(3 / m, 1)
    weight = tensors["D"] * (1 - grown) + grown
    return (weight * softplus(tensors["s"][:, 1] - tensors["s"][:, 0])).mean()


def graded(seed: int, variant: str) -> Tensors:
    """Whole grades, so that some are equal; masked, a query whose documents are of no use."""
    q, j = (1, 1) if variant == "odd" else (3, 4)
    s, y = uniform(q, j, seed=seed), integers(q, j, high=3, seed=seed + 1).double()
    y[:, 0] = 2
    here = torch.ones(q, j, dtype=torch.bool)
    if variant == "masked":
        here[1, 2], y[2] = False, 0
        s, y = torch.where(here, s, torch.nan), torch.where(here, y, torch.nan)
    return {"s": s, "y": y, "here": here}


@oracle("soft_rank", batch=graded, params=[{}, {"sigma": 0.3}], steps=6)
def soft_rank(tensors: Tensors, sigma: float = 1) -> Tensor:
    """The probability of each rank by all sets of documents that may be above one."""
    losses = []
    for s, y, here in zip(tensors["s"], tensors["y"], tensors["here"], strict=True):
        z, gain = s[here], 2 ** y[here] - 1
        ideal = sum(float(g) / math.log2(2 + r) for r, g in enumerate(sorted(gain.tolist(), reverse=True)))
        expected = torch.zeros((), dtype=s.dtype)
        for j in range(len(z)):
            beats = torch.special.ndtr((torch.cat([z[:j], z[j + 1 :]]) - z[j]) / (math.sqrt(2) * sigma))
            for above in product((0, 1), repeat=len(beats)):
                chance = torch.where(torch.tensor(above) > 0, beats, 1 - beats).prod()
                expected = expected + gain[j] * chance / math.log2(2 + sum(above))
        if ideal > 0:
            losses.append(-expected / ideal)
    return torch.stack(losses).mean()
