"""Examples, the tensors of one row, and batches, examples padded to one size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import torch
from torch import Tensor
from torch.nn import functional

PADDING: dict[str, float] = {"labels": -1}
"""What fills a tensor where a row is shorter: nothing is scored at a label of -1; everything else is 0 or false."""


@dataclass
class Example:
    """What the network reads of a row, and the tensors of the objective that come from data."""

    network: dict[str, Tensor]
    data: dict[str, Tensor] = field(default_factory=dict)


class Batch(TypedDict):
    """As `Example`, with the batch axis in front."""

    network: dict[str, Tensor]
    data: dict[str, Tensor]


def collate(examples: Sequence[Example]) -> Batch:
    """The examples as one batch, each tensor padded to the largest."""
    return {"network": _stacked([e.network for e in examples]), "data": _stacked([e.data for e in examples])}


def _stacked(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: stack([part[name] for part in parts], PADDING.get(name.rpartition(".")[2], 0)) for name in parts[0]}


def stack(tensors: Sequence[Tensor], fill: float = 0) -> Tensor:
    """Tensors of one number of dimensions as one, each padded behind its entries with `fill`."""
    sizes = [max(extents) for extents in zip(*(tensor.shape for tensor in tensors), strict=True)]
    return torch.stack([_padded(tensor, sizes, fill) for tensor in tensors])


def _padded(tensor: Tensor, sizes: Sequence[int], fill: float) -> Tensor:
    if list(tensor.shape) == list(sizes):
        return tensor
    missing = [amount for have, want in zip(reversed(tensor.shape), reversed(sizes), strict=True)
               for amount in (0, want - have)]  # fmt: skip
    return functional.pad(tensor, missing, value=fill)
