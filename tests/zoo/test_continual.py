"""What the works of the family `continual` claim."""

from __future__ import annotations

import pytest
import torch
from tests.zoo.harness import objective_of, run_spec
from tests.zoo.oracles.continual import task_and_text


def test_without_language_modelling_it_is_fine_tuning() -> None:
    batch = task_and_text(3, "plain")
    objective = objective_of("zoo/continual/siatl", gamma_0=1e-300, gamma_1=1e-300)
    objective.total_steps = 10
    found = run_spec(objective, batch)
    torch.testing.assert_close(found.value, torch.nn.functional.cross_entropy(batch["task.logits"], batch["task.labels"]))


def test_the_weight_of_language_modelling_decays_exponentially() -> None:
    batch = task_and_text(3, "plain")
    objective = objective_of("zoo/continual/siatl", gamma_0=0.8, gamma_1=0.1)
    objective.total_steps = 3
    weights = []
    for _ in range(4):
        weights.append(float(objective(**batch).monitors["gamma"]))
        objective.advance()
    assert weights == pytest.approx([0.8, 0.4, 0.2, 0.1])
