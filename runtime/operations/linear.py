"""Linear algebra over named dimensions, arranged last by the emitter."""

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


def cov(x: Tensor) -> Tensor:
    """The covariance of the columns of x[.., n, d] over its rows, divided by n."""
    centred = x - x.mean(dim=-2, keepdim=True)
    return centred.transpose(-1, -2) @ centred / max(x.shape[-2], 1)


def svdvals(x: Tensor) -> Tensor:
    """The singular values of x[.., m, n], largest first."""
    return torch.linalg.svdvals(x)


def logdet(x: Tensor) -> Tensor:
    """log |det x| of x[.., n, n]."""
    return torch.linalg.slogdet(x).logabsdet


def trace(x: Tensor) -> Tensor:
    """The sum of the diagonal of x[.., n, n]."""
    return x.diagonal(dim1=-2, dim2=-1).sum(dim=-1)


def solve(matrix: Tensor, right: Tensor) -> Tensor:
    """The solution of matrix[.., n, n] u = right[.., n]."""
    solution: Tensor = torch.linalg.solve(matrix, right.unsqueeze(-1))
    return solution.squeeze(-1)
