"""The claims of the family `information`."""

from __future__ import annotations

import math

import pytest
import torch
from tests.oracles.batches import uniform
from tests.zoo.harness import objective_of
from torch import Tensor, nn

CS_IB = "zoo/information/cs_ib"
WPC = "zoo/information/wasserstein_predictive_coding"


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


# ---------------------------------------------------------------------------------------------------- dependence


class Sum(nn.Module):
    """scale (<a, x> + <c, y>), of slope `scale` where a and c together have length 1."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale, dtype=torch.float64))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.scale * (0.6 * x[:, 0] + 0.8 * y[:, 0])


def pairs(seed: int, b: int = 6) -> dict[str, Tensor]:
    return {"x": uniform(b, 3, seed=seed), "y": uniform(b, 2, seed=seed + 1)}


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_slopes_of_1_cost_nothing(scale: float) -> None:
    found = objective_of(WPC, lam=2)(**pairs(17), f=Sum(scale))
    assert float(found.terms["penalty"]) == pytest.approx(2 * (scale - 1) ** 2)


def test_a_constant_critic_tells_nothing_and_has_a_gradient() -> None:
    critic = Sum(0.0)
    found = objective_of(WPC, lam=2)(**pairs(19), f=critic)
    assert float(found.terms["nce"]) == pytest.approx(math.log(6))
    assert float(found.terms["penalty"]) == pytest.approx(2.0)
    assert float(found.monitors["dependency"]) == pytest.approx(0.0)
    found.loss.backward()
    assert bool(critic.scale.grad.isfinite())


def test_the_critic_finds_dependence() -> None:
    """On y that is a function of x a critic comes to score partners higher, with slopes near 1."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1)).double()

    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = net

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.inner(torch.cat([x, y], -1))[:, 0]

    x = torch.linspace(-2, 2, 12, dtype=torch.float64)[:, None]
    batch = {"x": x, "y": x**2 / 2, "f": Joined()}
    objective = objective_of(WPC, lam=1)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(40):
        optimiser.zero_grad()
        objective(**batch).loss.backward()
        optimiser.step()
        objective.advance()
    found = objective(**batch)
    assert float(found.monitors["dependency"]) > 0.1
    assert float(found.terms["nce"]) < math.log(12) - 0.1
    assert float(found.terms["penalty"]) < 0.2
