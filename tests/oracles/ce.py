"""std.ce on rows: logits `z[n, v]`, labels `y[n]` (all present); one value for each row, in nats."""

from __future__ import annotations

import torch
from tests.oracles.rows import gathered
from torch import Tensor


def log_p(z: Tensor) -> Tensor:
    """log softmax along the last axis, by its definition around the row maximum."""
    centred = z - z.max(dim=-1, keepdim=True).values
    return centred - centred.exp().sum(dim=-1, keepdim=True).log()


def ce(z: Tensor, y: Tensor) -> Tensor:
    """-log p_y."""
    return -gathered(log_p(z), y)


def soft_ce(z: Tensor, q: Tensor) -> Tensor:
    """-sum_v q_v log p_v."""
    return -(q * log_p(z)).sum(-1)


def label_smoothing(z: Tensor, y: Tensor, eps: float = 0.1) -> Tensor:
    """Cross-entropy to (1 - eps) onehot(y) + eps / K (Szegedy et al. 2016)."""
    classes = z.shape[-1]
    target = torch.full_like(z, eps / classes)
    target = target.scatter_add(-1, y.unsqueeze(-1), torch.full_like(z[..., :1], 1 - eps))
    return -(target * log_p(z)).sum(-1)


def focal(z: Tensor, y: Tensor, gamma: float = 2.0) -> Tensor:
    """-(1 - p_y)^gamma log p_y (Lin et al. 2017)."""
    log_py = gathered(log_p(z), y)
    return -((-torch.expm1(log_py)) ** gamma) * log_py


def z_loss(z: Tensor) -> Tensor:
    """(log sum_v exp z_v)^2."""
    return torch.logsumexp(z, dim=-1) ** 2


def entropy(z: Tensor) -> Tensor:
    """-sum_v p_v log p_v."""
    return -(log_p(z).exp() * log_p(z)).sum(-1)


def gce(z: Tensor, y: Tensor, q: float = 0.7) -> Tensor:
    """(1 - p_y^q) / q (Zhang & Sabuncu 2018)."""
    return -torch.expm1(q * gathered(log_p(z), y)) / q


def poly1(z: Tensor, y: Tensor, eps: float = 1.0) -> Tensor:
    """-log p_y + eps (1 - p_y) (Leng et al. 2022)."""
    log_py = gathered(log_p(z), y)
    return -log_py + eps * (1 - log_py.exp())


def unlikelihood(z: Tensor, y: Tensor) -> Tensor:
    """-log(1 - p_y) (Welleck et al. 2020), as logsumexp over all minus logsumexp over the other classes."""
    others = z.scatter(-1, y.unsqueeze(-1), -torch.inf)
    return torch.logsumexp(z, -1) - torch.logsumexp(others, -1)


def tsallis_entropy(z: Tensor, q: float = 2.0) -> Tensor:
    """(1 - sum_v p_v^q) / (q - 1)."""
    return (1 - (q * log_p(z)).exp().sum(-1)) / (q - 1)


def dft(z: Tensor, y: Tensor) -> Tensor:
    """-sg(p_y) log p_y (Wu et al. 2025)."""
    log_py = gathered(log_p(z), y)
    return -log_py.detach().exp() * log_py


def symmetric_ce(z: Tensor, y: Tensor, alpha: float = 0.1, beta: float = 1.0, log_zero: float = -4.0) -> Tensor:
    """alpha CE(y, p) + beta RCE(p, y), log 0 replaced by `log_zero` (Wang et al. 2019)."""
    log_py = gathered(log_p(z), y)
    return -alpha * log_py - beta * log_zero * (1 - log_py.exp())


def bce(z: Tensor, y: Tensor) -> Tensor:
    """-y log sigma(z) - (1 - y) log(1 - sigma(z)), elementwise."""
    return torch.logaddexp(z, torch.zeros_like(z)) - y * z


def perplexity(z: Tensor, y: Tensor) -> Tensor:
    """exp of the mean cross-entropy."""
    return ce(z, y).mean().exp()
