"""The claims of the family `other`."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from tests.oracles.batches import uniform
from tests.zoo.harness import objective_of
from tests.zoo.oracles.other import tagged_sentences
from torch.nn import functional

NASH = "zoo/other/nash"
REJECT = "zoo/other/reject_fixed"


def test_two_halves_estimate_without_bias() -> None:
    """The mean over all pairs of samples is the loss of the mean payoffs; the square of one sample is more."""
    row, column, u, v = (uniform(*shape, seed=at) for at, shape in enumerate([(3,), (2,), (4, 3, 2), (4, 3, 2)]))
    objective = objective_of(NASH)

    def loss(first: torch.Tensor, second: torch.Tensor) -> float:
        halves = {
            "u_row": torch.stack([first[0], second[0]])[None],
            "u_column": torch.stack([first[1], second[1]])[None],
        }
        return float(objective(row=row, column=column, **halves).loss)

    samples = [torch.stack([a, c]) for a, c in zip(u, v, strict=True)]
    exact = loss(torch.stack(samples).mean(0), torch.stack(samples).mean(0))
    assert sum(loss(a, c) for a, c in product(samples, samples)) / 16 == pytest.approx(exact)
    assert sum(loss(a, a) for a in samples) / 4 > exact


def test_a_logit_equilibrium_has_no_loss() -> None:
    """Matching pennies: both play evenly; nobody else does."""
    pennies = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64).expand(1, 2, 2, 2)
    objective = objective_of(NASH)
    even = torch.zeros(2, dtype=torch.float64)
    assert float(objective(row=even, column=even, u_row=pennies, u_column=-pennies).loss) == pytest.approx(
        0.0, abs=1e-15
    )
    uneven = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert float(objective(row=uneven, column=even, u_row=pennies, u_column=-pennies).loss) > 0.1


@pytest.mark.parametrize(("wrong", "accepts"), [(1, True), (3, False)])
def test_the_minimiser_accepts_where_errors_are_rarer_than_they_cost(wrong: int, accepts: bool) -> None:
    """Of ten answers that look alike one or three are wrong, at a cost of 0.2: the loss is convex, its slope at 0 tells."""
    r = torch.zeros((), dtype=torch.float64, requires_grad=True)
    objective_of(REJECT, c=0.2)(r=r.expand(10), right=torch.arange(10) >= wrong).loss.backward()
    assert bool(r.grad < 0) == accepts


def test_at_the_cost_itself_the_slope_is_0() -> None:
    r = torch.zeros((), dtype=torch.float64, requires_grad=True)
    objective_of(REJECT, c=0.2, alpha=3)(r=r.expand(10), right=torch.arange(10) >= 2).loss.backward()
    assert float(r.grad) == pytest.approx(0.0, abs=1e-12)


def test_tags_that_do_not_depend_on_each_other_are_classified_apart() -> None:
    """Without transitions, log Z - s is the sum of the cross-entropies of the words."""
    tensors = tagged_sentences(1, "plain")
    for name in ("A", "begin", "end"):
        tensors[name] = torch.zeros_like(tensors[name])
    z, y, words = tensors["z"], tensors["y"], tensors["words"]
    apart = functional.cross_entropy(z[words], y[words], reduction="sum") / len(z)
    torch.testing.assert_close(objective_of("zoo/other/crf")(**tensors).loss, apart)
