"""Calls with unusual names and shapes: tensors called as options, hundreds of axes, branches of a choice."""

from __future__ import annotations

import pytest
import torch

import lossc
from lossc import LosscError

NAMED = """
axis b : batch
input values       : real[b]
data  per_term     : real[b]
data  denominators : real[b]
minimize
  fit : mean[b]((values - per_term)^2 * denominators)
"""
CHOICE = """
axis b : batch
axis t
param mode : {token, sequence, both} = token
input x : real[b, t]
data  m : mask[b, t]
minimize
  fit : mean[b, t where m](x^2) if mode == token else mean[b](mean[t where m](x^2)) if mode == sequence else 0.5 * sum[b, t](x)
"""


def many_axes(count: int) -> str:
    names = [f"a{number}" for number in range(count)]
    axes = "\n".join(f"axis {name}" for name in names)
    return f"axis b : batch\n{axes}\ninput x : real[b, {', '.join(names)}]\nminimize\n  l : sum[b, {', '.join(names)}](x^2)\n"


def test_a_tensor_called_as_an_option_is_given_by_name() -> None:
    objective = lossc.loads(NAMED)
    batch = {name: torch.full((3,), number) for name, number in (("values", 3.0), ("per_term", 1.0), ("denominators", 2.0))}
    assert objective(**batch).loss == objective(batch).loss == 8
    assert objective(batch, values=True).values["fit"].value.tolist() == [8.0, 8.0, 8.0]
    shared = objective.denominators(**batch)
    assert objective(batch, denominators=shared + shared).loss == 4


def test_an_option_that_is_given_something_else_is_refused() -> None:
    objective = lossc.loads("mse", setting="regression")
    batch = lossc.example_inputs(objective)
    for name in ("values", "per_term", "denominators"):
        with pytest.raises(LosscError, match=f"`{name}` is an option of the call") as raised:
            objective(batch, **{name: torch.ones(3)})
        assert [problem.code for problem in raised.value.diagnostics] == ["E702"]


@pytest.mark.parametrize("count", [10, 20, 60])
def test_example_inputs_of_many_axes_stay_small(count: int) -> None:
    objective = lossc.loads(many_axes(count))
    batch = lossc.example_inputs(objective, {"b": 3})
    assert batch["x"].shape[0] == 3 and batch["x"].numel() <= 1 << 22
    assert torch.isclose(objective(batch).loss, batch["x"].detach().square().sum(), rtol=1e-5)


def test_more_axes_than_a_tensor_has_are_refused_where_they_are_written() -> None:
    with pytest.raises(LosscError, match="a value of 71 axes, as `l` has one,") as raised:
        lossc.loads(many_axes(70))
    assert [problem.code for problem in raised.value.diagnostics] == ["E601"]


def test_given_extents_are_kept_whatever_they_are() -> None:
    objective = lossc.loads(many_axes(2))
    assert lossc.example_inputs(objective, {"b": 1, "a0": 3000, "a1": 3000})["x"].shape == (1, 3000, 3000)


def test_the_count_is_that_of_the_branch_taken() -> None:
    objective = lossc.loads(CHOICE)
    mask = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    counts = {}
    for mode in ("token", "sequence", "both"):
        objective.set(mode=mode)
        counts[mode] = objective(x=torch.ones(3, 3, requires_grad=True), m=mask).counts["fit"].item()
    assert counts == {"token": 3, "sequence": 2, "both": 9}
