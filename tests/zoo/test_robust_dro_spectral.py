"""The claims of the spectral risk with a shift cost."""

from __future__ import annotations

import pytest
import torch
from tests.zoo.harness import objective_of, oracles
from torch import Tensor

PROSPECT = "zoo/robust_dro/prospect"


def losses(batch: dict[str, Tensor]) -> Tensor:
    return torch.nn.functional.cross_entropy(batch["logits"], batch["labels"], reduction="none")


@pytest.mark.parametrize("params", [{"draws": 1}, {"nu": 1e9}])
def test_an_even_spectrum_or_a_high_cost_is_the_mean(params: dict[str, float]) -> None:
    batch = oracles()[PROSPECT].batch(1, "plain")
    torch.testing.assert_close(objective_of(PROSPECT, **params)(**batch).loss, losses(batch).mean())


def test_without_a_cost_it_is_the_extremile() -> None:
    """sum_i sigma_i l_(i), the expected largest of two losses drawn from the batch."""
    batch = oracles()[PROSPECT].batch(2, "plain")
    each = losses(batch)
    largest = torch.maximum(each[:, None], each[None, :]).mean()
    torch.testing.assert_close(objective_of(PROSPECT, nu=1e-7)(**batch).loss, largest, rtol=1e-6, atol=1e-6)


def test_more_draws_are_worse_and_cost_makes_milder() -> None:
    batch = oracles()[PROSPECT].batch(3, "plain")
    by_draws = [float(objective_of(PROSPECT, draws=k, nu=0.01)(**batch).loss) for k in (1, 2, 5)]
    by_cost = [float(objective_of(PROSPECT, draws=3, nu=nu)(**batch).loss) for nu in (0.01, 0.1, 1)]
    assert by_draws == sorted(by_draws)
    assert by_cost == sorted(by_cost, reverse=True)
    assert by_cost[-1] >= float(losses(batch).mean())
