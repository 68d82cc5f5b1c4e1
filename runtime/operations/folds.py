"""Recurrences along an axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor


def fold(length: int, start: Tensor, *given: Any, body: Callable[..., Tensor], steps: tuple[int, ...]) -> Tensor:
    """a_T of a_0 = start and a_i = body(a_(i-1), given); those of `given` at `steps` have the T steps as first dimension.

    They are taken apart once, so that the gradient of each is put together once.
    """
    moving = [given[at].expand(length, *given[at].shape[1:]).unbind(0) for at in steps]
    values = list(given)
    value = start
    for now in range(length):
        for at, entries in zip(steps, moving, strict=True):
            values[at] = entries[now]
        value = body(value, *values)
    return value
