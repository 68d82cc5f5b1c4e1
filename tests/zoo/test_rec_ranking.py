"""The claims of the family `rec_ranking`."""

from __future__ import annotations

import math

import pytest
import torch
from tests.oracles.batches import uniform
from tests.zoo.harness import objective_of, oracles

import lossc

MW = "zoo/rec_ranking/mw"


def test_the_loss_bounds_the_area_above_the_curve() -> None:
    """softplus(-x) / log 2 is at least 1 where x <= 0: the mean over pairs bounds 1 - AUC at every temperature."""
    for seed in range(5):
        found = objective_of(MW, tau=0.3)(**oracles()[MW].batch(seed, "plain"))
        pairs = 4 * 3
        assert float(found.loss) / pairs / math.log(2) >= 1 - float(found.monitors["auc"])


def test_info_nce_does_not_see_what_this_loss_sees() -> None:
    """A score added to all passages of one query leaves InfoNCE as it is, and moves the queries apart."""
    s = uniform(4, 4, seed=3)
    offset = torch.tensor([0.0, 5.0, -5.0, 2.0], dtype=torch.float64)[:, None]
    nce = lossc.loads("info_nce(s, tau = 0.3)", setting="embeddings", backend="reference").double()
    torch.testing.assert_close(nce(s=s).loss, nce(s=s + offset).loss)
    mw = objective_of(MW, tau=0.3)
    assert float(mw(s=s + offset).loss) > float(mw(s=s).loss) + 1


def test_gates_become_a_choice() -> None:
    """At a high temperature a gate is 0 or 1 / sigmoid(1/2), and the penalty counts the open ones."""
    one = oracles()["zoo/rec_ranking/optfs"]
    objective = lossc.load(one.reference, backend="reference", last=1e6, lam=1, sizes={"k": 5}).double()
    objective.total_steps = 1
    batch = one.batch(4, "plain")
    with torch.no_grad():
        objective.learn["m"].copy_(batch["m"])
    objective.advance()
    found = objective(**{name: batch[name] for name in ("e", "feature", "y", "f")})
    kept = (batch["m"] > 0).to(torch.float64)
    assert float(found.terms["gates"]) == pytest.approx(float(kept.sum()))
    gates = kept[batch["feature"]] * (1 + math.exp(-0.5))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        batch["f"](gates[..., None] * batch["e"]), batch["y"]
    )
    torch.testing.assert_close(found.terms["click"], expected)


def test_after_m_steps_all_pairs_count_alike() -> None:
    reference = "zoo/rec_ranking/curriculum"
    objective = objective_of(reference, m=3)
    batch = oracles()[reference].batch(5, "plain")
    plain = torch.nn.functional.cross_entropy(batch["s"], torch.zeros(len(batch["s"]), dtype=torch.long))
    assert float(objective(**batch).loss) < float(plain)
    for _ in range(5):
        objective.advance()
    torch.testing.assert_close(objective(**batch).loss, plain)
