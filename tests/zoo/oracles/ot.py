"""Closed forms of the family `ot`, each from the formula of its paper."""

from __future__ import annotations

from itertools import combinations, product

import torch
from tests.oracles.batches import classes, scores, uniform
from tests.specs.variants import ignored
from tests.zoo.harness import Tensors, oracle
from tests.zoo.oracles.networks import Scores, frozen
from torch import Tensor

CARDINALITY = 2
"""The k of `topk` in the file."""


def transports(seed: int, variant: str) -> Tensors:
    p, i, j = (1, 3, 1) if variant == "odd" else (2, 5, 4)
    return {
        "u": uniform(p, i, seed=seed),
        "C": 1 + uniform(p, i, j, seed=seed + 1),
        "a": torch.softmax(uniform(p, i, seed=seed + 2), -1),
        "b": torch.softmax(uniform(p, j, seed=seed + 3), -1),
    }


def sparse_conjugate(s: Tensor, mass: Tensor, gamma: float, k: int) -> Tensor:
    """max <s, t> - gamma / 2 |t|^2 over t >= 0 with sum t = mass and at most k nonzeros, by trying every support."""
    best: Tensor | None = None
    for size in range(1, k + 1):
        for support in combinations(range(len(s)), size):
            chosen = s[list(support)]
            t = (chosen - (chosen.sum() - gamma * mass) / size) / gamma
            value = (chosen * t - gamma / 2 * t**2).sum()
            if bool((t >= 0).all()) and (best is None or value > best):
                best = value
    assert best is not None
    return best


@oracle("sparsity_constrained_ot", batch=transports, params=[{}, {"gamma": 2.0}], variants=("plain", "odd"))
def sparsity_constrained_ot(tensors: Tensors, gamma: float = 0.1, k: int = CARDINALITY) -> Tensor:
    """-(<u, a> - sum_j f*_j(u - c_j)), the mean over problems."""
    duals = []
    for u, c, a, b in zip(tensors["u"], tensors["C"], tensors["a"], tensors["b"], strict=True):
        columns = [sparse_conjugate(u - c[:, j], b[j], gamma, k) for j in range(len(b))]
        duals.append((u * a).sum() - torch.stack(columns).sum())
    return -torch.stack(duals).mean()


def distilled(seed: int, variant: str) -> Tensors:
    b, v = (1, 3) if variant == "odd" else (5, 4)
    batch: Tensors = classes(seed, b, v) | {"teacher": scores(b, v, seed=seed + 4)}
    return ignored(batch) if variant == "masked" else batch


def normalised_plan(cost: Tensor, eps: float, steps: int) -> Tensor:
    """exp(-cost / eps) with its rows, then its columns, divided by their sums, `steps` times."""
    plan = torch.exp(-cost / eps)
    for _ in range(steps):
        plan = plan / plan.sum(1, keepdim=True)
        plan = plan / plan.sum(0, keepdim=True)
    return plan


@oracle("sinkd", batch=distilled, params=[{}, {"alpha": 0.3, "beta": 0.7, "tau": 1.5, "eps": 0.4}])
def sinkd(tensors: Tensors, alpha: float = 0.8, beta: float = 0.0016, tau: float = 3.0, eps: float = 0.1) -> Tensor:
    """(1 - alpha) CE + alpha CE(softmax(teacher / tau), student / tau) + beta <K, D> of the whole batch."""
    z, teacher, labels = tensors["logits"], tensors["teacher"], tensors["labels"]
    rows = labels >= 0
    s, t = torch.softmax(z / 2, -1), torch.softmax(teacher / 2, -1)
    cost = (s[:, None] - t[None, :]).abs().sum(-1)
    loss = (1 - alpha) * torch.nn.functional.cross_entropy(z[rows], labels[rows])
    loss = loss - alpha * (torch.softmax(teacher / tau, -1) * torch.log_softmax(z / tau, -1)).sum(-1).mean()
    return loss + beta * (normalised_plan(cost, eps, 20) * cost).sum()


def transported(seed: int, variant: str) -> Tensors:
    """The target has few labels, and none of one class; masked, a row of the source has none either."""
    b, n, d = (1, 1, 2) if variant == "odd" else (5, 6, 2)
    class_x, class_y = torch.arange(b) % 3, torch.arange(n) % 2
    class_y[4:] = -1
    if variant == "masked":
        class_x[1] = -100
    return {"Tx": uniform(b, d, seed=seed), "y": uniform(n, d, seed=seed + 1), "class_x": class_x, "class_y": class_y,
            "v": Scores(seed + 2, d), "held": Scores(seed + 2, d)}  # fmt: skip


def mean_distance(x: Tensor, y: Tensor) -> Tensor:
    """The mean of |x_i - y_j|; the distance of a point to itself has no gradient."""
    pairs = [(p - q).pow(2).sum().sqrt() if p is not q else (p - q).sum() for p in x for q in y]
    return torch.stack(pairs).mean()


@oracle("gnot", batch=transported, steps=6, load={"sizes": {"k": 3}})
def gnot(tensors: Tensors) -> Tensor:
    """sum_k E^2(T#P_k, Q_k) - E v'(T(x)) + E v(T(x)) - E v(y) over the classes that both have."""
    x, y, v = tensors["Tx"], tensors["y"], tensors["v"]
    loss = v(x.detach()).mean() - v(y).mean() - frozen(tensors["held"])(x).mean()
    for k in range(3):
        p, q = list(x[tensors["class_x"] == k]), list(y[tensors["class_y"] == k])
        if p and q:
            loss = loss + mean_distance(p, q) - (mean_distance(p, p) + mean_distance(q, q)) / 2
    return loss


def series(seed: int, variant: str) -> Tensors:
    lengths = ([1], [2]) if variant == "odd" else ([4, 2, 3], [3, 3, 1])
    b, d = len(lengths[0]), 1 if variant == "odd" else 2
    x, y = (uniform(b, max(each), d, seed=seed + at) for at, each in enumerate(lengths))
    in_x, in_y = (torch.arange(max(each)) < torch.tensor(each)[:, None] for each in lengths)
    if variant == "masked":
        x, y = (torch.where(inside[..., None], z, torch.nan) for inside, z in ((in_x, x), (in_y, y)))
    return {"x": x, "y": y, "in_x": in_x, "in_y": in_y}


@oracle("soft_dtw", batch=series, params=[{}, {"gamma": 0.1}], steps=6)
def soft_dtw(tensors: Tensors, gamma: float = 1) -> Tensor:
    """r_ij = |x_i - y_j|^2 - gamma log sum exp(-r / gamma) of the three cells before."""
    losses = []
    for x, y, in_x, in_y in zip(*(tensors[name] for name in ("x", "y", "in_x", "in_y")), strict=True):
        n, m = int(in_x.sum()), int(in_y.sum())
        r: dict[tuple[int, int], Tensor] = {}
        for i, j in product(range(n), range(m)):
            before = [r[cell] for cell in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if cell in r]
            r[i, j] = (x[i] - y[j]).square().sum()
            if before:
                r[i, j] = r[i, j] - gamma * (-torch.stack(before) / gamma).logsumexp(0)
        losses.append(r[n - 1, m - 1])
    return torch.stack(losses).mean()
