"""The claims of the family `fairness`."""

from __future__ import annotations

import pytest
import torch
from tests.oracles.batches import uniform
from tests.zoo.harness import objective_of
from torch import Tensor

FAIR = "zoo/fairness/dcov_fairness"


def crossed(yhat: Tensor) -> dict[str, Tensor]:
    """Two binary attributes, and a number, fully crossed; one prediction for each cell."""
    cells = torch.cartesian_prod(torch.arange(2), torch.arange(2), torch.arange(3))
    return {"yhat": yhat, "y": yhat, "category": cells[:, :2], "number": cells[:, 2:].double()}


def penalty(measure: str, yhat: Tensor) -> float:
    return float(objective_of(FAIR, measure=measure)(**crossed(yhat)).terms["dependence"])


CELLS = crossed(torch.zeros(12))["category"]
EXCLUSIVE = (CELLS[:, 0] != CELLS[:, 1]).double()
"""Fair to each attribute, unfair to the cells: 1 where exactly one of the two holds."""


@pytest.mark.parametrize("measure", ["ccdcov", "dcov", "jdcov"])
def test_a_constant_prediction_is_fair(measure: str) -> None:
    assert penalty(measure, torch.full((12,), 0.7, dtype=torch.float64)) == pytest.approx(0.0, abs=1e-12)


def test_the_sum_over_attributes_does_not_see_gerrymandering() -> None:
    assert penalty("dcov", EXCLUSIVE) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("measure", ["ccdcov", "jdcov"])
def test_joint_measures_see_gerrymandering(measure: str) -> None:
    assert penalty(measure, EXCLUSIVE) > 0.01


def test_predictions_independent_of_the_joint_attributes_are_fair() -> None:
    """Every cell has the same two predictions: the empirical distribution is a product, so CCdCov is 0."""
    twice = {name: torch.cat([x, x]) for name, x in crossed(torch.zeros(12, dtype=torch.float64)).items()}
    twice["yhat"] = torch.cat([torch.zeros(12), torch.ones(12)]).double()
    for measure in ("ccdcov", "dcov"):
        found = objective_of(FAIR, measure=measure)(**twice)
        assert float(found.terms["dependence"]) == pytest.approx(0.0, abs=1e-12)
        assert float(found.monitors["correlation"]) == pytest.approx(0.0, abs=1e-9)


def test_jdcov_of_one_attribute_is_distance_covariance() -> None:
    b = 6
    batch = {
        "yhat": uniform(b, seed=1),
        "y": uniform(b, seed=2),
        "number": uniform(b, 1, seed=3),
        "category": torch.zeros(b, 0, dtype=torch.int64),
    }
    values = [float(objective_of(FAIR, measure=m)(**batch).terms["dependence"]) for m in ("dcov", "jdcov", "ccdcov")]
    assert values[0] == pytest.approx(values[1])
    assert values[0] == pytest.approx(values[2])


def test_descent_makes_predictions_fair() -> None:
    batch = crossed((EXCLUSIVE + 0.1 * uniform(12, seed=4)).requires_grad_())
    batch["y"] = EXCLUSIVE
    objective = objective_of(FAIR, lam=20)
    before = float(objective(**batch).terms["dependence"])
    optimiser = torch.optim.Adam([batch["yhat"]], lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        objective(**batch).loss.backward()
        optimiser.step()
    assert float(objective(**batch).terms["dependence"]) < 0.3 * before
