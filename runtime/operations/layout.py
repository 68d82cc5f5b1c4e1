"""Dimensions, types and positions: what aligns operands before a function is applied to them."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def align(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """A view with a dimension of extent 1 at each of `dims` (positions in the result, ascending)."""
    for dim in dims:
        x = x.unsqueeze(dim)
    return x


def expand(x: Tensor, size: int, dim: int) -> Tensor:
    """A view with a new dimension of extent `size` at `dim`."""
    x = x.unsqueeze(dim)
    return x.expand(*x.shape[:dim], size, *x.shape[dim + 1 :])


def number(x: Tensor, like: Tensor) -> Tensor:
    """A mask as 0 and 1, or an integer, in the type of the computation."""
    return x.to(like.dtype)


def integer(x: Tensor) -> Tensor:
    """Whole numbers as an index."""
    return torch.round(x.detach()).to(torch.int64)


def constant(value: float, like: Tensor) -> Tensor:
    """A number in the type and on the device of the computation; infinite where the type ends before it."""
    if abs(value) > 65504 and abs(value) > torch.finfo(like.dtype).max:
        value = float("inf") if value > 0 else -float("inf")
    return torch.full((), value, dtype=like.dtype, device=like.device)


def index(size: int, like: Tensor) -> Tensor:
    """The positions 0 … size - 1."""
    return torch.arange(size, dtype=torch.int64, device=like.device)


def least(*sizes: int) -> int:
    """The smallest of some extents."""
    return min(sizes)


def together(*sizes: int) -> int:
    """The number of entries of some axes together."""
    return math.prod(sizes)


def zeros(like: Tensor, *sizes: int) -> Tensor:
    """Zeros in the type of the computation."""
    return torch.zeros(sizes, dtype=like.dtype, device=like.device)


def extent(x: Tensor, dim: int) -> int:
    """The extent of a dimension."""
    return x.shape[dim]


def take(x: Tensor, at: Tensor) -> Tensor:
    """The entry of x[.., n] at at[.., k..] along its last dimension.

    A negative index, *none*, reads entry 0; one beyond the last reads NaN (in what is no number, the last entry).
    """
    leading, last = x.dim() - 1, x.shape[-1] - 1
    if last < 0:
        x = torch.cat([x, x.new_zeros(*x.shape[:-1], 1)], dim=-1)  # there is no entry 0 for *none* to read
    flat = at.unsqueeze(-1) if at.dim() == leading else at.flatten(leading)
    places = flat.clamp(0, max(last, 0))
    if x.shape[:-1] != flat.shape[:-1]:
        rows = [given if have == 1 else have for have, given in zip(x.shape[:-1], flat.shape[:-1], strict=True)]
        x, places = x.expand(*rows, -1), places.expand(*rows, -1)
    taken = torch.gather(x, -1, places)
    if x.is_floating_point():
        taken = torch.where(flat > last, torch.nan, taken)
    return taken.squeeze(-1) if at.dim() == leading else taken.reshape((*taken.shape[:-1], *at.shape[leading:]))


def read(at: Tensor, mask: Tensor | None, size: int, number: int) -> Tensor:
    """At i, along a dimension in place of the last `number`, whether some admitted entry of `at` there is i."""
    inside = (at >= 0) & (at < size)
    places = torch.where(inside if mask is None else inside & mask, at, size)
    places = places.flatten(-number) if number else places.unsqueeze(-1)
    found = torch.zeros(*places.shape[:-1], size + 1, dtype=torch.bool, device=at.device)
    return found.scatter(-1, places, True).narrow(-1, 0, size)
