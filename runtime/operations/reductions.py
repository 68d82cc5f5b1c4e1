"""Reductions over the dimensions `dims` of the entries that a mask admits.

`x` and `mask` align dimension by dimension and broadcast. What each gives of no entries: sum and count 0, prod 1,
logsumexp -inf with gradient 0, any false, all true, argmax -1, the others 0 with gradient 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def masked_sum(x: Tensor, mask: Tensor | None, dims: tuple[int, ...]) -> Tensor:
    """sum x."""
    return (x if mask is None else torch.where(mask, x, 0.0)).sum(dim=dims)


def masked_count(mask: Tensor, like: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The number of admitted entries, in the type of `like`."""
    return mask.sum(dim=dims, dtype=like.dtype)


def admitted_count(x: Tensor, mask: Tensor | None, dims: tuple[int, ...]) -> Tensor:
    """The number of entries of x that the mask admits, in the type of x."""
    if mask is None:
        mask = torch.ones((), dtype=torch.bool, device=x.device)
    shape = torch.broadcast_shapes(x.shape, mask.shape)  # type: ignore[no-untyped-call]
    return mask.expand(shape).sum(dim=dims).to(x.dtype)


def masked_mean(x: Tensor, mask: Tensor | None, dims: tuple[int, ...]) -> Tensor:
    """sum x / count."""
    if mask is None:
        return x.sum(dim=dims) / max(math.prod([x.shape[dim] for dim in dims]), 1)
    return masked_sum(x, mask, dims) / admitted_count(x, mask, dims).clamp(min=1)


def masked_prod(x: Tensor, mask: Tensor | None, dims: tuple[int, ...]) -> Tensor:
    """prod x."""
    x = x if mask is None else torch.where(mask, x, 1.0)
    for dim in sorted(dims, reverse=True):
        x = x.prod(dim=dim)
    return x


def masked_max(x: Tensor, mask: Tensor | None, dims: tuple[int, ...]) -> Tensor:
    """The largest; ties share the gradient evenly."""
    x = x if mask is None else torch.where(mask, x, -torch.inf)
    if any(x.shape[dim] == 0 for dim in dims):
        return x.sum(dim=dims)
    top = x.amax(dim=dims)
    if mask is None:
        return top
    return torch.where(mask.expand(x.shape).any(dim=dims), top, 0.0)


def masked_min(x: Tensor, mask: Tensor | None, dims: tuple[int, ...]) -> Tensor:
    """The smallest; ties share the gradient evenly."""
    return -masked_max(-x, mask, dims)


def masked_logsumexp(x: Tensor, mask: Tensor | None, dims: tuple[int, ...]) -> Tensor:
    """log sum exp(x) = m + log sum exp(x - m), m the largest x."""
    x = x if mask is None else torch.where(mask, x, -torch.inf)
    if any(x.shape[dim] == 0 for dim in dims):
        return x.sum(dim=dims) - torch.inf
    top = x.detach().amax(dim=dims, keepdim=True)
    top = torch.where(torch.isfinite(top), top, 0.0)
    total = torch.exp(x - top).sum(dim=dims)
    empty = total == 0
    value = torch.log(torch.where(empty, 1.0, total)) + top.sum(dim=dims)
    return torch.where(empty, -torch.inf, value)


def masked_var(x: Tensor, mask: Tensor | None, ddof: Tensor | float, dims: tuple[int, ...]) -> Tensor:
    """sum (x - mean)^2 / (n - ddof), 0 where n <= ddof."""
    if mask is None and not isinstance(ddof, Tensor) and math.prod([x.shape[dim] for dim in dims]) > ddof:
        return torch.var(x, dim=dims, correction=ddof)
    x = x if mask is None else torch.where(mask, x, 0.0)
    count = admitted_count(x, mask, dims)
    mean = x.sum(dim=dims) / count.clamp(min=1)
    for dim in sorted(dims):
        mean = mean.unsqueeze(dim)
    squares = masked_sum((x - mean) ** 2, mask, dims)
    enough = count > ddof
    return torch.where(enough, squares / torch.where(enough, count - ddof, 1.0), 0.0)


def masked_std(x: Tensor, mask: Tensor | None, ddof: Tensor | float, dims: tuple[int, ...]) -> Tensor:
    """The root of the variance; slope 0 at 0."""
    variance = masked_var(x, mask, ddof, dims)
    varies = variance > 0
    return torch.where(varies, torch.sqrt(torch.where(varies, variance, 1.0)), variance * 0.0)


def masked_any(x: Tensor, mask: Tensor | None, dims: tuple[int, ...]) -> Tensor:
    """Whether some admitted entry is true."""
    return (x if mask is None else x & mask).any(dim=dims)


def masked_all(x: Tensor, mask: Tensor | None, dims: tuple[int, ...]) -> Tensor:
    """Whether every admitted entry is true."""
    return (x if mask is None else x | ~mask).all(dim=dims)


def masked_argmax(x: Tensor, mask: Tensor | None, dims: tuple[int, ...]) -> Tensor:
    """The position of the largest along the one dimension of `dims`, the first of ties; -1 of no entries."""
    (dim,) = dims
    x = x.detach()
    if x.shape[dim] == 0:
        return x.sum(dim=dim).to(torch.int64) - 1
    if mask is None:
        return x.argmax(dim=dim)
    x, mask = torch.broadcast_tensors(x, mask)  # type: ignore[no-untyped-call]
    top = torch.where(mask, x, -torch.inf).amax(dim=dim, keepdim=True)
    first = ((x == top) & mask).to(torch.int64).argmax(dim=dim)
    return torch.where(mask.any(dim=dim), first, -1)


def masked_quantile(x: Tensor, mask: Tensor | None, level: Tensor | float, dims: tuple[int, ...]) -> Tensor:
    """The quantile of `level` in [0, 1], linear between order statistics; level 1/2 is the median's midpoint.

    NaN where an entry is, which sorts behind all others.
    """
    x = x if mask is None else torch.where(mask, x, torch.inf)
    if any(x.shape[dim] == 0 for dim in dims):
        return x.sum(dim=dims)
    kept = [dim for dim in range(x.dim()) if dim not in dims]
    count = admitted_count(x, mask, dims).unsqueeze(-1)
    ordered = x.permute(*kept, *dims).flatten(len(kept)).sort(dim=-1, stable=True).values
    place = (level * (count - 1)).clamp(min=0)
    low, high = (edge.to(torch.int64).clamp(max=ordered.shape[-1] - 1) for edge in (place.floor(), place.ceil()))
    below = torch.where(count > 0, ordered.gather(-1, low), 0.0)
    above = torch.where(count > 0, ordered.gather(-1, high), 0.0)
    found = torch.where(torch.isnan(ordered[..., -1:]), torch.nan, torch.lerp(below, above, place - place.floor()))
    return found.squeeze(-1)


def group_sum(x: Tensor, label: Tensor, size: int) -> Tensor:
    """The sums of x over the leading dimensions, which are those of the label, in `size` groups; *none* joins none."""
    rest = x.shape[label.dim() :]
    member = (label >= 0).reshape(*label.shape, *[1] * len(rest))
    entries = torch.where(member, x, 0.0).flatten(0, label.dim() - 1)
    total = torch.zeros(size, *rest, dtype=x.dtype, device=x.device)
    return total.index_add(0, label.clamp(min=0).flatten(), entries) if size else total
