"""Closed forms of the family `calibration`, each from the formula of its paper, one example or window at a time."""

from __future__ import annotations

import torch
from tests.oracles.batches import integers, scores, uniform
from tests.zoo.harness import Tensors, oracle
from torch import Tensor

CLASSES = 3
BINS = 4


def scored(seed: int, variant: str) -> Tensors:
    """Scores of a classifier, right for some examples, and temperatures."""
    b, v = (1, 11) if variant == "odd" else (6, 4)
    labels = integers(b, high=v, seed=seed + 1)
    if variant == "masked":
        labels[1::3] = -1
    return {"scores": scores(b, v, seed=seed), "labels": labels, "temperature": 1.5 + uniform(b, seed=seed + 2)}


@oracle("correctness_aware", batch=scored)
def correctness_aware(tensors: Tensors) -> Tensor:
    """(max_k softmax(z / T)_k - 1[argmax z = y])^2."""
    losses = []
    for z, y, tau in zip(tensors["scores"], tensors["labels"].tolist(), tensors["temperature"], strict=True):
        if y >= 0:
            losses.append(((z / tau).softmax(-1).max() - float(int(z.argmax()) == y)) ** 2)
    return torch.stack(losses).mean()


def events(seed: int, variant: str) -> Tensors:
    """Examples and classes, flat: probabilities of the events, whether they came true, and the class of the example."""
    examples = 2 if variant == "odd" else 7
    p = scores(examples, CLASSES, seed=seed).softmax(-1)
    labels = torch.arange(examples) % CLASSES
    y = torch.nn.functional.one_hot(labels, CLASSES).bool()
    return {"p": p.flatten(), "y": y.flatten(), "class": labels.repeat_interleave(CLASSES)}


@oracle(
    "h_calibration", batch=events, variants=("plain", "odd"), load={"sizes": {"k": CLASSES, "bin": BINS}},
    params=[{"h": 2}, {"h": 1, "eps": 0.05}], rate=0.01,
)  # fmt: skip
def h_calibration(tensors: Tensors, h: int = 100, eps: float = 0) -> Tensor:
    """mean_k mean_bins mean [|MA(p (1 - y)) - MA((1 - p) y)| - eps]_+ over the events of examples not of class k, in order."""
    errors = []
    for k in range(CLASSES):
        here = tensors["class"] != k
        p, order = tensors["p"][here].sort()
        y = tensors["y"][here][order].double()
        gaps = []
        for m in range(len(p)):
            window = slice(max(m - h, 0), m + h + 1)
            below, above = (p * (1 - y))[window].sum(), ((1 - p) * y)[window].sum()
            gaps.append(((below - above).abs() / (2 * h + 1) - eps).clamp(min=0))
        for i in range(BINS):
            inside = (p.detach() >= i / BINS) & (p.detach() <= (i + 1) / BINS)
            errors.append(torch.stack(gaps)[inside].mean() if bool(inside.any()) else p.new_zeros(()))
    return torch.stack(errors).mean()
