"""The claims of works of the family `imbalance` that weight examples and learn links."""

from __future__ import annotations

import pytest
import torch
from tests.zoo.harness import objective_of, oracles

EQUITY = "zoo/imbalance/dataset_equity"
APA = "zoo/imbalance/apa"


@pytest.mark.parametrize("params", [{"gamma": 0}, {"eta": 1e9}])
def test_the_unweighted_loss(params: dict[str, float]) -> None:
    batch = oracles()[EQUITY].batch(1, "plain")
    plain = torch.nn.functional.cross_entropy(batch["logits"], batch["labels"])
    torch.testing.assert_close(objective_of(EQUITY, **params)(**batch).loss, plain)


def test_weights_are_bounded() -> None:
    batch = oracles()[EQUITY].batch(2, "plain")
    for likelihood, weight in ((0.0, 1.0), (1.0, 0.25 / 1.25)):
        given = batch | {"likelihood": torch.full_like(batch["likelihood"], likelihood)}
        assert float(objective_of(EQUITY, eta=0.25)(**given).monitors["weight"]) == pytest.approx(weight)


def with_link(batch: dict[str, torch.Tensor], shape: float, slope: float) -> torch.Tensor:
    objective = objective_of(APA)
    with torch.no_grad():
        objective.learn["lambda"].fill_(shape)
        objective.learn["kappa"].fill_(slope)
    return objective(z=batch["z"], y=batch["y"]).loss


def test_the_sigmoid_and_the_gumbel_distribution_are_links() -> None:
    batch = oracles()[APA].batch(3, "plain")
    y = batch["y"].to(torch.float64)
    sigmoid = torch.nn.functional.binary_cross_entropy_with_logits(batch["z"], y)
    torch.testing.assert_close(with_link(batch, 1, 1), sigmoid)
    gumbel = torch.nn.functional.binary_cross_entropy(torch.exp(-torch.exp(-batch["z"])), y)
    torch.testing.assert_close(with_link(batch, 1e-4, 1), gumbel, rtol=1e-3, atol=1e-3)


def test_far_scores_stay_finite() -> None:
    z = torch.tensor([[-300.0, 300.0]], dtype=torch.float64, requires_grad=True)
    loss = objective_of(APA)(z=z, y=torch.tensor([[True, False]])).loss
    loss.backward()
    assert float(loss.detach()) == pytest.approx(300)
    assert bool(z.grad.isfinite().all())
