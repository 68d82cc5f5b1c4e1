"""What the works of the family `continual` claim."""

from __future__ import annotations

import pytest
import torch
from tests.oracles.batches import tokens
from tests.zoo.harness import Tensors, objective_of, oracles, run_spec
from tests.zoo.oracles.continual import task_and_text, with_importance

import lossc


def test_without_language_modelling_it_is_fine_tuning() -> None:
    batch = task_and_text(3, "plain")
    objective = objective_of("zoo/continual/siatl", gamma_0=1e-300, gamma_1=1e-300)
    objective.total_steps = 10
    found = run_spec(objective, batch)
    torch.testing.assert_close(
        found.value, torch.nn.functional.cross_entropy(batch["task.logits"], batch["task.labels"])
    )


def test_the_weight_of_language_modelling_decays_exponentially() -> None:
    batch = task_and_text(3, "plain")
    objective = objective_of("zoo/continual/siatl", gamma_0=0.8, gamma_1=0.1)
    objective.total_steps = 3
    weights = []
    for _ in range(4):
        weights.append(float(objective(**batch).monitors["gamma"]))
        objective.advance()
    assert weights == pytest.approx([0.8, 0.4, 0.2, 0.1])


def test_weights_that_have_not_moved_cost_nothing() -> None:
    batch: Tensors = dict(tokens(3))
    batch |= with_importance(batch, 3)
    batch["theta_0"] = {name: weight.detach().clone() for name, weight in batch["theta"].named_parameters()}
    found = run_spec(objective_of("zoo/continual/hierarchical"), batch)
    keep = batch["mask"]
    torch.testing.assert_close(
        found.value, torch.nn.functional.cross_entropy(batch["logits"][keep], batch["labels"][keep])
    )
    assert not any(gradient.any() for name, gradient in found.gradients.items() if name.startswith("theta."))


def test_coefficients_of_layers_may_be_given() -> None:
    batch: Tensors = dict(tokens(3))
    batch |= with_importance(batch, 3)
    objective = objective_of("zoo/continual/hierarchical")
    tied = objective(**batch, gamma=torch.tensor([1.0, 0, 0, 0], dtype=torch.float64))
    (b0, *_) = sorted(name for name, _ in batch["theta"].named_parameters())
    moved = batch["Omega"][b0] * (batch["theta"].get_parameter(b0) - batch["theta_0"][b0]) ** 2
    torch.testing.assert_close(tied.terms["keep"], moved.sum())


def test_aligned_weights_of_old_and_new_classes_have_one_mean_norm() -> None:
    one = oracles()["zoo/continual/wa"]
    batch = one.batch(3, "plain")
    gamma = objective_of(one.reference)(**batch).monitors["gamma"]
    aligned = batch["W"].clone()
    aligned[5:] *= gamma
    norms = aligned.norm(dim=-1)
    torch.testing.assert_close(norms[5:].mean(), norms[:5].mean())


def test_new_classes_are_not_distilled() -> None:
    """With the old classes alone the loss of distillation is that of the old classifier's classes."""
    batch = oracles()["zoo/continual/wa"].batch(3, "plain")
    objective = objective_of("zoo/continual/wa")
    moved = batch | {"logits": batch["logits"] + torch.tensor([0.0] * 5 + [9.0, -9.0]).double()}
    torch.testing.assert_close(objective(**batch).terms["keep"], objective(**moved).terms["keep"])


def test_predictions_of_all_classes_are_tracked() -> None:
    """q <- 0.9 q + 0.1 mean softmax of both views."""
    one = oracles()["zoo/continual/lego_gcd"]
    batch = one.batch(3, "plain")
    objective = lossc.load(one.reference, backend="reference", momentum=0.9, **one.load).double()
    run_spec(objective, batch)
    objective.advance()
    expected = 0.9 * batch["q"] + 0.1 * batch["logits"].softmax(-1).mean((0, 1))
    torch.testing.assert_close(objective.state["q"], expected)


def test_only_sure_predictions_of_known_classes_are_kept() -> None:
    one = oracles()["zoo/continual/lego_gcd"]
    batch = one.batch(3, "plain")
    objective = lossc.load(one.reference, backend="reference", **one.load).double()
    terms = objective(**{name: x for name, x in batch.items() if name != "q"}).terms
    unknown = lossc.load(one.reference, backend="reference", n_known=1, **one.load).double()
    assert terms["ler"] != 0
    batch["labels"] = batch["labels"].clamp(max=0)
    assert unknown(**{name: x for name, x in batch.items() if name != "q"}).terms["ler"] == 0
