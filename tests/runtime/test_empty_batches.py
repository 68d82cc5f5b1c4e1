"""Batches without rows, classes or features, as scores and as heads, on every backend."""

from __future__ import annotations

import pytest
import torch

import lossc

TEXT = """axis b : batch
axis v
input z : logits[b, v]
data  y : label[b] in v
minimize
  f : mean[b](-log_softmax[v](z)[v = y])
"""


@pytest.mark.parametrize("backend", ["reference", "torch", "c"])
@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (0, 0)])
@pytest.mark.parametrize("features", [None, 5, 0])
def test_nothing_has_loss_0_and_gradient_0(shape: tuple[int, int], features: int | None, backend: str) -> None:
    objective = lossc.loads(TEXT, backend=backend)
    rows, classes = shape
    y = torch.full((rows,), -1)
    if features is None:
        z = torch.zeros(shape, requires_grad=True)
        result = objective(z=z, y=y)
    else:
        z = torch.zeros(rows, features, requires_grad=True)
        result = objective(z=lossc.Linear(z, torch.zeros(classes, features, requires_grad=True)), y=y)
    result.loss.backward()
    assert result.loss == 0 and result.counts["f"] == 0
    assert z.grad is None or not z.grad.any()


@pytest.mark.parametrize("backend", ["reference", "torch", "c"])
def test_a_head_without_features_gives_even_scores(backend: str) -> None:
    head = lossc.Linear(torch.zeros(2, 0, requires_grad=True), torch.zeros(3, 0))
    loss = lossc.loads(TEXT, backend=backend)(z=head, y=torch.tensor([0, 2])).loss
    assert loss.item() == pytest.approx(1.0986123)


def test_a_softcap_is_finite() -> None:
    with pytest.raises(lossc.LosscError, match="E722"):
        lossc.Linear(torch.zeros(2, 1), torch.zeros(3, 1), softcap=float("inf"))
