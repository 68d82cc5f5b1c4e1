"""Objectives over a class axis: the text of one row in the language, and the same row in torch, written by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lossc.compiler import intervals as iv
from lossc.compiler.core import Input, Node, Param, Reduce, apply, const, mul
from lossc.compiler.formula import formula

B, V, K = 5, 7, 2

NAMES: dict[str, Node] = {
    "z": Input("z", ("b", "v"), "logits"),
    "t": Input("t", ("b", "v"), "logits"),
    "q": Input("q", ("b", "v"), "prob", iv.UNIT),
    "w": Input("w", ("v",), "positive", iv.POSITIVE),
    "bias": Input("bias", ("v",)),
    "keep": Input("keep", ("b", "v"), "mask"),
    "y": Input("y", ("b",), "label", iv.INTEGER),
    "ys": Input("ys", ("b", "k"), "label", iv.INTEGER),
    "tau": Param("tau", "learn", (), iv.POSITIVE),
    "gamma": Param("gamma", "learn", (), iv.POSITIVE),
    "weight": Input("weight", ("b",), "nonneg", iv.NONNEG),
}

Batch = dict[str, Tensor]
Row = Callable[..., Tensor]


@dataclass(frozen=True)
class Objective:
    """`text` and `row` say the same for a row; `levels` sweeps; `invariant`: shifting z and t changes nothing."""

    text: str
    row: Row
    levels: int
    invariant: bool = True

    @property
    def root(self) -> Node:
        """The weighted sum over the rows that have a label."""
        row = formula(self.text, NAMES)
        return Reduce("sum", ("b",), mul(NAMES["weight"], row), apply("le", const(0), NAMES["y"]))

    def loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The same with torch."""
        rows = torch.stack([self._row(batch, at) for at in range(B) if int(batch["y"][at]) >= 0])
        return (batch["weight"][batch["y"] >= 0] * rows).sum()

    def _row(self, batch: Mapping[str, Tensor], at: int) -> Tensor:
        names = self.row.__code__.co_varnames[: self.row.__code__.co_argcount]
        return self.row(*(batch[n][at] if "b" in getattr(NAMES[n], "order", ()) else batch[n] for n in names))


def batch(seed: int = 0, dtype: torch.dtype = torch.float64) -> Batch:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    keep = torch.rand(B, V, generator=generator) < 0.7
    y = torch.randint(V, (B,), generator=generator)
    keep[torch.arange(B), y] = True
    y[-1] = -1
    values = {
        "z": normal(B, V) * 2, "t": normal(B, V) * 2, "q": normal(B, V).softmax(-1), "w": normal(V).exp(), "bias": normal(V),
        "keep": keep, "y": y, "ys": torch.randint(V, (B, K), generator=generator), "weight": normal(B).abs(),
        "tau": torch.tensor(1.7, dtype=torch.float64), "gamma": torch.tensor(1.4, dtype=torch.float64),
    }  # fmt: skip
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in values.items()}


# ------------------------------------------------------------------------------------------------ rows in torch


def p(z: Tensor) -> Tensor:
    return z.exp() / z.exp().sum()


def lse(z: Tensor) -> Tensor:
    return z.exp().sum().log()


def nll(z: Tensor, y: Tensor) -> Tensor:
    return lse(z) - z[y]


def kl(a: Tensor, b: Tensor) -> Tensor:
    return (p(a) * (p(a).log() - p(b).log())).sum()


def js(z: Tensor, t: Tensor) -> Tensor:
    m = (p(z) + p(t)) / 2
    return (p(z) * (p(z) / m).log() + p(t) * (p(t) / m).log()).sum() / 2


def others(z: Tensor, y: Tensor) -> Tensor:
    return torch.cat([z[:y], z[y + 1 :]])


def cosface(z: Tensor, y: Tensor, gamma: Tensor) -> Tensor:
    margin = torch.zeros_like(z)
    margin[y] = 1
    return nll(4 * (z - gamma * margin), y)


OBJECTIVES: dict[str, Objective] = {
    "cross-entropy": Objective("logsumexp[v](z) - z[v = y]", nll, 1),
    "label smoothing": Objective(
        "logsumexp[v](z) - 0.9 * z[v = y] - 0.1 * mean[v](z)", lambda z, y: 0.9 * nll(z, y) - 0.1 * p(z).log().mean(), 1
    ),
    "z-loss": Objective("logsumexp[v](z)^2", lambda z: lse(z) ** 2, 1, False),
    "entropy": Objective("-sum[v](softmax[v](z) * log_softmax[v](z))", lambda z: -(p(z) * p(z).log()).sum(), 1),
    "four terms": Objective(
        "logsumexp[v](z) - 0.9 * z[v = y] - 0.1 * mean[v](z) + 0.01 * logsumexp[v](z)^2"
        " + 0.2 * sum[v](softmax[v](z) * log_softmax[v](z))",
        lambda z, y: 0.9 * nll(z, y) - 0.1 * p(z).log().mean() + 0.01 * lse(z) ** 2 + 0.2 * (p(z) * p(z).log()).sum(), 1,
        False,
    ),
    "focal": Objective(
        "(1 - softmax[v](z)[v = y])^gamma * -log_softmax[v](z)[v = y]",
        lambda z, y, gamma: (1 - p(z)[y]) ** gamma * nll(z, y), 1,
    ),
    "generalised cross-entropy": Objective(
        "(1 - softmax[v](z)[v = y]^0.7) / 0.7", lambda z, y: (1 - p(z)[y] ** 0.7) / 0.7, 1
    ),
    "coverage of N draws": Objective(
        "-log(1 - (1 - softmax[v](z)[v = y])^8)", lambda z, y: -(1 - (1 - p(z)[y]) ** 8).log(), 1
    ),
    "unlikelihood": Objective("-log1mexp(log_softmax[v](z)[v = y])", lambda z, y: -(1 - p(z)[y]).log(), 1),
    "poly-1": Objective(
        "-log_softmax[v](z)[v = y] + 2 * (1 - softmax[v](z)[v = y])", lambda z, y: nll(z, y) + 2 * (1 - p(z)[y]), 1
    ),
    "KL": Objective("sum[v](softmax[v](t) * (log_softmax[v](t) - log_softmax[v](z)))", lambda z, t: kl(t, z), 1),
    "reverse KL": Objective("sum[v](softmax[v](z) * (log_softmax[v](z) - log_softmax[v](t)))", lambda z, t: kl(z, t), 1),
    "Jensen-Shannon": Objective(
        "sum[v](exp(log_softmax[v](z)) * (log_softmax[v](z) - logaddexp(log_softmax[v](z), log_softmax[v](t)) + log(2))"
        " + exp(log_softmax[v](t)) * (log_softmax[v](t) - logaddexp(log_softmax[v](z), log_softmax[v](t)) + log(2))) / 2",
        js, 2,
    ),
    "total variation": Objective(
        "sum[v](abs(softmax[v](z) - softmax[v](t))) / 2", lambda z, t: (p(z) - p(t)).abs().sum() / 2, 2
    ),
    "Hellinger": Objective(
        "1 - sum[v](sqrt(softmax[v](z) * softmax[v](t)))", lambda z, t: 1 - (p(z) * p(t)).sqrt().sum(), 1
    ),
    "chi-square": Objective(
        "sum[v]((softmax[v](z) - softmax[v](t))^2 / softmax[v](t))", lambda z, t: ((p(z) - p(t)) ** 2 / p(t)).sum(), 1
    ),
    "Renyi of learned order": Objective(
        "log(sum[v](softmax[v](z)^gamma * softmax[v](t)^(1 - gamma))) / (gamma - 1)",
        lambda z, t, gamma: (p(z) ** gamma * p(t) ** (1 - gamma)).sum().log() / (gamma - 1), 1,
    ),
    "alpha-divergence": Objective(
        "(1 - sum[v](softmax[v](z)^0.3 * softmax[v](t)^0.7)) / 0.21",
        lambda z, t: (1 - (p(z) ** 0.3 * p(t) ** 0.7).sum()) / 0.21, 1,
    ),
    "Tsallis entropy": Objective("(1 - sum[v](softmax[v](z)^3)) / 2", lambda z: (1 - (p(z) ** 3).sum()) / 2, 1),
    "f-divergence": Objective(
        "sum[v](softmax[v](t) * (softmax[v](z) / softmax[v](t) - 1)^2 / (softmax[v](z) / softmax[v](t) + 1))",
        lambda z, t: (p(t) * (p(z) / p(t) - 1) ** 2 / (p(z) / p(t) + 1)).sum(), 2,
    ),
    "learned temperature": Objective(
        "logsumexp[v](z / tau) - z[v = y] / tau", lambda z, y, tau: nll(z / tau, y), 1
    ),
    "distillation": Objective(
        "tau^2 * sum[v](softmax[v](t / tau) * (log_softmax[v](t / tau) - log_softmax[v](z / tau))) - log_softmax[v](z)[v = y]",
        lambda z, t, y, tau: tau**2 * kl(t / tau, z / tau) + nll(z, y), 1,
    ),
    "soft targets": Objective("-sum[v](q * log_softmax[v](z))", lambda z, q: -(q * p(z).log()).sum(), 1),
    "focal with soft targets": Objective(
        "-sum[v](q * (1 - softmax[v](z))^gamma * log_softmax[v](z))",
        lambda z, q, gamma: -(q * (1 - p(z)) ** gamma * p(z).log()).sum(), 2,
    ),
    "focal with soft targets, squared": Objective(
        "-sum[v](q * (1 - softmax[v](z))^2 * log_softmax[v](z))", lambda z, q: -(q * (1 - p(z)) ** 2 * p(z).log()).sum(), 1
    ),
    "multi-label": Objective(
        "sum[v](softplus(z) - q * z)", lambda z, q: (torch.log1p(z.exp()) - q * z).sum(), 1, False
    ),
    "multi-label and cross-entropy": Objective(
        "sum[v](softplus(z) - q * z) - log_softmax[v](z)[v = y]",
        lambda z, q, y: (torch.log1p(z.exp()) - q * z).sum() + nll(z, y), 1, False,
    ),
    "vocabulary mask and bias": Objective(
        "logsumexp[v where keep](z + bias) - (z + bias)[v = y]",
        lambda z, bias, keep, y: lse((z + bias)[keep]) - (z + bias)[y], 1,
    ),
    "logit adjustment": Objective(
        "logsumexp[v](z + tau * log(w)) - z[v = y] - tau * log(w[v = y])",
        lambda z, w, y, tau: nll(z + tau * w.log(), y), 1,
    ),
    "class weights": Objective("-w[v = y] * log_softmax[v](z)[v = y]", lambda z, w, y: w[y] * nll(z, y), 1),
    "class weights on soft targets": Objective(
        "-sum[v](w * q * log_softmax[v](z))", lambda z, w, q: -(w * q * p(z).log()).sum(), 1
    ),
    "any of several labels": Objective(
        "logsumexp[v](z) - logsumexp[k](z[v = ys])", lambda z, ys: lse(z) - lse(z[ys]), 1
    ),
    "mean over several labels": Objective(
        "-mean[k](log_softmax[v](z)[v = ys])", lambda z, ys: lse(z) - z[ys].mean(), 1
    ),
    "a set of right classes": Objective(
        "logsumexp[v](z) - logsumexp[v where keep](z)", lambda z, keep: lse(z) - lse(z[keep]), 1
    ),
    "largest margin": Objective(
        "max(0, 1 + max[v where index[v] != y](z) - z[v = y])",
        lambda z, y: torch.relu(1 + others(z, y).max() - z[y]), 1,
    ),
    "sum of margins": Objective(
        "sum[v where index[v] != y](max(0, gamma + z - z[v = y]))",
        lambda z, y, gamma: torch.relu(gamma + others(z, y) - z[y]).sum(), 1,
    ),
    "additive margin": Objective(
        "logsumexp[v](4 * (z - gamma * (index[v] == y))) - 4 * (z[v = y] - gamma)", cosface, 1
    ),
    "soft cap": Objective(
        "logsumexp[v](30 * tanh(z / 30)) - 30 * tanh(z[v = y] / 30)",
        lambda z, y: nll(30 * torch.tanh(z / 30), y), 1, False,
    ),
    "Brier": Objective("sum[v]((softmax[v](z) - q)^2)", lambda z, q: ((p(z) - q) ** 2).sum(), 1),
    "mean absolute error": Objective("1 - softmax[v](z)[v = y]", lambda z, y: 1 - p(z)[y], 1),
    "entropy-regularised": Objective(
        "-log_softmax[v](z)[v = y] + tau * sum[v](softmax[v](z) * log_softmax[v](z))",
        lambda z, y, tau: nll(z, y) + tau * (p(z) * p(z).log()).sum(), 1,
    ),
    "confidence": Objective("-max[v](log_softmax[v](z))", lambda z: -p(z).log().max(), 1),
    "spread of logits": Objective("std[v](z) + var[v](t)", lambda z, t: z.std(correction=0) + t.var(correction=0), 1),
    "exponential margin": Objective(
        "sum[v where index[v] != y](exp(z - z[v = y]))", lambda z, y: (others(z, y) - z[y]).exp().sum(), 1
    ),
    "self-distillation": Objective(
        "-sum[v](sg(softmax[v](z)) * log_softmax[v](t))", lambda z, t: -(p(z).detach() * p(t).log()).sum(), 1
    ),
    "negative exponents": Objective(
        "logsumexp[v](-w * z) + logsumexp[v](-t) + t[v = y]",
        lambda z, t, w, y: lse(-w * z) + lse(-t) + t[y], 1, False,
    ),
    "expected cost": Objective(
        "sum[v](softmax[v](z) * abs(index[v] - y))",
        lambda z, y: (p(z) * (torch.arange(V) - y).abs()).sum(), 1,
    ),
    "log of a mass": Objective(
        "-log(sum[v where keep](softmax[v](z)))", lambda z, keep: -p(z)[keep].sum().log(), 1
    ),
    "squared distance of logits": Objective("mean[v]((z - t)^2)", lambda z, t: ((z - t) ** 2).mean(), 1),
    "normalised entropy": Objective(
        "-sum[v](softmax[v](z) * log_softmax[v](z)) / log(size[v])", lambda z: -(p(z) * p(z).log()).sum() / math.log(V), 1
    ),
}  # fmt: skip
