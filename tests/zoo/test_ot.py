"""The claims of the family `ot`."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from tests.oracles.batches import uniform
from tests.zoo.harness import objective_of, oracles
from tests.zoo.oracles.ot import sparsity_constrained_ot
from torch import Tensor

import lossc
from lossc import Objective
from lossc.compiler.zoo import zoo_files

SPARSE = "zoo/ot/sparsity_constrained_ot"
SINKD = "zoo/ot/sinkd"


def with_cardinality(k: int, gamma: float) -> Objective:
    """The file with another number of nonzeros."""
    text = zoo_files()[SPARSE].read_text(encoding="utf-8")
    assert "(u - C, 2)" in text
    return lossc.loads(text.replace("(u - C, 2)", f"(u - C, {k})"), backend="reference", gamma=gamma).double()


def semi_dual(u: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """The unregularised semi-dual <u, a> - sum_j b_j max_i (u_i - c_ij), the mean over problems."""
    columns = (u[:, :, None] - batch["C"]).amax(1)
    return ((u * batch["a"]).sum(1) - (batch["b"] * columns).sum(1)).mean()


def test_one_nonzero_a_column_is_unregularised_transport() -> None:
    """At k = 1 only the constant gamma / 2 sum_j b_j^2 tells it from the linear program's semi-dual."""
    batch = oracles()[SPARSE].batch(2, "plain")
    found = -with_cardinality(1, 0.3)(**batch).loss
    expected = semi_dual(batch["u"], batch) + 0.15 * (batch["b"] ** 2).sum(1).mean()
    torch.testing.assert_close(found, expected)


def test_many_nonzeros_are_quadratically_regularised_transport() -> None:
    """From the cardinality of the quadratic solution on, more are not used."""
    batch = oracles()[SPARSE].batch(3, "plain")
    values = [float(with_cardinality(k, 0.5)(**batch).loss) for k in (1, 2, 3, 4, 5)]
    torch.testing.assert_close(
        torch.tensor(values[4], dtype=torch.float64), sparsity_constrained_ot(batch, gamma=0.5, k=5)
    )
    assert values == sorted(values)


def test_descent_finds_the_plan_of_a_small_problem() -> None:
    """At the maximum the plan has its marginals, at most k tokens an expert, and costs what the dual says."""
    batch = oracles()[SPARSE].batch(4, "plain")
    objective = objective_of(SPARSE, gamma=0.5)
    u = batch["u"].clone().requires_grad_()
    optimiser = torch.optim.Adam([u], lr=0.05)
    before = float(objective(**(batch | {"u": u})).monitors["row_error"])
    for _ in range(150):
        optimiser.zero_grad()
        objective(**(batch | {"u": u})).loss.backward()
        optimiser.step()
    assert float(objective(**(batch | {"u": u})).monitors["row_error"]) < 0.2 * before


# ---------------------------------------------------------------------------------------------------- distillation


def rows(seed: int, number: int = 4) -> dict[str, Tensor]:
    return {"labels": torch.arange(number), "logits": 3 * uniform(number, 5, seed=seed),
            "teacher": 3 * uniform(number, 5, seed=seed + 1)}  # fmt: skip


def assignment(batch: dict[str, Tensor]) -> float:
    """The cost of the best one-to-one transport of the rows."""
    s, t = torch.softmax(batch["logits"] / 2, -1), torch.softmax(batch["teacher"] / 2, -1)
    cost = (s[:, None] - t[None, :]).abs().sum(-1)
    return min(float(sum(cost[i, j] for i, j in enumerate(order))) for order in permutations(range(len(cost))))


def test_small_regularisation_is_exact_transport() -> None:
    batch = rows(5)
    found = objective_of(SINKD, eps=0.004)(**batch).monitors["distance"]
    assert float(found) == pytest.approx(assignment(batch), rel=1e-3)


def test_a_student_that_is_the_teacher_has_no_distance() -> None:
    batch = rows(9)
    found = objective_of(SINKD, eps=0.02)(**(batch | {"teacher": batch["logits"]})).monitors["distance"]
    assert float(found) < 1e-3


def test_rows_may_be_served_in_any_order() -> None:
    """The distance is of the batch: which student's row meets which teacher's row is not said."""
    batch, order = rows(13), torch.tensor([2, 0, 3, 1])
    objective = objective_of(SINKD)
    shuffled = objective(**(batch | {"teacher": batch["teacher"][order]})).monitors["distance"]
    torch.testing.assert_close(objective(**batch).monitors["distance"], shuffled, rtol=1e-3, atol=1e-3)
