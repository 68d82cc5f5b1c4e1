"""Linear algebra."""

from __future__ import annotations

import torch
from torch import Tensor


def norm(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """sqrt(sum x^2); slope 0 at 0. Scaled by the largest entry, so that it neither overflows nor underflows."""
    if any(x.shape[dim] == 0 for dim in dims):
        return x.sum(dim=dims)
    scale = x.detach().abs().amax(dim=dims, keepdim=True)
    scale = torch.where((scale > 0) & torch.isfinite(scale), scale, 1.0)
    total = ((x / scale) ** 2).sum(dim=dims)
    nonzero = total != 0
    root = torch.where(nonzero, torch.sqrt(torch.where(nonzero, total, 1.0)), total * 0.0)
    return root * scale.sum(dim=dims)
