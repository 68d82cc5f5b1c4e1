"""Small networks that works with models share, the same on every machine."""

from __future__ import annotations

from copy import deepcopy

import torch
from tests.oracles.batches import uniform
from torch import Tensor, nn


class Scores(nn.Module):
    """out tanh(in [x, ...]) of one vector or several laid side by side; one number where `width` is 0."""

    def __init__(self, seed: int, d: int, width: int = 0) -> None:
        super().__init__()
        self.inner = nn.Parameter(uniform(d, 4, seed=seed + 50))
        self.outer = nn.Parameter(uniform(4, max(width, 1), seed=seed + 51))
        self.width = width

    def forward(self, *x: Tensor) -> Tensor:
        flat = torch.cat([part.flatten(1) for part in x], 1)
        y = torch.tanh(flat @ self.inner) @ self.outer
        return y if self.width else y[:, 0]


def frozen(net: nn.Module) -> nn.Module:
    """A copy whose weights carry no gradient."""
    return deepcopy(net).requires_grad_(False)
