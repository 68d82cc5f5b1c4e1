"""Evaluating a loss with its gradients, and comparing two evaluations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from tests.oracles.batches import Batch
from torch import Tensor


@dataclass(frozen=True)
class Evaluation:
    """A loss and its gradient to every tensor that carries one (zeros where the loss does not reach it)."""

    value: float
    gradients: dict[str, Tensor]

    @property
    def finite(self) -> bool:
        return math.isfinite(self.value) and all(bool(g.isfinite().all()) for g in self.gradients.values())


def evaluate(loss: Callable[[Batch], Tensor], batch: Batch, inputs: frozenset[str]) -> Evaluation:
    """The loss of a batch and its gradients to `inputs`."""
    leaves = {k: x.detach().clone().requires_grad_(k in inputs) for k, x in batch.items()}
    value = loss(leaves)
    value.backward()
    gradients = {k: torch.zeros_like(x) if x.grad is None else x.grad for k, x in leaves.items() if k in inputs}
    return Evaluation(float(value.detach()), gradients)


def assert_equal(found: Evaluation, expected: Evaluation, tolerance: float = 1e-9) -> None:
    """Equal in value and in every entry of every gradient, relative to the largest entry where that exceeds 1."""
    assert found.value == pytest.approx(expected.value, rel=tolerance, abs=tolerance)
    assert found.gradients.keys() == expected.gradients.keys()
    for name, gradient in expected.gradients.items():
        scale = max(1.0, float(gradient.abs().max()) if gradient.numel() else 1.0)
        error = (found.gradients[name] - gradient).abs().max() if gradient.numel() else torch.tensor(0.0)
        assert float(error) <= tolerance * scale, f"gradient to {name} differs by {float(error):.3g}"
