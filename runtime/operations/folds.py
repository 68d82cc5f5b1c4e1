"""Recurrences along an axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def fold(length: int, start: Tensor, *given: Any, body: Callable[..., Tensor], steps: tuple[int, ...], every: bool) -> Tensor:
    """a_T of a_0 = start and a_i = body(a_(i-1), given), or `every` a_1 … a_T along a first dimension.

    Those of `given` at `steps` have the T steps as first dimension; they are taken apart once, so that the gradient of each
    is put together once.
    """
    moving = [given[at].expand(length, *given[at].shape[1:]).unbind(0) for at in steps]
    values = list(given)
    value = start
    found = []
    for now in range(length):
        for at, entries in zip(steps, moving, strict=True):
            values[at] = entries[now]
        value = body(value, *values)
        if every:
            found.append(value)
    if not every:
        return value
    return torch.stack(found) if found else start.new_zeros((0, *start.shape))
