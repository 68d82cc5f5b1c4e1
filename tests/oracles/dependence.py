"""std.dependence: matrices `[n, n]` of all pairs, centred by a matrix product."""

from __future__ import annotations

import torch
from torch import Tensor


def centred(d: Tensor) -> Tensor:
    """H D H with H = I - 1 1' / n."""
    n = d.shape[0]
    h = torch.eye(n, dtype=d.dtype) - torch.full((n, n), 1 / n, dtype=d.dtype)
    return h @ d @ h


def distance_covariance(d: Tensor, e: Tensor) -> Tensor:
    """mean_ij A_ij B_ij (Szekely, Rizzo & Bakirov 2007)."""
    return (centred(d) * centred(e)).mean()


def distance_correlation(d: Tensor, e: Tensor) -> Tensor:
    """dCov^2(D, E) / sqrt(dCov^2(D, D) dCov^2(E, E)); 0 where nothing varies."""
    return distance_covariance(d, e) / (distance_covariance(d, d) * distance_covariance(e, e)).clamp(min=1e-24).sqrt()


def hsic(k: Tensor, kernel: Tensor) -> Tensor:
    """tr(K H L H) / n^2 (Gretton et al. 2008)."""
    return torch.trace(k @ centred(kernel)) / k.shape[0] ** 2


def distances(x: Tensor) -> Tensor:
    """|x_i - x_j|, with no gradient from a row to itself."""
    difference = x[:, None] - x[None, :]
    apart = ~torch.eye(x.shape[0], dtype=torch.bool)
    return torch.where(apart, (difference**2).sum(-1).masked_fill(~apart, 1.0).sqrt(), 0.0)
