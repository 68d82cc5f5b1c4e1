"""std.divergence on rows `[n, v]`: divergences of two distributions, given by logits or by probabilities, in nats."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from tests.oracles.ce import log_p
from torch import Tensor


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(softmax p || softmax q) = sum_v P (log P - log Q)."""
    return (log_p(p).exp() * (log_p(p) - log_p(q))).sum(-1)


def jeffreys(p: Tensor, q: Tensor) -> Tensor:
    """KL(P || Q) + KL(Q || P)."""
    return ((log_p(p).exp() - log_p(q).exp()) * (log_p(p) - log_p(q))).sum(-1)


def gjs(p: Tensor, q: Tensor, beta: float = 0.5) -> Tensor:
    """beta KL(P || M) + (1 - beta) KL(Q || M), M = beta P + (1 - beta) Q."""
    a, b = log_p(p), log_p(q)
    m = torch.logsumexp(torch.stack([a + math.log(beta), b + math.log1p(-beta)]), dim=0)
    return beta * (a.exp() * (a - m)).sum(-1) + (1 - beta) * (b.exp() * (b - m)).sum(-1)


def js(p: Tensor, q: Tensor) -> Tensor:
    """Jensen-Shannon divergence, between 0 and log 2."""
    return gjs(p, q, 0.5)


def tv(p: Tensor, q: Tensor) -> Tensor:
    """sum_v |P - Q| / 2."""
    return (log_p(p).exp() - log_p(q).exp()).abs().sum(-1) / 2


def hellinger(p: Tensor, q: Tensor) -> Tensor:
    """Squared Hellinger distance 1 - sum_v sqrt(P Q)."""
    return 1 - ((log_p(p) + log_p(q)) / 2).exp().sum(-1)


def renyi(p: Tensor, q: Tensor, alpha: float = 0.5) -> Tensor:
    """log sum_v P^alpha Q^(1 - alpha) / (alpha - 1)."""
    return torch.logsumexp(alpha * log_p(p) + (1 - alpha) * log_p(q), -1) / (alpha - 1)


def skew_kl(p: Tensor, q: Tensor, alpha: float = 0.1) -> Tensor:
    """KL(P || alpha P + (1 - alpha) Q) (Ko et al. 2024)."""
    a, b = log_p(p), log_p(q)
    m = torch.logaddexp(a + math.log(alpha), b + math.log1p(-alpha))
    return (a.exp() * (a - m)).sum(-1)


def fdiv(f: Callable[[Tensor], Tensor], p: Tensor, q: Tensor) -> Tensor:
    """sum_v Q f(P / Q)."""
    return (log_p(q).exp() * f((log_p(p) - log_p(q)).exp())).sum(-1)


GENERATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "f_kl": lambda u: u * u.log(),
    "f_reverse_kl": lambda u: -u.log(),
    "f_js": lambda u: (u * (2 * u / (1 + u)).log() + (2 / (1 + u)).log()) / 2,
    "f_tv": lambda u: (u - 1).abs() / 2,
    "f_chi2": lambda u: (u - 1) ** 2,
    "f_hellinger": lambda u: (u.sqrt() - 1) ** 2 / 2,
}


def kl_prob(p: Tensor, q: Tensor) -> Tensor:
    """sum over v with p_v > 0 of p_v log(p_v / q_v)."""
    ratio = torch.where(p > 0, p, torch.ones_like(p)).log() - torch.where(p > 0, q, torch.ones_like(q)).log()
    return (p * ratio).sum(-1)


def js_prob(p: Tensor, q: Tensor) -> Tensor:
    """(KL(p || m) + KL(q || m)) / 2, m = (p + q) / 2."""
    m = (p + q) / 2
    return (kl_prob(p, m) + kl_prob(q, m)) / 2


def tv_prob(p: Tensor, q: Tensor) -> Tensor:
    """sum_v |p - q| / 2."""
    return (p - q).abs().sum(-1) / 2


def entropy_prob(p: Tensor) -> Tensor:
    """-sum over v with p_v > 0 of p_v log p_v."""
    return -(p * torch.where(p > 0, p, torch.ones_like(p)).log()).sum(-1)


def distill(z: Tensor, teacher: Tensor, tau: float = 2.0) -> Tensor:
    """tau^2 KL(softmax(teacher / tau) || softmax(z / tau)) (Hinton et al. 2015)."""
    return tau**2 * kl(teacher / tau, z / tau)
