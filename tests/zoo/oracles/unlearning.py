"""Closed forms of the family `unlearning`."""

from __future__ import annotations

import torch
from tests.oracles.rows import mean
from tests.oracles.settings import token_nll
from tests.zoo.harness import Tensors, of_setting, oracle
from torch import Tensor


def without_reference(seed: int, variant: str) -> Tensors:
    """Two streams of tokens; no reference model is asked."""
    batch = of_setting("forget_retain")(seed, variant)
    return {name: tensor for name, tensor in batch.items() if not name.endswith("ref_logp")}


@oracle("simnpo", batch=without_reference, params=[{}, {"beta": 0.7, "gamma": 0.3, "lambda": 0.4}], rate=0.1)
def simnpo(tensors: Tensors, beta: float = 2.5, gamma: float = 0, **weight: float) -> Tensor:
    """-(2 / beta) E log sigma(-(beta / |y|) log pi(y|x) - beta gamma) + lambda E -log pi, the second a mean over tokens."""
    logits, labels, mask = (tensors[f"forget.{name}"] for name in ("logits", "labels", "mask"))
    rows = [token_nll(logits[i], labels[i], mask[i]) for i in range(labels.shape[0])]
    losses = [torch.log(1 + torch.exp(-(beta * nll.sum() / nll.numel() - beta * gamma))) for nll in rows if nll.numel()]
    kept = token_nll(tensors["retain.logits"], tensors["retain.labels"], tensors["retain.mask"])
    return 2 / beta * mean(torch.stack(losses)) + weight.get("lambda", 1) * mean(kept)
