"""Statistics of rows along the dimension `dim`, and the exponential of what has been centred.

A `mask` of None admits every entry. None of these is differentiated: the slopes of statistics are known in closed form.
"""

from __future__ import annotations

import torch
from torch import Tensor


def centre(x: Tensor, mask: Tensor | None, dim: int) -> Tensor:
    """The largest entry, 0 where that is not finite."""
    if x.shape[dim] == 0:
        return x.sum(dim=dim)
    top = (x if mask is None else torch.where(mask, x, -torch.inf)).amax(dim=dim)
    return torch.where(torch.isfinite(top), top, 0.0)


def ties(x: Tensor, mask: Tensor | None, dim: int) -> Tensor:
    """The number of entries that are largest."""
    if x.shape[dim] == 0:
        return x.sum(dim=dim)
    top = (x if mask is None else torch.where(mask, x, -torch.inf)).amax(dim=dim, keepdim=True)
    attained = x == top
    return (attained if mask is None else attained & mask).sum(dim=dim).to(x.dtype)


def exponential(x: Tensor) -> Tensor:
    """exp(x)."""
    return torch.exp(x)
