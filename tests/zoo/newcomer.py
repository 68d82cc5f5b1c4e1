"""What the tests of a newcomer share: a text, its warnings, a closed form of value and gradients, NaN behind masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from tests.zoo.harness import Tensors, assert_same, evaluated, leaves_of, run_spec
from torch import Tensor

import lossc
from lossc import Objective
from lossc.compiler.check import check_source
from lossc.grammar.source import Source

cross_entropy = torch.nn.functional.cross_entropy
over_classes = pytest.mark.parametrize("backend", ["reference", "torch", "c"])


def assert_equals(
    text: str,
    tensors: Tensors,
    closed_form: Callable[[Tensors], Tensor],
    *,
    backend: str = "reference",
    steps: int = 0,
    warnings: Sequence[str] = (),
    **load: Any,
) -> Objective:
    """A text equals a closed form in value and gradients, after so many steps; it has these warnings and no others."""
    found = check_source(Source("<newcomer>", text))
    assert [problem.code for problem in found.problems.found] == list(warnings)
    objective = lossc.loads(text, backend=backend, **load).double()
    for _ in range(steps):
        objective.advance()
    leaves = leaves_of(objective, tensors)
    for name, parameter in objective.learn.items():
        leaves.setdefault(name, parameter.detach().clone().requires_grad_())
    expected = evaluated(closed_form(leaves), leaves)
    assert_same(run_spec(objective, tensors), expected, 1e-9)
    return objective


def unit(x: Tensor) -> Tensor:
    """Rows of length 1."""
    return x / x.pow(2).sum(-1, keepdim=True).sqrt()


def behind(x: Tensor, mask: Tensor) -> Tensor:
    """NaN wherever the mask admits nothing."""
    return torch.where(mask.reshape(*mask.shape, *(1,) * (x.dim() - mask.dim())), x, torch.nan)
