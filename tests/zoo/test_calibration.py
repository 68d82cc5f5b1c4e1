"""What the works of the family `calibration` claim: a target of correctness, windows that are calibrated."""

from __future__ import annotations

import pytest
import torch
from tests.zoo.harness import Tensors, objective_of, oracles
from torch import Tensor


def slope_of_temperature(scores: list[float], label: int) -> tuple[float, float]:
    """The slopes of correctness-aware calibration and of cross-entropy at temperature 1."""
    found = []
    z, y = torch.tensor([scores]).double(), torch.tensor([label])
    for loss in ("calibration", "cross-entropy"):
        temperature = torch.ones(1, dtype=torch.float64, requires_grad=True)
        batch = {"scores": z, "labels": y, "temperature": temperature}
        value: Tensor = (
            objective_of("zoo/calibration/correctness_aware")(batch).loss
            if loss == "calibration"
            else torch.nn.functional.cross_entropy(z / temperature, y)
        )
        (slope,) = torch.autograd.grad(value, temperature)
        found.append(float(slope))
    return found[0], found[1]


def test_a_narrow_mistake_makes_it_less_sure() -> None:
    """Cross-entropy raises the confidence in the wrong class where the right one is above its mean."""
    ours, theirs = slope_of_temperature([2.0, 1.9, 0.0, 0.0, 0.0], 1)
    assert ours < 0 < theirs


def test_a_right_prediction_makes_it_surer() -> None:
    ours, theirs = slope_of_temperature([2.0, 1.0, -3.0, -3.0], 0)
    assert ours > 0
    assert theirs > 0


def events() -> Tensors:
    return oracles()["zoo/calibration/h_calibration"].batch(3, "plain")


def calibration(**params: float) -> float:
    objective = objective_of("zoo/calibration/h_calibration", **params)
    return float(objective(events()).loss)


def test_one_window_over_everything_is_calibrated() -> None:
    """The probabilities of an example sum to 1, as its events do."""
    assert calibration(h=100) == pytest.approx(0, abs=1e-15)
    assert calibration(h=2) > 0


def test_an_error_within_the_bound_is_none() -> None:
    largest = calibration(h=2)
    assert 0 < calibration(h=2, eps=0.05) < largest
    assert calibration(h=2, eps=1) == 0


def test_probabilities_that_come_true_are_calibrated() -> None:
    """Each level 0, 1/2 or 1 as often as it comes true within its windows."""
    p = torch.tensor([0.0] * 4 + [1.0] * 4).double()
    y = torch.tensor([False] * 4 + [True] * 4)
    batch = {"p": p, "y": y, "class": torch.arange(8) % 3}
    assert float(objective_of("zoo/calibration/h_calibration", h=1)(batch).loss) == 0
