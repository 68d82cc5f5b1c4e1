"""The claims of works of the family `rl_other` about flows, models, codes, maps and rewards of language."""

from __future__ import annotations

import math

import pytest
import torch
from tests.oracles.batches import uniform
from tests.zoo.harness import hold, objective_of, oracles
from torch import Tensor, nn

VAGRAM = "zoo/rl_other/vagram"


def test_flows_in_proportion_to_the_reward_are_balanced() -> None:
    """One step to each of three objects: log P_F = beta log R - log Z, and nothing to say about the way back."""
    rewards = torch.tensor([[0.5, 0.2], [0.1, 0.9], [0.4, 0.4]], dtype=torch.float64)
    w = torch.tensor([[0.3, 0.7]], dtype=torch.float64).expand(3, 2)
    scaled = 4 * (w * rewards).sum(-1).log()
    batch = {"log_pf": scaled.log_softmax(0)[:, None], "log_pb": torch.zeros(3, 1, dtype=torch.float64),
             "log_z": torch.logsumexp(scaled, 0).expand(3), "mask": torch.ones(3, 1, dtype=torch.bool),
             "reward": rewards, "w": w}  # fmt: skip
    objective = objective_of("zoo/rl_other/mogfn", beta=4)
    assert float(objective(**batch).loss) == pytest.approx(0.0, abs=1e-20)
    assert float(objective(**(batch | {"log_z": batch["log_z"] + 1})).loss) == pytest.approx(1.0)


def test_the_order_is_all_that_matters() -> None:
    """Any increasing map of the scores leaves the loss; so does a constant in the flow, which is log Z."""
    reference = "zoo/rl_other/op_gfn"
    batch = oracles()[reference].batch(1, "plain")
    objective = objective_of(reference)
    loss = objective(**batch).loss
    torch.testing.assert_close(objective(**(batch | {"score": batch["score"].exp() - 7})).loss, loss)
    batch["mask"][:, 0] = True
    shifted = batch["log_pf"].clone()
    shifted[:, 0] -= 2
    torch.testing.assert_close(objective(**(batch | {"log_pf": shifted})).loss, objective(**batch).loss)


class Sum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 5 * x.sum(-1)


def test_a_value_of_even_slope_gives_the_squared_error() -> None:
    batch = oracles()[VAGRAM].batch(2, "plain") | {"V": Sum()}
    objective = objective_of(VAGRAM)
    hold(objective, {"mean_length": torch.tensor(5 * math.sqrt(3), dtype=torch.float64)})
    found = objective(pred=batch["pred"], next=batch["next"], V=batch["V"])
    torch.testing.assert_close(found.loss, found.monitors["squared_error"] / 3)


def test_the_scale_of_values_is_learned_away() -> None:
    objective = objective_of(VAGRAM, keep=0.5)
    batch = oracles()[VAGRAM].batch(3, "plain") | {"V": Sum()}
    for _ in range(30):
        objective(pred=batch["pred"].requires_grad_(), next=batch["next"], V=batch["V"])
        objective.advance()
    assert float(objective.state["mean_length"]) == pytest.approx(5 * math.sqrt(3), rel=1e-6)


def test_codes_and_values_are_trained_apart() -> None:
    """Each head of FRE has its own term: none of them moves what another reads as given."""
    reference = "zoo/rl_other/fre"
    batch = oracles()[reference].batch(4, "plain")
    leaves = {name: batch[name].requires_grad_() for name in ("mu", "logvar", "r_hat", "q", "v", "logp")}
    found = objective_of(reference)(**batch, per_term=True)
    moved = {"decode": {"r_hat"}, "code": {"mu", "logvar"}, "value": {"v"}, "critic": {"q"}, "actor": {"logp"}}
    for term, names in moved.items():
        slopes = torch.autograd.grad(found.terms[term], [*leaves.values()], allow_unused=True, retain_graph=True)
        assert {n for n, slope in zip(leaves, slopes, strict=True) if slope is not None and slope.any()} == names


def test_the_fixed_point_is_that_of_q_learning() -> None:
    """Channels that have what they are to have, r_j + discount Q_j', are not moved, though the loss is in the mapped space."""
    reference = "zoo/rl_other/map_dqn"
    batch = oracles()[reference].batch(5, "plain")
    after = torch.where(batch["q_next"] > 0, 2 * batch["q_next"] + 1, torch.exp(2 * batch["q_next"]))
    best = (after[:, 0] - after[:, 1]).argmax(-1)
    part = torch.stack([batch["r"].clamp(0, 1), (-batch["r"]).clamp(0, 1)], 1)
    y = part + 0.96 * ~batch["done"][:, None] * after[torch.arange(6), :, best].clamp(0, 25)
    y = y.clamp(min=0.01687)
    batch["q"][torch.arange(6), :, batch["taken"]] = torch.where(y > 1, (y - 1) / 2, y.log() / 2)
    assert float(objective_of(reference)(**batch).loss) == pytest.approx(0.0, abs=1e-6)


def test_without_the_penalty_it_is_maximum_likelihood() -> None:
    reference = "zoo/rl_other/iq_learn_lm"
    batch = oracles()[reference].batch(6, "plain")
    found = objective_of(reference, lam=0)(**batch)
    nll = torch.nn.functional.cross_entropy(batch["logits"][batch["mask"]], batch["labels"][batch["mask"]])
    torch.testing.assert_close(found.loss, nll)
    shift = uniform(*batch["mask"].shape, 1, seed=7)
    moved = objective_of(reference)(**(batch | {"logits": batch["logits"] + shift}))
    assert float(moved.terms["difference"]) != pytest.approx(
        float(objective_of(reference)(**batch).terms["difference"])
    )
