"""A call over the entries of an axis that it touches: labels numbered anew, values of those entries alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Touched = dict[str, Tensor]
"""Of an axis, the entries that are touched, in ascending order."""

WORTH = 4
"""An axis is cut where it has more entries than this many for each label of a call."""


def touched(labels: Mapping[str, tuple[str, ...]], tensors: Mapping[str, Tensor], sizes: Mapping[str, int]) -> Touched:
    """The entries of each axis that labels of a call point to, where these are few; at least one."""
    found: Touched = {}
    for axis, names in labels.items():
        given = [tensors[name].flatten() for name in names if name in tensors]
        number = sum(len(label) for label in given)
        if given and sizes.get(axis, 0) > WORTH * number:
            entries = torch.cat(given)
            entries = entries[entries >= 0].unique()  # type: ignore[no-untyped-call]
            found[axis] = entries if len(entries) else torch.zeros(1, dtype=torch.int64, device=entries.device)
    return found


def renumbered(label: Tensor, entries: Tensor) -> Tensor:
    """The places of a label among the touched entries; what is none stays so."""
    return torch.where(label < 0, label, torch.searchsorted(entries, label.clamp(min=0).contiguous()))


def rows_of(tensor: Tensor, axes: tuple[str, ...], rows: Touched) -> Tensor:
    """The touched entries of a tensor over these axes."""
    for dim, axis in enumerate(axes):
        if axis in rows and tensor.dim():
            tensor = tensor.index_select(dim, rows[axis].to(tensor.device))
    return tensor


def write_rows(target: Tensor, axes: tuple[str, ...], rows: Touched, value: Tensor) -> None:
    """Writes a value over the touched entries into their places."""
    dims = [dim for dim, axis in enumerate(axes) if axis in rows]
    if not dims:
        target.copy_(value)
        return
    places = [rows[axes[dim]].to(target.device) if dim in dims else torch.arange(target.shape[dim], device=target.device)
              for dim in range(target.dim())]  # fmt: skip
    target[torch.meshgrid(*places, indexing="ij")] = value


def spread(tensor: Tensor, axes: tuple[str, ...], have: Touched, want: Touched, neutral: float | bool) -> Tensor:
    """A tensor over some entries as one over more of them, which hold a neutral value."""
    for dim, axis in enumerate(axes):
        if axis in want and (axis not in have or len(have[axis]) != len(want[axis]) or not have[axis].equal(want[axis])):
            places = have[axis] if axis in have else torch.arange(tensor.shape[dim], device=tensor.device)
            shape = list(tensor.shape)
            shape[dim] = len(want[axis])
            wider = tensor.new_full(shape, neutral)
            tensor = wider.index_copy(dim, torch.searchsorted(want[axis], places), tensor)
    return tensor


def union(left: Touched, right: Touched, sizes: Mapping[str, int]) -> Touched:
    """The entries that either touches; an axis that only one of the two is cut along is whole."""
    found: Touched = {}
    for axis in {*left, *right}:
        parts = [one[axis] if axis in one else torch.arange(sizes[axis], device=_device(left, right)) for one in (left, right)]
        found[axis] = torch.cat(parts).unique()  # type: ignore[no-untyped-call]
    return found


def _device(*every: Touched) -> torch.device:
    return next(entries.device for one in every for entries in one.values())
