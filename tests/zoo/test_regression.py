"""The claims of the family `regression`."""

from __future__ import annotations

import pytest
import torch
from tests.oracles.batches import integers, uniform
from tests.zoo.harness import objective_of, oracles
from torch import Tensor

BAGS = "zoo/regression/aggregate_responses"
QUANTILES = "zoo/regression/quantile_aggregation"


def bags(seed: int) -> dict[str, Tensor]:
    return {"f": uniform(9, seed=seed), "bag": integers(9, high=3, seed=seed + 1), "ybar": uniform(3, seed=seed + 2)}


def test_instances_are_bags_plus_the_variance_within() -> None:
    """L_ins = L_bag + mean_a Var_{i in a}(f_i), for bags of any size."""
    batch = bags(1)
    instances = objective_of(BAGS, rho=1)(**batch)
    bag_level = objective_of(BAGS, rho=0)(**batch)
    torch.testing.assert_close(instances.loss, bag_level.loss + instances.monitors["variance"])


@pytest.mark.parametrize("rho", [0.0, 0.3, 1.0])
def test_rho_weights_the_variance(rho: float) -> None:
    batch = bags(4)
    found = objective_of(BAGS, rho=rho)(**batch)
    torch.testing.assert_close(found.loss, objective_of(BAGS, rho=0)(**batch).loss + rho * found.monitors["variance"])


def test_bags_of_one_row_are_least_squares() -> None:
    f, y = uniform(5, seed=7), uniform(5, seed=8)
    for rho in (0.0, 0.5, 1.0):
        found = objective_of(BAGS, rho=rho)(f=f, bag=torch.arange(5), ybar=y).loss
        torch.testing.assert_close(found, ((y - f) ** 2).mean())


@pytest.mark.parametrize("seed", range(5))
def test_sorting_never_hurts(seed: int) -> None:
    """The pinball loss of the sorted quantiles is at most that of the quantiles themselves."""
    found = objective_of(QUANTILES)(**oracles()[QUANTILES].batch(seed, "plain"))
    assert float(found.monitors["sorted"]) <= float(found.terms["pinball"]) + 1e-12


def test_quantiles_in_order_do_not_cross() -> None:
    batch = oracles()[QUANTILES].batch(3, "plain")
    rising = torch.arange(5, dtype=torch.float64)[None, :, None].expand(4, 5, 3)
    found = objective_of(QUANTILES, delta=0.5)(**(batch | {"q": rising}))
    assert float(found.terms["crossing"]) == 0
    assert float(objective_of(QUANTILES, delta=0.5)(**(batch | {"q": -rising})).terms["crossing"]) > 1


def test_a_model_that_is_right_takes_all_the_weight() -> None:
    """Descent on the scores alone prefers the model whose quantiles are those of the responses."""
    b, level = 40, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    y = uniform(b, seed=9)
    right = torch.quantile(y, level)[None, :, None].expand(b, 3, 1)
    q = torch.cat([right, right + 2, right - 2], -1)
    scores = torch.zeros(b, 3, 3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([scores], lr=0.3)
    objective = objective_of(QUANTILES)
    for _ in range(30):
        optimiser.zero_grad()
        objective(scores=scores - scores.mean(0, keepdim=True) + scores.mean(0), q=q, level=level, y=y).loss.backward()
        optimiser.step()
    assert bool((scores.detach().mean(0).argmax(-1) == 0).all())
