"""The claims of neural optimal transport that keeps classes."""

from __future__ import annotations

import pytest
import torch
from tests.zoo.harness import objective_of, oracles
from tests.zoo.oracles.networks import Scores

GNOT = "zoo/ot/gnot"


def test_classes_that_lie_where_they_are_to_lie_cost_nothing() -> None:
    batch = oracles()[GNOT].batch(1, "plain")
    batch |= {"Tx": batch["y"].clone(), "class_x": batch["class_y"]}
    objective = objective_of(GNOT)
    assert float(objective(**batch).terms["classes"]) == pytest.approx(0.0, abs=1e-12)
    exchanged = torch.where(batch["class_y"] >= 0, 1 - batch["class_y"], -1)
    assert float(objective(**(batch | {"class_x": exchanged})).terms["classes"]) > 0.01


def test_the_potential_and_the_map_do_not_move_each_other() -> None:
    batch = oracles()[GNOT].batch(2, "plain")
    tx = batch["Tx"].requires_grad_()
    found = objective_of(GNOT)(**batch, per_term=True).terms
    (slope,) = torch.autograd.grad(found["potential"], [tx], allow_unused=True, retain_graph=True)
    assert slope is None or not slope.any()
    held = batch["held"]
    assert isinstance(held, Scores)
    with pytest.raises(RuntimeError, match="not have been used in the graph"):
        torch.autograd.grad(found["map"], [held.inner])
