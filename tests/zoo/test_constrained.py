"""What the works of the family `constrained` claim."""

from __future__ import annotations

import pytest
import torch
from tests.oracles.batches import classes
from tests.zoo.harness import objective_of, oracles, run_spec
from torch import Tensor, nn

import lossc
from lossc import Objective

REFERENCE = "zoo/constrained/feasible_learning"


def test_equal_multipliers_are_empirical_risk_minimisation() -> None:
    """The gradient with every multiplier 1/n is that of the mean of the losses."""
    batch = {**classes(3, b=9), "id": torch.arange(9), "feasible": torch.full((9,), 1 / 9).double()}
    found = run_spec(objective_of(REFERENCE), batch)
    mean = lossc.loads("ce", setting="classes", backend="reference").double()
    expected = run_spec(mean, classes(3, b=9))
    torch.testing.assert_close(found.gradients["logits"], expected.gradients["logits"])
    assert float(found.value) == pytest.approx(float(expected.value) - 0.5)


def test_multipliers_ascend_by_the_excess_and_are_never_negative() -> None:
    """lambda_i <- [lambda_i + eta (l_i - eps)]_+, those of other examples stay."""
    one = oracles()[REFERENCE]
    objective = lossc.load(REFERENCE, backend="reference", **{**one.load, "multiplier_lr": 0.3, "eps": 2.0}).double()
    batch = {**classes(3, b=4), "id": torch.tensor([7, 2, 5, 0])}
    held = torch.linspace(0, 0.4, 9).double()
    losses = torch.nn.functional.cross_entropy(batch["logits"], batch["labels"], reduction="none")
    with torch.no_grad():
        objective.multipliers["feasible"].copy_(held)
    objective(**batch)
    objective.advance()
    expected = held.clone()
    expected[batch["id"]] = (held[batch["id"]] + 0.3 * (losses - 2)).clamp(min=0)
    torch.testing.assert_close(objective.multipliers["feasible"], expected)
    assert float(expected[batch["id"]].min()) == 0


def fitted(objective: Objective, **numbers: Tensor) -> Tensor:
    """The losses of a linear model on two groups, of which one is rare and far from the other, after training."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(32, 2, generator=generator) + torch.tensor([2.5, -3.0]) * (torch.arange(32) >= 28).unsqueeze(-1)
    y = torch.where(torch.arange(32) < 28, x[:, 0] > 0, False).long()
    model = nn.Linear(2, 2)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.03 if numbers else 0.5)
    for _ in range(120):
        optimiser.zero_grad()
        objective(logits=model(x), labels=y, **numbers).loss.backward()
        optimiser.step()
        objective.advance()
    return torch.nn.functional.cross_entropy(model(x), y, reduction="none").detach()


def test_the_tail_is_better_and_the_average_little_worse() -> None:
    mean = fitted(lossc.loads("ce", setting="classes"))
    constrained = lossc.load(REFERENCE, sizes={"example": 32}, multiplier_lr=0.02, eps=0.4)
    feasible = fitted(constrained, id=torch.arange(32))
    assert float(feasible.max()) < 0.6 * float(mean.max())
    assert float(feasible.mean()) < 1.3 * float(mean.mean())


def rewarded(offset: float) -> dict[str, Tensor]:
    """Rollouts whose rewards of three models are all on one side of the thresholds."""
    batch = oracles()["zoo/constrained/mu_ppo"].batch(3, "plain")
    return batch | {"J": batch["J"].abs() * offset}


@pytest.mark.parametrize("form", ["inequality", "equality"])
def test_a_reward_below_its_proxy_point_gains_weight(form: str) -> None:
    """Descent raises the multiplier there, and lowers it beyond."""
    objective = lossc.load("zoo/constrained/mu_ppo", backend="reference", form=form, sizes={"rm": 3}).double()
    assert (run_spec(objective, rewarded(-1)).gradients["l"] < 0).all()
    assert (run_spec(objective, rewarded(1)).gradients["l"] > 0).all()


def test_without_multipliers_only_the_divergence_is_left() -> None:
    batch = rewarded(1) | {"l": torch.zeros(3).double()}
    objective = lossc.load("zoo/constrained/mu_ppo", backend="reference", form="equality", sizes={"rm": 3}).double()
    found = run_spec(objective, batch).gradients["logits"]
    other = run_spec(objective, batch | {"A": -batch["A"]}).gradients["logits"]
    torch.testing.assert_close(found, other)
