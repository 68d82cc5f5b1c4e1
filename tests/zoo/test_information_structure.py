"""The claims of works of the family `information` that keep structure: masks, shares of classes, dynamics, choices."""

from __future__ import annotations

import math

import pytest
import torch
from tests.oracles.batches import uniform
from tests.zoo.harness import objective_of, oracles
from torch import Tensor, nn

SFDA = "zoo/information/sfda"
KOOPMAN = "zoo/information/info_koopman"


def test_an_even_prior_asks_for_mutual_information() -> None:
    """KL(tau, 1/K) = log K - H(tau): with the entropy of pixels, log K less the information of pixel and class."""
    batch = oracles()[SFDA].batch(3, "plain")
    p = batch["logits"].softmax(-1)
    tau = p.mean(1)
    found = objective_of(SFDA)(**(batch | {"prior": torch.full_like(tau, 1 / tau.shape[-1])}))
    of_means = -(tau * tau.log()).sum(-1).mean()
    of_pixels = -(p * p.log()).sum(-1).mean()
    assert float(found.terms["prior"]) == pytest.approx(math.log(4) - float(of_means))
    assert float(found.loss) == pytest.approx(math.log(4) - float(of_means - of_pixels))


def test_an_explanation_that_changes_nothing_costs_its_mask_alone() -> None:
    reference = "zoo/information/timex_pp"
    batch = oracles()[reference].batch(4, "plain")
    batch |= {"logits_x": batch["logits"] + 3, "explained": batch["reference"], "m": torch.full_like(batch["m"], 0.2)}
    found = objective_of(reference, r=0.2)(**batch)
    for term in ("label", "sparse", "connect", "likeness"):
        assert float(found.terms[term]) == pytest.approx(0.0, abs=1e-5)


def test_entropy_is_largest_where_all_directions_are_used_alike() -> None:
    batch = oracles()[KOOPMAN].batch(5, "plain")
    z = torch.linalg.qr(torch.cat([torch.ones(6, 1, dtype=torch.float64), uniform(6, 3, seed=6)], 1))[0][:, 1:]
    objective = objective_of(KOOPMAN, gamma=1)
    assert float(objective(**(batch | {"z": z})).monitors["dimensions"]) == pytest.approx(3.0)
    collapsed = z * torch.tensor([1.0, 1e-4, 1e-4], dtype=torch.float64)
    assert float(objective(**(batch | {"z": collapsed})).monitors["dimensions"]) == pytest.approx(1.0, abs=1e-3)


def test_states_that_move_by_the_matrix_cost_nothing() -> None:
    batch = oracles()[KOOPMAN].batch(7, "plain")
    z = [batch["z"][0]]
    for _ in range(4):
        z.append(batch["K"] @ z[-1])
    found = objective_of(KOOPMAN)(**(batch | {"z": torch.stack([*z, batch["z"][5]])}))
    assert float(found.terms["linear"]) == pytest.approx(0.0, abs=1e-12)


class Reads(nn.Module):
    """Scores of two classes from what is seen of the third feature."""

    def forward(self, x: Tensor, m: Tensor) -> Tensor:
        return torch.stack([-8 * x[:, 2], 8 * x[:, 2]], 1)


class Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(4, dtype=torch.float64))

    def forward(self, x: Tensor, m: Tensor) -> Tensor:
        return self.scores.expand(len(x), 4)


def test_the_policy_asks_for_what_tells_most() -> None:
    """Only the third of four features tells the label."""
    x = uniform(32, 4, seed=8)
    policy = Constant()
    known, labels = torch.zeros(32, 4, dtype=torch.bool), (x[:, 2] > 0).long()
    batch = {"x": x, "known": known, "labels": labels, "policy": policy, "f": Reads()}
    objective = objective_of("zoo/information/dfs", tau=0.5)
    optimiser = torch.optim.Adam(policy.parameters(), lr=0.2)
    for _ in range(25):
        optimiser.zero_grad()
        objective(**batch).loss.backward()
        optimiser.step()
        objective.advance()
    assert int(policy.scores.argmax()) == 2
