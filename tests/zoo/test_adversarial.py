"""The claims of the family `adversarial`."""

from __future__ import annotations

import pytest
import torch
from tests.zoo.harness import objective_of, oracles
from torch import Tensor

DIAL = "zoo/adversarial/dial"


def gradients(term: str, **params: float) -> dict[str, Tensor | None]:
    """Of one term of DIAL to everything that could move."""
    batch = oracles()[DIAL].batch(1, "plain")
    leaves = {name: batch[name].requires_grad_() for name in ("reward", "h")}
    found = objective_of(DIAL, **params)(**(batch | leaves), per_term=True).terms[term]
    moved = [*leaves.values(), *batch["f"].parameters(), *batch["held"].parameters()]
    names = [*leaves, "f", "f", "held", "held"]
    slopes = torch.autograd.grad(found, moved, allow_unused=True)
    return {
        name: slope for name, slope in zip(names, slopes, strict=True) if slope is not None and slope.abs().max() > 0
    }


@pytest.mark.parametrize(
    ("term", "moved"),
    [("preference", {"reward"}), ("invariance", {"h"}), ("critic", {"f"}), ("slopes", {"f"})],
)
def test_each_player_moves_its_own_part(term: str, moved: set[str]) -> None:
    assert set(gradients(term, lam=1)) == moved


def test_equal_domains_are_at_no_distance() -> None:
    batch = oracles()[DIAL].batch(2, "plain")
    batch["h"][:, 1] = batch["h"][:, 0]
    found = objective_of(DIAL)(**batch)
    assert float(found.terms["invariance"]) == pytest.approx(0.0, abs=1e-12)
    assert float(found.monitors["distance"]) == pytest.approx(0.0, abs=1e-12)
