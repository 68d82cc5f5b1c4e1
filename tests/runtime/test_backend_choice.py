"""`auto`: what it runs at which size, and that nothing but speed depends on it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import torch
from tests.runtime import fused_cases as cases
from tests.runtime.fused_cases import assert_same, outcome

import lossc
from lossc import LosscWarning
from lossc.runtime.backends import choose
from lossc.runtime.backends.choose import Threshold, choice
from lossc.runtime.backends.toolchain import ToolchainError


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    choose._is_available.cache_clear()
    yield
    choose._is_available.cache_clear()


def small(monkeypatch: pytest.MonkeyPatch, *backends: str) -> None:
    """A table whose backends serve from the first entry on."""
    table = {"cpu": tuple(Threshold(backend, 1, 1) for backend in backends)}
    monkeypatch.setattr(choose, "thresholds", lambda: table)


def test_the_committed_table_says_when_and_where_it_was_measured() -> None:
    record = json.loads(choose.FILE.read_text(encoding="utf-8"))
    assert {"date", "machine", "versions", "cpu", "other", "points_us"} <= set(record)
    for threshold in record["cpu"]:
        beyond = [p for p in record["points_us"]
                  if p["entries"] >= threshold["entries"] and p["classes"] >= threshold["classes"]]  # fmt: skip
        assert beyond
        assert all(p[threshold["backend"]] <= p["reference"] for p in beyond)


def test_small_batches_run_as_the_reference() -> None:
    assert choice("cpu", 64 * 10, 10) == "reference"
    assert choice("cpu", 1 << 24, 2) == "reference"


def test_large_batches_run_on_the_first_backend_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "compiler", lambda: None)
    assert choice("cpu", 1 << 25, 32000) == "c"
    assert choice("cuda", 1 << 25, 32000) == "torch"

    def missing() -> None:
        raise ToolchainError("no C compiler was found")

    choose._is_available.cache_clear()
    monkeypatch.setattr(choose, "compiler", missing)
    with pytest.warns(LosscWarning, match="no C compiler"):
        choice("cpu", 1 << 25, 32000)
    assert choice("cpu", 1 << 25, 32000) == "torch"  # without another warning, which would be an error here


@pytest.mark.parametrize("backend", ["c", "torch"])
@pytest.mark.parametrize("text", ["four terms", "coupled"])
def test_the_result_is_that_of_the_reference(monkeypatch: pytest.MonkeyPatch, text: str, backend: str) -> None:
    small(monkeypatch, backend)
    batch = cases.batch(dtype=torch.bfloat16)
    assert_same(outcome(cases.objective(text, "auto"), batch), outcome(cases.objective(text, "reference"), batch), 1e-2)


def test_transforms_run_on_the_reference_at_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, "torch")
    objective = lossc.loads("nll", setting="classes")
    labels = torch.tensor([0, 2])
    slope = torch.func.grad(lambda x: objective(logits=x, labels=labels).loss)
    curvature = torch.func.grad(lambda x: slope(x)[0, 0])(torch.zeros(2, 3))
    assert curvature.abs().max() > 0
