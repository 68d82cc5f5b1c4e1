"""Which entries count, and the mean over them: written with boolean indexing, so that nothing excluded is ever read."""

from __future__ import annotations

from torch import Tensor


def kept(labels: Tensor, mask: Tensor | None = None) -> Tensor:
    """Entries that a mean over tokens or rows counts: inside the mask, with a label."""
    present = labels >= 0
    return present if mask is None else present & mask


def mean(values: Tensor) -> Tensor:
    """The mean; of nothing it is 0, with the graph attached."""
    return values.sum() / max(values.numel(), 1)


def gathered(values: Tensor, labels: Tensor) -> Tensor:
    """values[i, labels[i]] for rows `values[n, v]`."""
    return values.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
