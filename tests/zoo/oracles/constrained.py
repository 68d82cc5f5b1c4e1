"""Closed forms of the family `constrained`: the Lagrangian under given multipliers."""

from __future__ import annotations

import torch
from tests.oracles.batches import integers, uniform
from tests.oracles.ce import ce
from tests.zoo.harness import Tensors, of_setting, oracle
from torch import Tensor

EXAMPLES = 9


def numbered(batch: Tensors, seed: int) -> Tensors:
    """Which example each row is, one of them twice, and a multiplier for each example."""
    multipliers = (uniform(EXAMPLES, seed=seed + 5) + 1) / 2
    return {"id": integers(batch["labels"].shape[0], high=EXAMPLES, seed=seed + 4), "feasible": multipliers}


@oracle(
    "feasible_learning", batch=of_setting("classes", numbered), params=[{}, {"eps": 1.7}],
    load={"sizes": {"example": EXAMPLES}, "multiplier_lr": 1e-3}, rate=0.1,
)  # fmt: skip
def feasible_learning(tensors: Tensors, eps: float = 0.5) -> Tensor:
    """sum_i lambda_i (l_i - eps) over the examples of the batch that have a label."""
    there = tensors["labels"] >= 0
    losses = ce(tensors["logits"][there], tensors["labels"][there])
    multipliers = tensors["feasible"][tensors["id"][there]]
    return (multipliers.detach() * (losses - eps)).sum() if bool(there.any()) else torch.zeros(()).double()
