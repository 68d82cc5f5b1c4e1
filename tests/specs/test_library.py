"""Every term of the library equals its closed form, in value and gradient, on every kind of batch."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from tests.oracles.batches import Batch
from tests.specs.cases import CASES
from tests.specs.cases.model import Case
from tests.specs.compare import Evaluation, assert_equal, evaluate
from tests.specs.test_oracles import FROZEN, assert_as_frozen
from tests.specs.variants import VARIANTS, extreme, matters
from torch import Tensor

import lossc
from lossc import Objective

SMALL = {"b": 1, "t": 1, "pair": 1, "q": 1, "sample": 2, "k": 1, "d": 2, "v": 3}
"""Extents at the edge: one row, one token."""


@cache
def objective(name: str) -> Objective:
    return lossc.loads(CASES[name].program)


def run(case: Case, batch: Batch) -> Evaluation:
    """The objective of a case, evaluated on a batch."""
    return evaluate(lambda tensors: objective(case.name)(**tensors).loss, batch, case.differentiable & batch.keys())


def expected(case: Case, batch: Batch) -> Evaluation:
    return evaluate(case.oracle, batch, case.differentiable & batch.keys())


def small(case: Case) -> Batch:
    sizes = {axis: extent for axis, extent in SMALL.items() if axis in axes_of(case)}
    return case.batch(seed=5, **sizes)


def axes_of(case: Case) -> set[str]:
    """The sizes that the maker of a case's batch takes."""
    from inspect import signature

    from tests.specs.cases.model import MAKERS

    return set(signature(MAKERS[case.setting]).parameters)


CHANGED = [
    (name, variant) for name, case in CASES.items() for variant in VARIANTS if matters(variant, case.batch(seed=3))
]
"""Every case with every variant that changes its batch."""


@pytest.mark.parametrize(("name", "variant"), CHANGED)
def test_equals_closed_form(name: str, variant: str) -> None:
    case = CASES[name]
    batch = VARIANTS[variant](case.batch(seed=3))
    assert_equal(run(case, batch), expected(case, batch))


@pytest.mark.parametrize("name", CASES)
def test_equals_closed_form_on_one_row(name: str) -> None:
    case = CASES[name]
    batch = small(case)
    assert_equal(run(case, batch), expected(case, batch))


@pytest.mark.parametrize("frozen", FROZEN, ids=lambda record: f"{record['library']}: {record['case']}")
def test_equals_third_party(frozen: dict[str, object]) -> None:
    case = CASES[str(frozen["case"])]
    assert_as_frozen(run(case, case.batch()), frozen)


@pytest.mark.parametrize("name", [case.name for case in CASES.values() if case.finite])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_is_finite_at_extremes(name: str, dtype: torch.dtype) -> None:
    case = CASES[name]
    batch = cast(extreme(case.batch(seed=3)), dtype)
    assert run(case, batch).finite


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    """The loss of 16-bit tensors is that of the same numbers in fp64, to the precision of the type."""
    case = CASES[name]
    batch = cast(case.batch(seed=3), dtype)
    exact = run(case, cast(batch, torch.float64))
    found = run(case, batch)
    precision = 16 * torch.finfo(dtype).eps
    assert found.value == pytest.approx(exact.value, rel=precision, abs=precision)
    for key, gradient in exact.gradients.items():
        error = (found.gradients[key].double() - gradient).abs().max()
        assert float(error) <= precision * max(1.0, float(gradient.abs().max())), key


@pytest.mark.parametrize("name", [case.name for case in CASES.values() if not case.coupled])
def test_two_micro_batches_equal_one(name: str) -> None:
    case = CASES[name]
    whole = case.batch(seed=3)
    parts = halves(case, whole)
    total = objective(name).denominators(**parts[0]) + objective(name).denominators(**parts[1])
    pieces = [
        evaluate(
            lambda tensors: objective(name)(**tensors, denominators=total).loss, part, case.differentiable & part.keys()
        )
        for part in parts
    ]
    gradients = {key: torch.cat([piece.gradients[key] for piece in pieces]) for key in pieces[0].gradients}
    added = Evaluation(sum(piece.value for piece in pieces), gradients)
    assert_equal(added, run(case, whole), tolerance=1e-12)


def cast(batch: Batch, dtype: torch.dtype) -> Batch:
    return {name: x.to(dtype) if x.is_floating_point() else x for name, x in batch.items()}


def halves(case: Case, batch: Batch) -> tuple[Batch, Batch]:
    """A batch cut in two along the first axis of every tensor, which is its batch axis; unequal parts."""

    def part(x: Tensor, *, first: bool) -> Tensor:
        cut = (x.shape[0] + 1) // 2
        return x[:cut] if first else x[cut:]

    first = {name: part(x, first=True) for name, x in batch.items()}
    return first, {name: part(x, first=False) for name, x in batch.items()}
