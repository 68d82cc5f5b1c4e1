"""Closed forms of the family `other`, each from the formula of its paper."""

from __future__ import annotations

import torch
from tests.oracles.batches import uniform
from tests.zoo.harness import Tensors, oracle
from torch import Tensor


def subsets(seed: int, variant: str) -> Tensors:
    """Masked, one subset is empty: its determinant is 1."""
    b, i, d = (1, 2, 1) if variant == "odd" else (3, 5, 3)
    chosen = uniform(b, i, seed=seed + 1) > 0
    if variant == "masked":
        chosen[1] = False
    return {"f": uniform(b, i, d, seed=seed), "chosen": chosen}


@oracle("dpp", batch=subsets, params=[{"jitter": 0.5}])
def dpp(tensors: Tensors, jitter: float = 0.1) -> Tensor:
    """log det(L + I) - log det(L_Y), L_Y the rows and columns of the chosen items."""
    losses = []
    for f, chosen in zip(tensors["f"], tensors["chosen"], strict=True):
        eye = torch.eye(len(f), dtype=f.dtype)
        kernel = f @ f.T + jitter * eye
        losses.append(torch.logdet(kernel + eye) - torch.logdet(kernel[chosen][:, chosen]))
    return torch.stack(losses).mean()
