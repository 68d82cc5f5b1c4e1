"""std.preference on rows: margins, ratios and sequence log-probabilities `[n]`; one value for each pair or sequence."""

from __future__ import annotations

import torch
from torch import Tensor


def log_sigmoid(x: Tensor) -> Tensor:
    """-log(1 + exp(-x)) without overflow on either side."""
    return -torch.logaddexp(-x, torch.zeros_like(x))


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)), x < 0."""
    return torch.log(-torch.expm1(x))


def dpo(margin: Tensor, beta: float = 0.1) -> Tensor:
    """-log sigma(beta margin) (Rafailov et al. 2023)."""
    return -log_sigmoid(beta * margin)


def ipo(margin: Tensor, tau: float = 0.1) -> Tensor:
    """(margin - 1 / (2 tau))^2 (Azar et al. 2023)."""
    return (margin - 1 / (2 * tau)) ** 2


def hinge(margin: Tensor, beta: float = 0.1) -> Tensor:
    """max(0, 1 - beta margin) (Zhao et al. 2023)."""
    return torch.relu(1 - beta * margin)


def cdpo(margin: Tensor, beta: float = 0.1, eps: float = 0.1) -> Tensor:
    """-(1 - eps) log sigma(beta margin) - eps log sigma(-beta margin) (Mitchell 2023)."""
    return -(1 - eps) * log_sigmoid(beta * margin) - eps * log_sigmoid(-beta * margin)


def robust_dpo(margin: Tensor, beta: float = 0.1, eps: float = 0.1) -> Tensor:
    """[-(1 - eps) log sigma(beta margin) + eps log sigma(-beta margin)] / (1 - 2 eps) (Chowdhury et al. 2024)."""
    return (-(1 - eps) * log_sigmoid(beta * margin) + eps * log_sigmoid(-beta * margin)) / (1 - 2 * eps)


def discopop(margin: Tensor, beta: float = 0.05, tau: float = 0.05) -> Tensor:
    """(1 - m)(-log sigma(h)) + m exp(-h), h = beta margin, m = sigma(h / tau) (Lu et al. 2024)."""
    h = beta * margin
    blend = torch.exp(log_sigmoid(h / tau) - h)
    return -torch.sigmoid(-h / tau) * log_sigmoid(h) + blend


def simpo(chosen: Tensor, rejected: Tensor, beta: float = 2.0, gamma: float = 0.5) -> Tensor:
    """-log sigma(beta (avg_w - avg_l) - gamma), of average log-probabilities (Meng et al. 2024)."""
    return -log_sigmoid(beta * (chosen - rejected) - gamma)


def orpo(chosen: Tensor, rejected: Tensor) -> Tensor:
    """-log sigma(log odds_w - log odds_l), odds = P / (1 - P) P at most exp(-1e-7) (Hong et al. 2024)."""
    chosen, rejected = chosen.clamp(max=-1e-7), rejected.clamp(max=-1e-7)
    return -log_sigmoid((chosen - log1mexp(chosen)) - (rejected - log1mexp(rejected)))


def kto(ratio: Tensor, desirable: Tensor, z0: Tensor, beta: float = 0.1) -> Tensor:
    """1 - sigma(beta (r - z0)) for desirable, 1 - sigma(beta (z0 - r)) for undesirable (Ethayarajh et al. 2024)."""
    sign = torch.where(desirable, 1.0, -1.0).to(ratio.dtype)
    return torch.sigmoid(-sign * beta * (ratio - z0))


def apo_zero(chosen: Tensor, rejected: Tensor, beta: float = 0.1) -> Tensor:
    """1 - sigma(beta r_w) + sigma(beta r_l), of log-ratios (D'Oosterlinck et al. 2024)."""
    return torch.sigmoid(-beta * chosen) + torch.sigmoid(beta * rejected)


def npo(ratio: Tensor, beta: float = 0.1) -> Tensor:
    """-(2 / beta) log sigma(-beta log(pi / ref)) (Zhang et al. 2024)."""
    return -2 / beta * log_sigmoid(-beta * ratio)
