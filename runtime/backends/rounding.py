"""Rounding accumulators to a narrower type in place."""

from __future__ import annotations

import torch
from torch import Tensor

from lossc.runtime.backends.pool import POOL

PIECE_BYTES = 4 << 20
"""What is rounded at once: it stays in the cache."""


def rounded(wide: Tensor, dtype: torch.dtype) -> Tensor:
    """The numbers of `wide` in another type, equal to `wide.to(dtype)`.

    A narrower result takes the memory of `wide`, from its start, provided that the pool owns it: nothing as large as a
    vocabulary's weight gradient is allocated anew, and the remaining pages are returned. The contents of `wide` are
    lost.
    """
    if dtype == wide.dtype:
        return wide
    narrow = POOL.over(wide, dtype) if wide.is_contiguous() else None
    if narrow is None:
        return wide.to(dtype)
    source, target = wide.view(-1), narrow.view(-1)
    piece = max(1, PIECE_BYTES // dtype.itemsize)
    made = torch.empty(min(piece, source.numel()), dtype=dtype)
    # What a piece is written over was read with it or before it: an entry is never moved up.
    for start in range(0, source.numel(), piece):
        part = made[: min(piece, source.numel() - start)]
        part.copy_(source[start : start + piece])
        target[start : start + piece].copy_(part)
    POOL.trim(narrow)
    return narrow
