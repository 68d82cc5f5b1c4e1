"""Closed forms of the family `unlearning`."""

from __future__ import annotations

import math

import torch
from tests.oracles.batches import integers, tokens, uniform
from tests.oracles.rows import mean
from tests.oracles.settings import token_nll
from tests.specs.variants import hidden, ignored
from tests.zoo.harness import Tensors, of_setting, oracle
from torch import Tensor


def without_reference(seed: int, variant: str) -> Tensors:
    """Two streams of tokens; no reference model is asked."""
    batch = of_setting("forget_retain")(seed, variant)
    return {name: tensor for name, tensor in batch.items() if not name.endswith("ref_logp")}


@oracle("simnpo", batch=without_reference, params=[{}, {"beta": 0.7, "gamma": 0.3, "lambda": 0.4}], rate=0.1)
def simnpo(tensors: Tensors, beta: float = 2.5, gamma: float = 0, **weight: float) -> Tensor:
    """-(2 / beta) E log sigma(-(beta / |y|) log pi(y|x) - beta gamma) + lambda E -log pi, the second a mean over tokens."""
    logits, labels, mask = (tensors[f"forget.{name}"] for name in ("logits", "labels", "mask"))
    rows = [token_nll(logits[i], labels[i], mask[i]) for i in range(labels.shape[0])]
    losses = [torch.log(1 + torch.exp(-(beta * nll.sum() / nll.numel() - beta * gamma))) for nll in rows if nll.numel()]
    kept = token_nll(tensors["retain.logits"], tensors["retain.labels"], tensors["retain.mask"])
    return 2 / beta * mean(torch.stack(losses)) + weight.get("lambda", 1) * mean(kept)


def two_answers(seed: int, variant: str) -> Tensors:
    """A template answer and one to be forgotten for each prompt."""
    b, t, v = (1, 3, 11) if variant == "odd" else (3, 5, 7)
    streams = {"template": tokens(seed, b, t, v), "forget": tokens(seed + 10, b, t + 1, v)}
    if variant == "masked":
        streams = {name: hidden(ignored(inner)) for name, inner in streams.items()}
    return {f"{stream}.{name}": x for stream, inner in streams.items() for name, x in inner.items()}


GENERATORS = {
    "total_variation": lambda v: v.tanh() / 2,
    "kl": lambda v: v,
    "jensen_shannon": lambda v: 2 / (1 + (-v).exp()),  # its exponential
    "pearson": lambda v: v,
}
CONJUGATES = {
    "total_variation": lambda v: v.tanh() / 2,
    "kl": lambda v: (v - 1).exp(),
    "jensen_shannon": lambda v: v + (1 + (-v).exp()).log() - math.log(2),
    "pearson": lambda v: v**2 / 4 + v,
}


@oracle("flat", batch=two_answers, params=[{}, *({"f": f} for f in ("kl", "jensen_shannon", "pearson"))])
def flat(tensors: Tensors, f: str = "total_variation") -> Tensor:
    """-E[g(P(y_e)) - f*(g(P(y_f)))], P the mean probability of a token; f*(g) as the table of f-GAN has it."""
    probabilities = []
    for stream in ("template", "forget"):
        rows = zip(*(tensors[f"{stream}.{name}"] for name in ("logits", "labels", "mask")), strict=True)
        probabilities.append([(-token_nll(*row)).exp() for row in rows])
    losses = []
    for e, y in zip(*probabilities, strict=True):
        if e.numel() and y.numel():
            g = GENERATORS[f](e.mean())
            losses.append(-((g.log() if f == "jensen_shannon" else g) - CONJUGATES[f](y.mean())))
    return torch.stack(losses).mean()


def attributed(seed: int, variant: str) -> Tensors:
    """Outputs, and what each training example adds to them, NaN where it stays."""
    x, i, k = (1, 3, 1) if variant == "odd" else (4, 5, 2)
    forget = integers(i, high=2, seed=seed + 3) > 0
    beta = torch.where(forget[:, None], uniform(x, i, k, seed=seed + 2), torch.nan)
    return {"f": uniform(x, k, seed=seed), "f_0": uniform(x, k, seed=seed + 1), "beta": beta, "forget": forget}


@oracle("dmm", batch=attributed, variants=("plain", "odd"))
def dmm(tensors: Tensors) -> Tensor:
    """E |f - (f_0 - sum of the attributions of what is forgotten)|^2."""
    oracle = tensors["f_0"] - tensors["beta"][:, tensors["forget"]].sum(1)
    return ((tensors["f"] - oracle) ** 2).sum(-1).mean()
