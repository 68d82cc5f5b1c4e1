"""Closed forms of the family `imbalance`, each from the formula of its paper."""

from __future__ import annotations

import torch
from tests.oracles.batches import uniform
from tests.oracles.rows import kept
from tests.zoo.harness import Tensors, of_setting, oracle
from torch import Tensor


def dsc(p: Tensor, y: Tensor, alpha: float, gamma: float) -> Tensor:
    """1 - (2 (1-p)^alpha p y + gamma) / ((1-p)^alpha p + y + gamma) of each example and class."""
    easy = (1 - p) ** alpha * p
    return 1 - (2 * easy * y + gamma) / (easy + y + gamma)


def dice_of_batch(p: Tensor, y: Tensor, gamma: float) -> Tensor:
    """1 - (2 sum p y + gamma) / (sum p^2 + sum y^2 + gamma) of each class."""
    return 1 - (2 * (p * y).sum(0) + gamma) / ((p**2).sum(0) + (y**2).sum(0) + gamma)


def tversky(p: Tensor, y: Tensor, gamma: float, fp: float, fn: float) -> Tensor:
    """1 - (TP + gamma) / (TP + a FP + b FN + gamma) of each class."""
    tp, false_pos, false_neg = (p * y).sum(0), (p * (1 - y)).sum(0), ((1 - p) * y).sum(0)
    return 1 - (tp + gamma) / (tp + fp * false_pos + fn * false_neg + gamma)


@oracle(
    "dice",
    batch=of_setting("tokens"),
    params=[{}, {"alpha": 0, "gamma": 0.01}, {"form": "dice"}, {"form": "tversky", "fp": 0.3, "fn": 0.7}],
)
def dice(
    tensors: Tensors, form: str = "dsc", alpha: float = 1, gamma: float = 1, fp: float = 0.5, fn: float = 0.5
) -> Tensor:
    """The mean over classes, and over examples where the loss is of each."""
    keep = kept(tensors["labels"], tensors["mask"])
    p = tensors["logits"][keep].softmax(-1)
    y = torch.nn.functional.one_hot(tensors["labels"][keep], p.shape[-1]).to(p)
    if form == "dsc":
        return dsc(p, y, alpha, gamma).mean()
    return dice_of_batch(p, y, gamma).mean() if form == "dice" else tversky(p, y, gamma, fp, fn).mean()


def binary(seed: int, variant: str) -> Tensors:
    b = 5 if variant == "odd" else 8
    return {"z": uniform(b, seed=seed) / 10, "y": torch.arange(b) % 3 == 0}


@oracle(
    "anyloss",
    batch=binary,
    params=[{"metric": m} for m in ("accuracy", "f_beta", "g_mean", "balanced")] + [{"L": 20, "beta": 2}],
    variants=("plain", "odd"),
    rate=0.01,
)
def anyloss(tensors: Tensors, metric: str = "f_beta", L: float = 73, beta: float = 1) -> Tensor:  # noqa: N803
    """1 - metric(TP, FN, FP, TN) of yh = 1 / (1 + exp(-L (p - 0.5)))."""
    y = tensors["y"].to(torch.float64)
    yh = 1 / (1 + (-L * (1 / (1 + (-tensors["z"]).exp()) - 0.5)).exp())
    tp, fn, fp, tn = (y * yh).sum(), (y * (1 - yh)).sum(), ((1 - y) * yh).sum(), ((1 - y) * (1 - yh)).sum()
    precision, recall, specificity = tp / (tp + fp), tp / (tp + fn), tn / (tn + fp)
    return (
        1
        - {
            "accuracy": (tp + tn) / len(y),
            "f_beta": (1 + beta**2) * precision * recall / (beta**2 * precision + recall),
            "g_mean": (recall * specificity).sqrt(),
            "balanced": (recall + specificity) / 2,
        }[metric]
    )


def with_likelihoods(tensors: Tensors, seed: int) -> Tensors:
    return {"likelihood": (uniform(len(tensors["labels"]), seed=seed + 7) + 1) / 2}


@oracle("dataset_equity", batch=of_setting("classes", with_likelihoods), params=[{}, {"eta": 0.2, "gamma": 2}])
def dataset_equity(tensors: Tensors, eta: float = 1, gamma: float = 5) -> Tensor:
    """mean (eta + (1 - p)^gamma) / (eta + 1) CE of the rows that have a label."""
    rows = tensors["labels"] >= 0
    nll = torch.nn.functional.cross_entropy(tensors["logits"][rows], tensors["labels"][rows], reduction="none")
    return ((eta + (1 - tensors["likelihood"][rows]) ** gamma) / (eta + 1) * nll).mean()


def many_labels(seed: int, variant: str) -> Tensors:
    b, k = (1, 3) if variant == "odd" else (4, 5)
    held = {"lambda": torch.tensor(0.7, dtype=torch.float64), "kappa": torch.tensor(1.3, dtype=torch.float64)}
    return {"z": 2 * uniform(b, k, seed=seed), "y": uniform(b, k, seed=seed + 1) > 0.3, **held}


@oracle("apa", batch=many_labels, variants=("plain", "odd"))
def apa(tensors: Tensors) -> Tensor:
    """Binary cross-entropy of p = (lambda exp(-kappa z) + 1)^(-1 / lambda)."""
    p = (tensors["lambda"] * torch.exp(-tensors["kappa"] * tensors["z"]) + 1) ** (-1 / tensors["lambda"])
    return -torch.where(tensors["y"], p.log(), (1 - p).log()).mean()
