"""std.regularise: totals over a named group of weights (a mapping of names to tensors)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]


def l1(w: Weights) -> Tensor:
    """sum |w|."""
    return torch.stack([leaf.abs().sum() for leaf in w.values()]).sum()


def l2(w: Weights) -> Tensor:
    """sum w^2."""
    return torch.stack([(leaf**2).sum() for leaf in w.values()]).sum()


def ewc(w: Weights, anchor: Weights, importance: Weights) -> Tensor:
    """sum F (w - w*)^2 / 2 (Kirkpatrick et al. 2017)."""
    return torch.stack([(importance[k] * (w[k] - anchor[k]) ** 2).sum() / 2 for k in w]).sum()
