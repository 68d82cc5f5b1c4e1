"""Entropic optimal transport."""

from __future__ import annotations

import torch
from torch import Tensor

from lossc.runtime.operations.reductions import masked_logsumexp


def sinkhorn(
    cost: Tensor, eps: Tensor, a: Tensor | None, b: Tensor | None, mask: Tensor | None, steps: int
) -> Tensor:
    """The plan exp((f_i + g_j - cost_ij) / eps) with row sums a and column sums b, over the last two dimensions.

    `steps` times f, then g, is set so that the sums of the rows, then of the columns, are right; all in logarithms. Without
    a and b each row and each column that has an admitted entry counts the same, in total 1. What a mask excludes is 0.
    """
    kernel = -cost / eps
    if mask is None:
        mask = torch.ones((), dtype=torch.bool, device=cost.device)
    mask = mask.expand(torch.broadcast_shapes(kernel.shape, mask.shape))  # type: ignore[no-untyped-call]
    kernel = torch.where(mask, kernel, 0.0)
    row = log_marginal(a, mask.any(dim=-1, keepdim=True), -2, kernel)
    column = log_marginal(b, mask.any(dim=-2, keepdim=True), -1, kernel)
    f, g = torch.zeros_like(row), torch.zeros_like(column)
    for _ in range(steps):
        f = fitted(row, kernel + g, mask, -1)
        g = fitted(column, kernel + f, mask, -2)
    return torch.where(mask & torch.isfinite(f) & torch.isfinite(g), torch.exp(kernel + f + g), 0.0)


def log_marginal(given: Tensor | None, there: Tensor, dim: int, like: Tensor) -> Tensor:
    """The logarithm of what is to be transported; an equal share of 1 to each that is there."""
    if given is not None:
        return torch.log(given)
    number = there.sum(dim=dim, keepdim=True).clamp(min=1).to(like.dtype)
    return (-torch.log(number)).expand(there.shape)


def fitted(target: Tensor, kernel: Tensor, mask: Tensor, dim: int) -> Tensor:
    """The potential that makes the sums along a dimension right; 0 where there is nothing to sum."""
    total = masked_logsumexp(kernel, mask, (dim % kernel.dim(),)).unsqueeze(dim)
    there = torch.isfinite(total)
    return torch.where(there, target - torch.where(there, total, 0.0), 0.0)
