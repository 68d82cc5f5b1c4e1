"""The example objectives run: drawn tensors give a finite loss, its gradients, and every term and monitor."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.specs.test_literature import GOOD, LATER

import lossc
from lossc.grammar.diagnostics import LosscError

EXAMPLES = sorted((Path(__file__).parents[2] / "specs" / "examples").iterdir())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_runs(path: Path) -> None:
    objective = lossc.load(path)
    inputs = lossc.example_inputs(objective, {}, seed=1)
    result = objective(**inputs)
    assert result.loss.isfinite()
    assert float(result.loss.detach()) == pytest.approx(
        sum(float(value.detach()) for value in result.terms.values()), rel=1e-5
    )
    result.loss.backward()
    gradients = [x.grad for x in inputs.values() if x.grad is not None]
    assert gradients
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


@pytest.mark.parametrize("name", LATER)
def test_forms_of_later_versions_are_refused_plainly(name: str) -> None:
    with pytest.raises(LosscError) as refused:
        lossc.load(GOOD / f"{name}.loss")
    assert all(problem.code.startswith("E6") for problem in refused.value.diagnostics)
