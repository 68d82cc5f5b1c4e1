"""The backend `triton` under Triton's interpreter; run by `test_backend_triton` in a process with `TRITON_INTERPRET=1`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from tests.runtime import fused_cases as cases
from tests.runtime.fused_cases import CHANGES, TEXTS, assert_same, outcome
from tests.specs.cases import CASES
from tests.specs.compare import assert_equal, evaluate
from tests.specs.variants import VARIANTS

import lossc
from lossc import Objective
from lossc.runtime.backends.kernel_calls import Given, Written
from lossc.runtime.backends.triton import TritonCalls, TritonTable

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
"""numpy, on which the interpreter stands, warns of infinities that a GPU computes with in silence."""

SCORED = [name for name, case in CASES.items() if any("logits" in key for key in case.batch(seed=3))]
PAIRED = [name for name in CASES if "nce(" in name or "sup_con(" in name]


@pytest.fixture(autouse=True)
def only_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing falls back to another backend."""

    def gave_up(self: TritonTable, reason: Exception) -> None:
        raise AssertionError(f"no kernel: {reason}")

    monkeypatch.setattr(TritonTable, "give_up", gave_up)


@cache
def pair(text: str) -> tuple[Objective, Objective]:
    return cases.objective(text, "triton"), cases.objective(text, "reference")


@pytest.mark.parametrize("name", SCORED + PAIRED)
def test_equals_the_reference_over_the_library(name: str) -> None:
    """Gradients of a visit, or, for another upstream gradient than expected, of a kernel of their own."""
    case = CASES[name]
    batch = VARIANTS["hidden"](case.batch(seed=3))
    inputs = case.differentiable & batch.keys()
    scale = 0.5 if (SCORED + PAIRED).index(name) % 3 == 0 else 1.0
    found, expected = (
        evaluate(lambda tensors, b=b: scale * lossc.loads(case.program, backend=b)(**tensors).loss, batch, inputs)
        for b in ("triton", "reference")
    )
    assert_equal(found, expected)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("change", ["plain", "hidden rows", "nothing", "large", "shifted"])
def test_equals_the_reference_on_odd_batches(text: str, change: str) -> None:
    triton, reference = pair(text)
    batch = CHANGES[change](cases.batch(b=1, t=3))
    for scale in (1.0, 0.3) if change in ("plain", "hidden rows") else (1.0,):
        assert_same(outcome(triton, batch, scale), outcome(reference, batch, scale), 1e-6)


@pytest.mark.parametrize(("text", "once"), [("four terms", True), ("two distributions", True), ("coupled", False)])
def test_a_sum_over_rows_visits_each_once(text: str, once: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    kept = TritonCalls.call

    def calling(self: TritonCalls, function: Any, given: Given, wants: Sequence[str]) -> Written:
        called.append(function)
        return kept(self, function, given, wants)

    monkeypatch.setattr(TritonCalls, "call", calling)
    outcome(cases.objective(text, "triton"), cases.batch(b=1, t=3))
    assert called == (["visit"] if once else ["statistics", "gradient"])


@pytest.mark.parametrize("v", [1, 33, 1025])
def test_numbers_of_classes_that_fill_no_block(v: int) -> None:
    triton, reference = pair("four terms")
    batch = cases.batch(b=1, t=2, v=v)
    assert_same(outcome(triton, batch), outcome(reference, batch))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("text", ["four terms", "two distributions"])
def test_types_of_numbers(text: str, dtype: torch.dtype) -> None:
    triton, reference = pair(text)
    batch = cases.batch(b=1, t=3, dtype=dtype)
    assert_same(outcome(triton, batch), outcome(reference, batch), 1e-5 if dtype == torch.float32 else 1e-2)


def test_views_in_any_order_of_dimensions() -> None:
    triton, reference = pair("four terms")
    batch = cases.batch()
    batch["logits"] = batch["logits"].permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert_same(outcome(triton, batch), outcome(reference, batch))


def test_upstream_gradients_of_another_scale() -> None:
    triton, reference = pair("coupled")
    assert_same(outcome(triton, cases.batch(), scale=0.3), outcome(reference, cases.batch(), scale=0.3))


def test_a_label_beyond_the_classes_makes_its_row_nan() -> None:
    objective = lossc.loads("nll", setting="classes", backend="triton")
    objective.check_labels = False
    logits = torch.randn(3, 5, requires_grad=True)
    objective(logits=logits, labels=torch.tensor([0, 7, 2])).loss.backward()
    assert logits.grad is not None
    assert logits.grad[1].isnan().all()
    assert logits.grad[[0, 2]].isfinite().all()
