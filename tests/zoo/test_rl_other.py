"""What the works of the family `rl_other` claim."""

from __future__ import annotations

import torch
from tests.oracles.batches import scores
from tests.zoo.harness import objective_of, run_spec

import lossc


def terminal(values: list[float], bins: int = 21) -> dict[str, torch.Tensor]:
    """Transitions that end an episode with these rewards."""
    b = len(values)
    return {
        "logits": scores(b, bins, seed=1),
        "next_logits": scores(b, bins, seed=2),
        "r": torch.tensor(values, dtype=torch.float64),
        "done": torch.ones(b, dtype=torch.bool),
    }


def test_a_narrow_target_is_the_label_of_its_bin() -> None:
    batch = terminal([-7.1, 0.3, 9.0])
    width = 20 / 21
    bins = ((batch["r"] + 10) / width).floor().long()
    found = run_spec(objective_of("zoo/rl_other/hl_gauss", ratio=1e-3), batch).value
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(batch["logits"], bins))


def test_the_mean_of_the_target_is_the_value_away_from_the_ends() -> None:
    """The gradient of a row is softmax - q, divided by the number of rows."""
    batch = terminal([-3.3, 0.21, 4.4], bins=101)
    gradient = run_spec(objective_of("zoo/rl_other/hl_gauss"), batch).gradients["logits"]
    q = batch["logits"].softmax(-1) - 3 * gradient
    centres = -10 + 20 / 101 * (torch.arange(101) + 0.5)
    torch.testing.assert_close((q * centres).sum(-1), batch["r"], rtol=0, atol=1e-3)


def test_the_next_value_carries_no_gradient() -> None:
    batch = {**terminal([0.1]), "done": torch.zeros(1, dtype=torch.bool)}
    assert "next_logits" not in run_spec(objective_of("zoo/rl_other/hl_gauss"), batch).gradients
    assert lossc.load("zoo/rl_other/hl_gauss").program.tensors["next_logits"].role == "data"
