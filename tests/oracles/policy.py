"""std.policy on tokens: probability ratios, advantages and log-probabilities, elementwise."""

from __future__ import annotations

import torch
from torch import Tensor


def grpo(ratio: Tensor, advantage: Tensor, eps_low: float = 0.2, eps_high: float = 0.2) -> Tensor:
    """-min(r A, clip(r, 1 - eps_low, 1 + eps_high) A) (Schulman et al. 2017; Shao et al. 2024; Yu et al. 2025)."""
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - eps_low, 1 + eps_high) * advantage)


def ppo_clip(ratio: Tensor, advantage: Tensor, eps: float = 0.2) -> Tensor:
    """The clipped surrogate with one bound."""
    return grpo(ratio, advantage, eps, eps)


def gspo(log_ratio: Tensor, advantage: Tensor, eps_low: float = 3e-4, eps_high: float = 4e-4) -> Tensor:
    """-min(s A, clip(s, 1 - eps_low, 1 + eps_high) A) of one sequence, s = (prod_t r_t)^(1 / |y|) (Zheng et al. 2025)."""
    return grpo(log_ratio.exp().prod() ** (1 / len(log_ratio)), advantage, eps_low, eps_high)


def cispo(logp: Tensor, ratio: Tensor, advantage: Tensor, cap: float = 5.0) -> Tensor:
    """-sg(min(r, cap)) A log pi (MiniMax 2025)."""
    return -ratio.clamp(max=cap).detach() * advantage * logp


def reinforce(logp: Tensor, advantage: Tensor) -> Tensor:
    """-A log pi (Williams 1992)."""
    return -advantage * logp


def k1(logp: Tensor, ref: Tensor) -> Tensor:
    """log(pi / ref) (Schulman 2020)."""
    return logp - ref


def k2(logp: Tensor, ref: Tensor) -> Tensor:
    """log(pi / ref)^2 / 2."""
    return (logp - ref) ** 2 / 2


def k3(logp: Tensor, ref: Tensor) -> Tensor:
    """ref / pi - log(ref / pi) - 1."""
    return torch.expm1(ref - logp) - (ref - logp)
