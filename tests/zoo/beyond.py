"""Objectives that are not of the catalogue, written from the pages alone, against closed forms in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.zoo.harness import Tensors, assert_same, evaluated, leaves_of, run_spec
from torch import Tensor

import lossc
from lossc.compiler.check import check_source
from lossc.grammar.source import Source


def assert_equals(
    text: str, tensors: Tensors, closed_form: Callable[[Tensors], Tensor], *, backend: str = "reference", **load: Any
) -> None:
    """A whole text has no problem, no `extern`, and equals a closed form in value and gradients."""
    found = check_source(Source("<beyond>", text))
    assert [problem.message for problem in found.problems.found] == []
    assert "extern" not in text
    objective = lossc.loads(text, backend=backend, **load).double()
    leaves = leaves_of(objective, tensors)
    for name, parameter in objective.learn.items():
        leaves.setdefault(name, parameter.detach().clone().requires_grad_())
    expected = evaluated(closed_form(leaves), leaves)
    assert_same(run_spec(objective, tensors), expected, 1e-9)


def assert_everywhere(text: str, tensors: Tensors, closed_form: Callable[[Tensors], Tensor], **load: Any) -> None:
    """`assert_equals` on the reference and on the backends that fuse what they can."""
    for backend in ("reference", "torch", "c"):
        assert_equals(text, tensors, closed_form, backend=backend, **load)
