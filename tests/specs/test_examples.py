"""The example objectives run: drawn tensors give a finite loss, its gradients, and every term and monitor."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.specs.test_literature import GOOD, OTHERS

import lossc

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


@pytest.mark.parametrize("name", OTHERS)
def test_others_of_the_literature_run(name: str) -> None:
    objective = lossc.load(GOOD / f"{name}.loss", sizes={"example": 12})
    if any(tensor.kind.name == "model" for tensor in objective.program.tensors.values()):
        return
    result = objective(**lossc.example_inputs(objective, seed=1))
    result.loss.backward()
    assert result.loss.isfinite()
    objective.advance()
