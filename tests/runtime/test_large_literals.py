"""A literal past the range of the computation is infinite there, as in any rounding, and no failure."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import lossc

CASES: dict[str, Any] = {
    "1e40 * mean[b](x)": math.inf,
    "mean[b](x) - 1e39": -math.inf,
    "mean[b](clip(x, -1e40, 1e40))": 1.5,
    "mean[b](clip(x, 1.25, 1e40))": 1.625,
    "mean[b](clip(x, -1, inf))": 1.5,
    "mean[b](x + 1e40 * sin(x))": math.inf,
    "mean[b](x^2 - 1e39 * sin(x))": -math.inf,
    "mean[b](1e38 * sin(x) - x)": pytest.approx(1e38 * (math.sin(1) + math.sin(2)) / 2, rel=1e-6),
    "mean[b](max(x, -1e300))": 1.5,
    "mean[b where x < 1e39](x)": 1.5,
    "mean[b](x) * 1e-60": 0.0,
    "1e400 * mean[b](0 * x + 1)": math.inf,
}


@pytest.mark.parametrize("expression", CASES)
def test_in_single_precision(expression: str) -> None:
    objective = lossc.loads(f"axis b : batch\ninput x : real[b]\nminimize\n  loss : {expression}\n")
    assert objective(x=torch.tensor([1.0, 2.0])).loss.item() == CASES[expression]


def test_in_double_precision() -> None:
    objective = lossc.loads("axis b : batch\ninput x : real[b]\nminimize\n  loss : 1e40 * mean[b](x)\n")
    assert objective(x=torch.tensor([1.0, 2.0], dtype=torch.float64)).loss.item() == 1.5e40


@pytest.mark.parametrize("backend", ["reference", "torch", "c"])
def test_over_classes(backend: str) -> None:
    text = "axis b : batch\naxis v\ninput z : real[b, v]\nminimize\n  loss : mean[b](sum[v](exp(z) + 1e40 * z))\n"
    assert lossc.loads(text, backend=backend)(z=torch.ones(2, 3)).loss.item() == math.inf
