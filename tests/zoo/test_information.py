"""The claims of the family `information`."""

from __future__ import annotations

import pytest
import torch
from tests.oracles.batches import uniform
from tests.zoo.harness import objective_of
from torch import Tensor

CS_IB = "zoo/information/cs_ib"


def batch(seed: int) -> dict[str, Tensor]:
    return {
        "x": uniform(7, 2, seed=seed),
        "t": uniform(7, 3, seed=seed + 1),
        "yhat": uniform(7, seed=seed + 2).requires_grad_(),
        "y": uniform(7, seed=seed + 3),
    }


def test_the_divergence_is_0_at_the_responses() -> None:
    given = batch(1)
    found = objective_of(CS_IB)(**(given | {"yhat": given["y"]}))
    assert float(found.terms["prediction"]) == pytest.approx(0.0, abs=1e-12)


def test_normalised_information_is_1_of_a_copy_and_0_of_a_constant() -> None:
    given = batch(5)
    objective = objective_of(CS_IB, beta=1)
    assert float(objective(**(given | {"t": given["x"]})).terms["compression"]) == pytest.approx(1.0)
    constant = torch.zeros(7, 3, dtype=torch.float64)
    assert float(objective(**(given | {"t": constant})).terms["compression"]) == pytest.approx(0.0, abs=1e-3)


def test_descent_on_the_divergence_alone_fits_the_responses() -> None:
    """No squared error is asked for, and it falls."""
    given = batch(9)
    objective = objective_of(CS_IB, beta=0, sigma=0.5)
    before = float(objective(**given).monitors["squared_error"])
    optimiser = torch.optim.Adam([given["yhat"]], lr=0.05)
    for _ in range(60):
        optimiser.zero_grad()
        objective(**given).loss.backward()
        optimiser.step()
    assert float(objective(**given).monitors["squared_error"]) < 0.5 * before


def test_far_predictions_leave_numbers_finite() -> None:
    """Gram matrices are kept as logarithms: exp(-(yhat - y)^2 / 2) of 1e3 would be 0."""
    given = batch(13)
    given["yhat"] = (given["y"] + 1e3).requires_grad_()
    loss = objective_of(CS_IB)(**given).loss
    loss.backward()
    assert bool(loss.isfinite())
    assert bool(given["yhat"].grad.isfinite().all())
