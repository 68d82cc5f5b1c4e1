"""std.regression, elementwise on errors `target - pred`."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def mse(error: Tensor) -> Tensor:
    """e^2."""
    return error**2


def mae(error: Tensor) -> Tensor:
    """|e|."""
    return error.abs()


def huber(error: Tensor, delta: float = 1.0) -> Tensor:
    """e^2 / 2 within delta, delta (|e| - delta / 2) beyond (Huber 1964)."""
    return torch.where(error.abs() <= delta, error**2 / 2, delta * (error.abs() - delta / 2))


def pinball(error: Tensor, tau: float = 0.5) -> Tensor:
    """max(tau e, (tau - 1) e), e = target - quantile (Koenker & Bassett 1978)."""
    return torch.maximum(tau * error, (tau - 1) * error)


def expectile(error: Tensor, tau: float = 0.5) -> Tensor:
    """|tau - 1[e < 0]| e^2 (Newey & Powell 1987)."""
    return torch.where(error >= 0, tau * error**2, (1 - tau) * error**2)


def log_cosh(error: Tensor) -> Tensor:
    """log cosh e."""
    return error.abs() + torch.log1p((-2 * error.abs()).exp()) - math.log(2)


def charbonnier(error: Tensor, eps: float = 1e-3) -> Tensor:
    """sqrt(e^2 + eps^2) (Charbonnier et al. 1994)."""
    return (error**2 + eps**2).sqrt()


def gaussian_nll(error: Tensor, variance: Tensor) -> Tensor:
    """(log(2 pi s2) + e^2 / s2) / 2 (Nix & Weigend 1994)."""
    return ((2 * math.pi * variance).log() + error**2 / variance) / 2


def laplace_nll(error: Tensor, scale: Tensor) -> Tensor:
    """log(2 b) + |e| / b."""
    return (2 * scale).log() + error.abs() / scale


def poisson_nll(log_rate: Tensor, count: Tensor) -> Tensor:
    """exp(x) - k x, x the log rate, without log k!."""
    return log_rate.exp() - count * log_rate
