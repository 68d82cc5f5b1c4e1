"""Kernels in single and half precision, over several blocks of classes, on whatever rows may hold.

The measure is the reference in double precision on the same numbers.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch
from tests.runtime import fused_cases as cases
from tests.runtime.fused_cases import Batch, Change, Outcome, of_type, outcome
from torch import Tensor

import lossc
from lossc import Objective
from lossc.runtime.backends.c import Compiled
from lossc.runtime.backends.toolchain import ToolchainError, compiler

try:
    compiler()
except ToolchainError:
    pytest.skip("there is no C compiler", allow_module_level=True)

CLASSES = 2101
"""More than a block of any type, and no multiple of a vector."""


@pytest.fixture(autouse=True)
def only_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def gave_up(self: Compiled, reason: Exception) -> None:
        raise AssertionError(f"no kernel: {reason}")

    monkeypatch.setattr(Compiled, "give_up", gave_up)


@cache
def made(text: str, backend: str) -> Objective:
    return cases.objective(text, backend)


def deep(batch: Batch) -> Batch:
    """Rows in which exponentials of some entries vanish, beside rows in which none does."""
    far = torch.zeros_like(batch["keep"])
    far[:, 1::2, 3::5] = True
    at = batch["labels"].clamp(min=0).unsqueeze(-1)
    far = far.scatter(-1, at, False)
    return {
        **batch,
        "logits": torch.where(far, -1e4, batch["logits"]),
        "teacher": torch.where(far, -200.0, batch["teacher"]),
    }


CHANGES: dict[str, Change] = {**cases.CHANGES, "forbidden": cases.forbidden, "poisoned": cases.poisoned, "deep": deep}


def difference(found: Tensor, exact: Tensor) -> float:
    finite = exact.isfinite() & found.isfinite()
    return float((found - exact)[finite].norm())


def assert_near(found: Outcome, exact: Outcome, eager: Outcome, batch: Batch) -> None:
    """Values to single precision; gradients as near as those of eager torch, or as products with logits of that size can
    be rounded; NaN in the same places.
    """
    for name, value in exact.values.items():
        errors = (1e-4 * abs(float(value)), 2 * abs(float(eager.values[name] - value)))
        near = max([1e-5, *(each for each in errors if each == each)])
        torch.testing.assert_close(found.values[name], value, rtol=0.0, atol=near, equal_nan=True, msg=name)
    sizes = batch["logits"][batch["logits"].isfinite() & batch["mask"].unsqueeze(-1)].abs()
    size = max(10.0, float(sizes.max()) if sizes.numel() else 0.0) if float(sizes.sum()) < 1e9 else 10.0
    least = 1e-7 * size + (4e-3 if batch["logits"].dtype == torch.bfloat16 else 0.0)
    for name, gradient in exact.gradients.items():
        assert torch.equal(found.gradients[name].isnan(), gradient.isnan()), name
        norm = float(gradient[gradient.isfinite()].norm())
        allowed = max(least * norm, 1.5 * difference(eager.gradients[name], gradient), 1e-7 * size)
        assert difference(found.gradients[name], gradient) <= allowed, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("text", ["four terms", "two distributions", "masks", "coupled"])
def test_is_as_exact_as_single_precision_is(text: str, change: str, dtype: torch.dtype) -> None:
    batch = of_type(CHANGES[change](cases.batch(t=4, v=CLASSES)), dtype)
    exact = outcome(made(text, "reference"), of_type(batch, torch.float64))
    eager = outcome(made(text, "reference"), batch)
    found = outcome(made(text, "c"), batch)
    drop = {n for n, g in exact.gradients.items() if g.dim() == 0 and not g.isfinite()}  # where 0 meets infinite logits
    exact = Outcome(exact.values, {n: g for n, g in exact.gradients.items() if n not in drop})
    assert_near(found, exact, eager, batch)


TYPES = ((torch.float32, torch.float64), (torch.bfloat16, torch.float32), (torch.float16, torch.bfloat16))


@pytest.mark.parametrize("types", TYPES)
def test_streams_of_different_types(types: tuple[torch.dtype, torch.dtype]) -> None:
    student, teacher = types
    batch = of_type(cases.batch(t=4, v=CLASSES), student)
    batch["teacher"] = batch["teacher"].to(teacher)
    exact = outcome(made("two distributions", "reference"), of_type(batch, torch.float64))
    found = outcome(made("two distributions", "c"), batch)
    for name, gradient in exact.gradients.items():
        assert difference(found.gradients[name], gradient) < 4e-3 * float(gradient.norm()), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_nan_stays_in_its_row(dtype: torch.dtype) -> None:
    """Whatever its payload, and without a sum of the entries themselves, which would be NaN by itself."""
    objective = lossc.loads(cases.HEAD + "minimize\n  f : sum[b, t where mask](nll)\n", backend="c")
    batch = {n: x for n, x in cases.batch(t=4, v=CLASSES, dtype=dtype).items() if n in objective.program.tensors}
    batch["mask"][:] = True
    bits = batch["logits"].view(torch.int32 if dtype == torch.float32 else torch.int16)
    bits[1, 2, 1000] = 0x7FC00155 if dtype == torch.float32 else 0x7FD5
    logits = batch["logits"].requires_grad_()
    result = objective(**batch)
    result.loss.backward()
    assert result.loss.isnan()
    assert logits.grad is not None
    there = logits.grad.isnan().flatten(0, 1)
    assert there[6].all()
    assert not there[[row for row in range(8) if row != 6]].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_gradients_below_the_smallest_normal_number_are_rounded_as_others(dtype: torch.dtype) -> None:
    """Of the sum of exp(z) at z = 0: the upstream gradient at every class."""
    objective = lossc.loads(
        "axis b : batch\naxis v\ninput z : logits[b, v]\nminimize\n  f : sum[b, v](exp(z))\n", backend="c"
    )
    upstream = torch.tensor(3.7 * torch.finfo(dtype).tiny / 2**4)
    z = torch.zeros(2, CLASSES, dtype=dtype, requires_grad=True)
    objective(z=z).loss.backward(upstream)
    assert z.grad is not None
    assert z.grad.unique().tolist() == [float(upstream.to(dtype))]


@pytest.mark.parametrize("backend", ["c", "torch", "reference"])
def test_focal_has_a_slope_where_a_token_is_sure(backend: str) -> None:
    """The slope of (1 - p)^(1/2) is infinite at p = 1, that of its product with -log p is 0."""
    text = "minimize\n  f : mean[b, t where mask](focal(logits, labels, gamma = 0.5))\n"
    objective = lossc.loads(cases.HEAD + text, backend=backend)
    logits = torch.zeros(1, 2, 9)
    logits[..., 3] = torch.tensor([18.0, 300.0])
    logits.requires_grad_()
    batch = {"labels": torch.full((1, 2), 3), "mask": torch.ones(1, 2, dtype=torch.bool)}
    objective(logits=logits, **batch).loss.backward()
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) < 1e-9
