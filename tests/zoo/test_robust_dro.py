"""What the works of the family `robust_dro` claim."""

from __future__ import annotations

import math

import torch
from tests.oracles.batches import classes
from tests.zoo.harness import Tensors, objective_of, run_spec
from tests.zoo.oracles.robust_dro import attackable, margins


def batch_of(b: int = 5) -> dict[str, torch.Tensor]:
    return {**classes(2, b=b), "id": torch.arange(b)}


def test_a_fixed_temperature_of_one_is_cross_entropy_minus_log_k() -> None:
    batch = batch_of()
    found = run_spec(objective_of("zoo/robust_dro/aldr_kl", alpha=1e12, c=0), batch).value
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(batch["logits"], batch["labels"]) - math.log(7))


def test_no_temperature_is_the_hinge_of_crammer_and_singer() -> None:
    batch = batch_of()
    found = run_spec(objective_of("zoo/robust_dro/aldr_kl", alpha=1e12, c=1, lambda_0=1e-6), batch).value
    rows = zip(batch["logits"], batch["labels"].tolist(), strict=True)
    hinge = torch.stack([margins(f, y, 1).max() for f, y in rows]).mean()
    torch.testing.assert_close(found, hinge, rtol=0, atol=1e-4)


def test_only_the_examples_of_a_batch_are_visited() -> None:
    batch = batch_of(3)
    batch["labels"][1] = -1
    objective = objective_of("zoo/robust_dro/aldr_kl")
    before = objective.state["lambda"].clone()
    run_spec(objective, batch)
    torch.testing.assert_close(objective.state["lambda"], before)
    objective.advance()
    moved = objective.state["lambda"] != before
    assert moved.tolist() == [n in (0, 2) for n in range(9)]
    assert bool((objective.state["lambda"][moved] < 1).all())


def test_sure_examples_get_a_low_temperature() -> None:
    """The more its worst distribution differs from the uniform one, the lower the temperature of an example."""
    batch = batch_of(2) | {"labels": torch.tensor([0, 0])}
    batch["logits"] = torch.stack([torch.zeros(7), torch.tensor([0.0, 9, 0, 0, 0, 0, 0])]).double()
    objective = objective_of("zoo/robust_dro/aldr_kl", c=0)
    run_spec(objective, batch)
    objective.advance()
    flat, sure = objective.state["lambda"][:2].tolist()
    assert abs(flat - 1) < 1e-12
    assert sure < 0.6


def attacked_losses(batch: Tensors, eps: float) -> torch.Tensor:
    """The losses of the attacked examples, from the gradient of the mean over one example at a time."""
    one = [{**batch, "x": batch["x"][[i]], "labels": batch["labels"][[i]]} for i in range(len(batch["labels"]))]
    return torch.stack([run_spec(objective_of("zoo/robust_dro/done", eps=eps), each).value for each in one])


def test_a_weak_tie_to_uniform_weights_is_the_largest_loss_and_a_strong_one_the_mean() -> None:
    batch = attackable(4, "plain")
    losses = attacked_losses(batch, 0.1)
    for r, expected in ((1e-3, losses.max()), (1e6, losses.mean())):
        found = run_spec(objective_of("zoo/robust_dro/done", r=r, eps=0.1), batch).value
        torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)


def test_attacks_raise_every_loss() -> None:
    batch = attackable(4, "plain")
    clean, attacked = attacked_losses(batch, 1e-9), attacked_losses(batch, 0.3)
    assert bool((attacked > clean).all())
