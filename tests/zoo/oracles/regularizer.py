"""Closed forms of the family `regularizer`, each from the formula of its paper, one matrix at a time."""

from __future__ import annotations

import torch
from tests.oracles.batches import uniform
from tests.zoo.harness import Tensors, of_setting, oracle
from tests.zoo.oracles.attacks import network
from torch import Tensor, nn


def initial(net: nn.Module, seed: int) -> dict[str, Tensor]:
    """Weights by name from which those of the network have moved."""
    return {
        name: weight.detach() + uniform(*weight.shape, seed=seed + at) / 2
        for at, (name, weight) in enumerate(net.named_parameters())
    }


def with_weights(tensors: Tensors, seed: int) -> Tensors:
    classes = tensors["logits"].shape[-1]
    net = network(3, classes)
    return {"w": net, "w_0": initial(net, seed + 50), "b_0": network(3, classes)}


@oracle(
    "spectral",
    batch=of_setting("classes", with_weights),
    params=[{"lambda": 1}, {"lambda": 0.1, "k": 2}, {"lambda": 0.5, "form": "wasserstein"}],
)
def spectral(tensors: Tensors, k: float = 1, form: str = "spectral", **others: float) -> Tensor:
    """CE + lambda sum_l (sigma_max(W_l)^k - 1)^2 + lambda sum |b|^2, or lambda sum_l sum_i (sort(W)_i - sort(W0)_i)^2."""
    rows = tensors["labels"] >= 0
    loss = torch.nn.functional.cross_entropy(tensors["logits"][rows], tensors["labels"][rows])
    matrices = {name: weight for name, weight in tensors["w"].named_parameters() if name.endswith("weight")}
    if form == "wasserstein":
        apart = [(w.flatten().sort()[0] - tensors["w_0"][n].flatten().sort()[0]).square().sum() for n, w in matrices.items()]
        return loss + others["lambda"] * sum(apart)
    largest = [torch.linalg.matrix_norm(w, 2) for w in matrices.values()]
    biases = [b.square().sum() for name, b in tensors["b_0"].named_parameters() if name.endswith("bias")]
    return loss + others["lambda"] * (sum((s**k - 1) ** 2 for s in largest) + sum(biases))
