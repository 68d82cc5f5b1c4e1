"""std.contrastive: scores `s[b, j]` of all pairs, the positives on the diagonal; embeddings `[n, d]`."""

from __future__ import annotations

import torch
from tests.oracles.ce import ce
from tests.oracles.preference import log_sigmoid
from torch import Tensor


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """<x, y> / (|x| |y|)."""
    return (x * y).sum(-1) / ((x**2).sum(-1).sqrt() * (y**2).sum(-1).sqrt())


def all_pairs(x: Tensor, y: Tensor) -> Tensor:
    """cosine(x_b, y_j) for every b and j."""
    return cosine(x[:, None, :], y[None, :, :])


def info_nce(s: Tensor, tau: float = 0.07) -> Tensor:
    """-log(exp(s_bb / tau) / sum_j exp(s_bj / tau)) (van den Oord et al. 2018)."""
    return ce(s / tau, torch.arange(s.shape[0]))


def sigmoid_pairs(s: Tensor, scale: float = 10.0, bias: float = -10.0) -> Tensor:
    """sum_j -log sigma(z (scale s + bias)), z = 1 on the diagonal and -1 elsewhere (Zhai et al. 2023)."""
    z = 2 * torch.eye(s.shape[0], dtype=s.dtype) - 1
    return -log_sigmoid(z * (scale * s + bias)).sum(-1)


def triplet(a: Tensor, p: Tensor, n: Tensor, margin: float = 1.0) -> Tensor:
    """max(0, |a - p| - |a - n| + margin) (Schroff et al. 2015)."""
    return torch.relu(torch.linalg.norm(a - p, dim=-1) - torch.linalg.norm(a - n, dim=-1) + margin)


def cosine_distance(x: Tensor, y: Tensor) -> Tensor:
    """1 - cosine."""
    return 1 - cosine(x, y)


def sup_con(s: Tensor, y: Tensor, tau: float = 0.1) -> Tensor:
    """Mean over the other members of the class of -log(exp(s_bp / tau) / sum_{j != b} exp(s_bj / tau)), by loops.

    Khosla et al. 2020, the outer form; one value for each row that has another member of its class.
    """
    rows = []
    for b in range(s.shape[0]):
        others = [j for j in range(s.shape[0]) if j != b]
        positives = [j for j in others if y[j] == y[b]]
        if positives:
            partition = torch.logsumexp(s[b, others] / tau, dim=0)
            rows.append(partition - (s[b, positives] / tau).mean())
    return torch.stack(rows) if rows else 0 * s[:0].sum(-1)
