"""Tables of random graphs over a class axis equal the reference, in value and gradient."""

from __future__ import annotations

import random

import pytest
import torch
from tests.compiler.class_objectives import NAMES, batch
from tests.compiler.test_table_guards import by_reference, by_table

from lossc.compiler.core import Reduce
from lossc.compiler.formula import formula

CLASSES = (
    "({c} + {c})", "({c} - {r})", "{c} * {c}", "softmax[v]({c})", "log_softmax[v]({c})", "softmax[v where keep]({c})",
    "({c} if keep else {c})", "({c} if keep else 0)", "abs({c})", "({c})^2", "exp(log_softmax[v]({c}) * gamma)",
    "exp(log_softmax[v]({c}) / 2)", "tanh({c})", "{r} * {c}", "sg({c})", "sqrt(softmax[v]({c}))", "({c}) / ({r}^2 + 1)",
    "softplus({c})", "(index[v] == y) * {c}", "max({c}, {c})", "xlogy(softmax[v]({c}), softmax[v]({c}))",
)  # fmt: skip
ROWS = (
    "sum[v]({c})", "mean[v]({c})", "logsumexp[v]({c})", "({c})[v = y]", "max[v]({c})", "sum[v where keep]({c})",
    "logsumexp[v where keep]({c})", "({r} + {r})", "{r} * {r}", "tanh({r})", "sum[v]({c} * softmax[v]({c}))", "var[v]({c})",
    "sum[v where index[v] != y]({c})", "logsumexp[k](({c})[v = ys])", "sg({r})", "(logsumexp[v]({c}) - ({c})[v = y])",
)  # fmt: skip
CLASS_LEAVES = ("z", "z", "z", "t", "q", "w", "bias", "z / tau", "index[v] / 7")
ROW_LEAVES = ("tau", "gamma", "weight", "1", "z[v = y]")
LARGEST = 1e8
"""Beyond this the comparison is one of rounding."""


def text(kind: str, choice: random.Random, depth: int) -> str:
    """The text of a random expression over classes (`c`) or rows (`r`)."""
    if depth == 0:
        return choice.choice(CLASS_LEAVES if kind == "c" else ROW_LEAVES)
    parts = choice.choice(CLASSES if kind == "c" else ROWS).split("{")
    inner = (text(part[0], choice, depth - 1) + part[2:] for part in parts[1:])
    return parts[0] + "".join(inner)


@pytest.mark.parametrize("seed", range(60))
def test_equals_the_reference(seed: int) -> None:
    row = text("r", random.Random(seed), 3)
    root = Reduce("sum", ("b",), formula(f"weight * ({row})", NAMES))
    values = batch(seed % 7)
    values["y"] = values["y"].clamp(min=0)
    loss, slopes = by_reference(root, values)
    if not all(bool((x.abs() < LARGEST).all()) for x in (loss, *slopes.values())):
        pytest.skip("not a finite objective")
    _, found, gradients = by_table(root, values)
    assert torch.allclose(found, loss, rtol=1e-9, atol=1e-9), row
    for name, slope in slopes.items():
        scale = max(1.0, float(slope.abs().max()))
        assert torch.allclose(gradients.get(name, torch.zeros_like(slope)), slope, rtol=0, atol=1e-9 * scale), (name, row)
