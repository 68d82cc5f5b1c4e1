"""Groups of weights leaf by leaf. A group is laid out flat along the last dimension, `shapes` are those of its leaves."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lossc.runtime.operations.linear import norm
from lossc.runtime.operations.matrices import svdvals
from lossc.runtime.operations.reductions import (
    masked_logsumexp,
    masked_max,
    masked_mean,
    masked_min,
    masked_prod,
    masked_quantile,
    masked_std,
    masked_sum,
    masked_var,
)


def parts_of(x: Tensor, shapes: tuple[tuple[int, ...], ...]) -> tuple[Tensor, ...]:
    """The entries of each leaf."""
    return torch.split_with_sizes(x, [math.prod(shape) for shape in shapes], dim=-1)


def leafwise(x: Tensor, mask: Tensor | None, shapes: tuple[tuple[int, ...], ...], op: str) -> Tensor:
    """A reduction of the admitted entries of each leaf, one number a leaf along the last dimension."""
    masks = [None] * len(shapes) if mask is None else parts_of(mask.expand(x.shape), shapes)
    return torch.stack([reduced(part, m, op) for part, m in zip(parts_of(x, shapes), masks, strict=True)], dim=-1)


def reduced(x: Tensor, mask: Tensor | None, op: str) -> Tensor:
    """A reduction over the last dimension."""
    last = (x.dim() - 1,)
    if op == "norm":
        return norm(x if mask is None else torch.where(mask, x, 0.0), last)
    if op in ("std", "var"):
        return (masked_std if op == "std" else masked_var)(x, mask, 0.0, last)
    if op == "median":
        return masked_quantile(x, mask, 0.5, last)
    found = {
        "sum": masked_sum, "mean": masked_mean, "prod": masked_prod, "max": masked_max, "min": masked_min,
        "logsumexp": masked_logsumexp,
    }  # fmt: skip
    return found[op](x, mask, last)


def spread(x: Tensor, shapes: tuple[tuple[int, ...], ...]) -> Tensor:
    """The number of each leaf at each of its entries."""
    columns = x.unbind(dim=-1)
    sizes = [math.prod(shape) for shape in shapes]
    repeated = [column.unsqueeze(-1).expand(*column.shape, size) for column, size in zip(columns, sizes, strict=True)]
    return torch.cat(repeated, dim=-1)


def sorted_leaves(x: Tensor, shapes: tuple[tuple[int, ...], ...]) -> Tensor:
    """The entries of each leaf in ascending order."""
    return torch.cat([part.sort(dim=-1, stable=True).values for part in parts_of(x, shapes)], dim=-1)


def sides(shape: tuple[int, ...]) -> tuple[int, int]:
    """A leaf as a matrix: its first dimension by all others; a vector is one column."""
    return (shape[0], math.prod(shape[1:])) if shape else (1, 1)


def leaf_svdvals(x: Tensor, shapes: tuple[tuple[int, ...], ...]) -> Tensor:
    """The singular values of each leaf as a matrix, largest first, 0 behind them: [.., leaf, k]."""
    width = max(min(sides(shape)) for shape in shapes)
    found = []
    for part, shape in zip(parts_of(x, shapes), shapes, strict=True):
        values = svdvals(part.reshape(*part.shape[:-1], *sides(shape)))
        found.append(torch.nn.functional.pad(values, (0, width - values.shape[-1])))
    return torch.stack(found, dim=-2)


def leaf_ranks(shapes: tuple[tuple[int, ...], ...], like: Tensor) -> Tensor:
    """How many singular values each leaf has."""
    return torch.tensor([min(sides(shape)) for shape in shapes], dtype=like.dtype, device=like.device)
