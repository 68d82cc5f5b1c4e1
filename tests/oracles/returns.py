"""std.returns of one trajectory, by loops from the last step back."""

from __future__ import annotations

import torch
from torch import Tensor


def lambda_return(reward: Tensor, value: Tensor, discount: Tensor, lam: float, after: Tensor) -> Tensor:
    """G_t = r_t + g_t ((1 - lam) V_{t+1} + lam G_{t+1}) (Sutton 1988)."""
    found: list[Tensor] = []
    following, running = after, after
    for t in reversed(range(len(reward))):
        running = reward[t] + discount[t] * ((1 - lam) * following + lam * running)
        following = value[t]
        found.insert(0, running)
    return torch.stack(found)


def discounted(reward: Tensor, discount: Tensor, after: Tensor) -> Tensor:
    """G_t = r_t + g_t G_{t+1}."""
    found: list[Tensor] = []
    for t in reversed(range(len(reward))):
        after = reward[t] + discount[t] * after
        found.insert(0, after)
    return torch.stack(found)


def gae(reward: Tensor, value: Tensor, discount: Tensor, lam: float, after: Tensor) -> Tensor:
    """sum_k (g lam)^k delta_{t+k} (Schulman et al. 2015)."""
    found: list[Tensor] = []
    running = torch.zeros_like(after)
    for t in reversed(range(len(reward))):
        running = reward[t] + discount[t] * after - value[t] + discount[t] * lam * running
        after = value[t]
        found.insert(0, running)
    return torch.stack(found)


def vtrace(
    reward: Tensor, value: Tensor, ratio: Tensor, discount: Tensor, rho: float, c: float, after: Tensor
) -> Tensor:
    """v_t = V_t + rho_t delta_t + g_t c_t (v_{t+1} - V_{t+1}) (Espeholt et al. 2018)."""
    found: list[Tensor] = []
    ahead = torch.zeros_like(after)
    for t in reversed(range(len(reward))):
        delta = ratio[t].clamp(max=rho) * (reward[t] + discount[t] * after - value[t])
        ahead = delta + discount[t] * ratio[t].clamp(max=c) * ahead
        after = value[t]
        found.insert(0, value[t] + ahead)
    return torch.stack(found)
