"""Whatever calls of a kernel with tensors of the same form have in common, computed once: where each slot points, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from lossc.compiler.kernels import Kernel
from lossc.compiler.kernels.c import Slot
from lossc.runtime.backends.environment import shaped
from lossc.runtime.backends.native import Strides

Axes = tuple[str, ...]


class Built(Protocol):
    """One function of a kernel for given storage types: the slots of its data, and a run over all rows."""

    @property
    def slots(self) -> tuple[Slot, ...]: ...

    def run(
        self, extents: tuple[int, ...], classes: int, tensors: Sequence[Tensor], strides: Strides, bytes_written: int
    ) -> None: ...


class StreamForm:
    """The dimensions of a stream: `axes` in the kernel's order, without the row axes at the positions `lacking`."""

    def __init__(self, have: Axes, kernel: Kernel) -> None:
        """`have` are the axes of its tensor."""
        every = (*kernel.rows, kernel.axis)
        self.axes = tuple(axis for axis in every if axis in have)
        self.lacking = [at for at, axis in enumerate(every) if axis not in have]
        self._there = [have.index(axis) for axis in self.axes] if have != self.axes else None
        self._back = [self.axes.index(axis) for axis in have] if have != self.axes else None

    def turned(self, tensor: Tensor) -> Tensor:
        """The stream's tensor with the kernel's order of dimensions."""
        return tensor if self._there is None else tensor.permute(self._there)

    def returned(self, tensor: Tensor) -> Tensor:
        """The other way round."""
        return tensor if self._back is None else tensor.permute(self._back)


class Place(NamedTuple):
    """The form of the memory that a slot points to; `strides` of the row axes, where rows have their own entries."""

    slot: Slot
    strides: tuple[int, ...] | None
    axes: Axes
    shape: tuple[int, ...]
    dtype: torch.dtype


class Layout(NamedTuple):
    """A function with the places and strides of its slots, the extents of rows and classes, and the bytes of its gradients."""

    native: Built
    places: tuple[Place, ...]
    strides: Strides
    extents: tuple[int, ...]
    classes: int
    bytes_written: int


def in_form(tensor: Tensor, have: Axes, place: Place, sizes: Mapping[str, int]) -> Tensor:
    """A tensor in the form of a place: axes in order, of its type, contiguous."""
    if have != place.axes:
        tensor = shaped(tensor, have, place.axes, sizes)
    if tensor.dtype != place.dtype:
        tensor = tensor.to(place.dtype)
    return tensor if tensor.is_contiguous() and tensor.shape == place.shape else tensor.expand(place.shape).contiguous()
