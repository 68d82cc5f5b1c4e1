"""The claims of the family `physics`."""

from __future__ import annotations

import pytest
import torch
from tests.oracles.batches import uniform
from tests.zoo.harness import Tensors, objective_of
from tests.zoo.oracles.physics import Curve
from torch import Tensor, nn

PINN = "zoo/physics/singular_pinn"


class Legendre(nn.Module):
    """P_l by its recurrence, times one learned number."""

    def __init__(self, degree: int) -> None:
        super().__init__()
        self.degree = degree
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        before, now = torch.ones_like(x), x
        for n in range(1, self.degree):
            before, now = now, ((2 * n + 1) * x * now - n * before) / (n + 1)
        return self.scale * now


def interval(net: nn.Module, degree: int = 2) -> Tensors:
    """Points of [-1, 1] with both singular points, at which the values are given."""
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)
    given = (x.abs() == 1.0) | (x == 0.0)
    return {"net": net, "x": x, "given": given, "g": Legendre(degree)(x).detach()}


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_the_exact_solution_has_no_residual(degree: int) -> None:
    """P_l solves Legendre's equation everywhere, its singular points included."""
    found = objective_of(PINN, l=degree)(**interval(Legendre(degree)))
    assert float(found.monitors["largest"]) < 1e-10
    assert float(found.terms["residual"]) < 1e-20


def test_another_degree_has_a_residual() -> None:
    assert float(objective_of(PINN, l=3)(**interval(Legendre(2))).monitors["largest"]) > 1


def test_the_gradient_reaches_the_network_through_both_derivatives() -> None:
    net = Legendre(2)
    objective_of(PINN, l=3)(**interval(net)).loss.backward()
    assert float(net.scale.grad.abs()) > 1


def test_the_worse_loss_gets_the_larger_weight() -> None:
    """The averages follow the losses: after a step the part that is larger weighs more than 1, and both sum to 2."""
    objective = objective_of(PINN, keep=0.5)
    batch = interval(Curve(3))
    first = objective(**batch)
    plain = {name: float(first.terms[name]) for name in ("residual", "values")}
    first.loss.backward()
    objective.advance()
    second = objective(**batch)
    weights = {name: float(second.terms[name]) / plain[name] for name in plain}
    assert sum(weights.values()) == pytest.approx(2.0)
    assert (weights["residual"] > 1) == (plain["residual"] > plain["values"])


def test_training_approaches_the_polynomial() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 12), nn.Tanh(), nn.Linear(12, 1)).double()

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = net

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x[:, None])[:, 0]

    objective, batch = objective_of(PINN, l=1), interval(Flat(), 1)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(120):
        optimiser.zero_grad()
        objective(**batch).loss.backward()
        optimiser.step()
        objective.advance()
    inside = uniform(7, seed=1)
    error = (batch["net"](inside) - Legendre(1)(inside)).abs().max()
    assert float(error.detach()) < 0.1
