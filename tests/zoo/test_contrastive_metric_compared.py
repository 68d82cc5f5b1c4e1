"""The claims of works of the family `contrastive_metric` that compare scores of rows, variables, classes and times."""

from __future__ import annotations

import pytest
import torch
from tests.oracles.batches import uniform
from tests.zoo.harness import objective_of, oracles

UNPG = "zoo/contrastive_metric/unpg"
COCO = "zoo/contrastive_metric/coco_milp"
DPNETS = "zoo/contrastive_metric/dpnets"


def test_without_different_people_it_is_cosface() -> None:
    batch = oracles()[UNPG].batch(1, "plain")
    batch["y"] = torch.full_like(batch["y"], 2)
    found = objective_of(UNPG, gamma=7, m=0.2)(**batch)
    cos = torch.nn.functional.normalize(batch["x"]) @ torch.nn.functional.normalize(batch["centre"]).T
    cos[:, 2] -= 0.2
    torch.testing.assert_close(found.loss, torch.nn.functional.cross_entropy(7 * cos, batch["y"]))
    assert int(found.monitors["pairs"]) == 0


def test_outliers_are_no_negatives() -> None:
    """The pair of two people with one face is the largest cosine, and is left out."""
    batch = oracles()[UNPG].batch(2, "plain")
    few, all_pairs = (objective_of(UNPG, w=w)(**batch).monitors["pairs"] for w in (0.3, 100))
    assert int(few) < int(all_pairs)


def test_variables_are_compared() -> None:
    """A number added to every score leaves the contrast as it is."""
    batch = oracles()[COCO].batch(3, "masked")
    objective = objective_of(COCO)
    moved = objective(**(batch | {"z": batch["z"] + 3}))
    torch.testing.assert_close(objective(**batch).terms["contrast"], moved.terms["contrast"])


def test_a_marked_text_alone_is_judged_by_its_own_score() -> None:
    reference = "zoo/contrastive_metric/plausible_rationales"
    batch = oracles()[reference].batch(4, "plain")
    found = objective_of(reference, w_2=1)(**(batch | {"given": torch.zeros_like(batch["given"])}))
    own = batch["positive"].gather(1, batch["labels"][:, None])[:, 0]
    torch.testing.assert_close(found.terms["reasons"], -torch.nn.functional.logsigmoid(own).sum())


def test_orthonormal_features_are_not_distorted() -> None:
    """R(C) >= 0 with equality at the identity, where the score of features with themselves is their number."""
    full = torch.cat([torch.ones(9, 1, dtype=torch.float64), uniform(9, 3, seed=5)], 1)
    x = 3 * torch.linalg.qr(full)[0][:, 1:]
    found = objective_of(DPNETS)(x=x, y=x)
    assert float(found.terms["distortion"]) == pytest.approx(0.0, abs=1e-9)
    assert float(found.terms["score"]) == pytest.approx(3.0)
    for seed in range(5):
        assert float(objective_of(DPNETS)(**oracles()[DPNETS].batch(seed, "plain")).terms["distortion"]) > 0
