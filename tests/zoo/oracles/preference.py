"""Closed forms of the family `preference`, each from the formula of its paper."""

from __future__ import annotations

import torch
from tests.oracles.rows import mean
from tests.oracles.settings import pair_logps
from tests.zoo.harness import Tensors, of_setting, oracle
from torch import Tensor

log_sigmoid = torch.nn.functional.logsigmoid


def pair_values(tensors: Tensors) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """log pi(y_w), log pi(y_l), log pi_ref(y_w), log pi_ref(y_l) of the pairs of which both responses are present."""
    ref = tensors["ref_logp"]
    found = list(pair_logps(tensors["logits"], tensors["labels"], tensors["mask"]))
    rows = [row for row, _, _ in found]
    return torch.stack([w for _, w, _ in found]), torch.stack([r for _, _, r in found]), ref[rows, 0], ref[rows, 1]


@oracle("dpo_shift", batch=of_setting("pairs"), params=[{}, {"f": 0.5, "beta": 0.3}, {"f": 1}])
def dpo_shift(tensors: Tensors, beta: float = 0.1, f: float = 0.95) -> Tensor:
    """-log sigma(beta (log pi(y_w) - f log pi(y_l)) - beta (log pi_ref(y_w) - f log pi_ref(y_l)))."""
    w, r, ref_w, ref_r = pair_values(tensors)
    return mean(-log_sigmoid(beta * (w - f * r) - beta * (ref_w - f * ref_r)))
