"""A choice between names: only what is chosen is computed, and another choice is another program."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

import lossc

SPEC = """objective chosen
axis b : batch
input x : real[b]
data  y : real[b]
param mode : {near, far} = near

minimize
  loss : mean[b](x^2) if mode == near else mean[b](abs(x - y))
"""


def test_what_is_not_chosen_need_not_be_given() -> None:
    objective = lossc.loads(SPEC)
    x = torch.tensor([1.0, -3.0])
    assert float(objective(x=x).loss) == 5
    objective.set(mode="far")
    assert float(objective(x=x, y=torch.zeros(2)).loss) == 2
    with pytest.raises(lossc.LosscError, match="y"):
        objective(x=x)
    objective.set(mode="near")
    assert float(objective(x=x).loss) == 5


def test_copies_keep_the_choice() -> None:
    objective = lossc.loads(SPEC)
    objective.set(mode="far")
    given = {"x": torch.tensor([1.0, -3.0]), "y": torch.zeros(2)}
    fresh = lossc.loads(SPEC)
    fresh.load_state_dict(objective.state_dict())
    for copied in (copy.deepcopy(objective), pickle.loads(pickle.dumps(objective)), fresh):
        assert copied.settings["mode"] == "far"
        assert float(copied(**given).loss) == 2


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_a_choice_is_exact_under_accumulation(backend: str) -> None:
    """A branch that is coupled by the batch does not make the other one so."""
    spec = SPEC.replace("mean[b](abs(x - y))", "std[b](x - y)")
    objective = lossc.loads(spec, backend=backend)
    x = torch.tensor([1.0, -3.0, 2.0])
    whole = objective(x=x)
    halves = [objective(x=part, denominators=objective.denominators(x=x)).loss for part in (x[:1], x[1:])]
    torch.testing.assert_close(sum(halves), whole.loss)
