"""The elementary functions of kernels against those of torch in double precision, and at the edges."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor

from lossc.compiler.kernels.c import prelude
from lossc.runtime.backends.toolchain import ToolchainError, compiler, load

try:
    compiler()
except ToolchainError:
    pytest.skip("there is no C compiler", allow_module_level=True)

FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], float, float, float]] = {
    "exponential": (torch.exp, -86.0, 88.0, 3e-7),
    "exponential_negative": (torch.exp, -86.0, 0.0, 3e-7),
    "exponential_bounded": (torch.exp, -80.0, 0.0, 3e-7),
    "exponential_brief": (torch.exp, -80.0, 0.0, 4e-6),
    "logarithm": (torch.log, 1e-30, 1e30, 3e-7),
    "log1p": (torch.log1p, -0.999, 1e6, 4e-7),
    "log1p_unit": (torch.log1p, 0.0, 1.0, 2e-7),
    "expm1": (torch.expm1, -80.0, 80.0, 6e-7),
    "sigmoid": (torch.sigmoid, -80.0, 80.0, 6e-7),
    "softplus": (torch.nn.functional.softplus, -80.0, 80.0, 6e-7),
    "log1mexp": (lambda x: torch.where(x > -0.69, torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(x))), -80.0, -1e-6, 2e-6),
    "tanh": (torch.tanh, -30.0, 30.0, 8e-7),
}
"""In single precision: what it equals, between which arguments, up to which relative difference."""

PER_UNIT = 1.5e-8
"""What the rounding of log2 e adds to the relative error of an exponential, for each unit of the exponent."""


@cache
def library() -> ctypes.CDLL:
    loops = [
        f"void map_{name}(const float *x, float *y, int n) {{\n#pragma omp simd\n"
        f"  for (int i = 0; i < n; i++) y[i] = {name}_f(x[i]);\n}}\n"
        for name in FUNCTIONS
    ]
    halves = [
        f"void map_{name}(const uint16_t *x, uint16_t *y, int n) {{\n"
        f"  for (int i = 0; i < n; i++) y[i] = store_{name}(load_{name}(x[i]));\n}}\n"
        for name in ("bf16", "f16")
    ]
    rounded = [
        f"void round_{name}(const float *x, uint16_t *y, int n) {{ put_{name}(y, x, n, 0); }}\n"
        for name in ("bf16", "f16")
    ]  # fmt: skip
    return load("\n".join([prelude(), *loops, *halves, *rounded]))


def mapped(name: str, x: Tensor, like: Tensor | None = None) -> Tensor:
    y = torch.empty_like(x if like is None else like)
    getattr(library(), name)(ctypes.c_void_p(x.data_ptr()), ctypes.c_void_p(y.data_ptr()), x.numel())
    return y


def between(low: float, high: float) -> Tensor:
    """Numbers of all magnitudes in an interval, its ends among them."""
    sizes = 10.0 ** torch.linspace(-30, 30, 4001, dtype=torch.float64)
    every = torch.cat([torch.linspace(low, high, 20001, dtype=torch.float64), sizes, -sizes, torch.tensor([low, high])])
    return every[(every >= low) & (every <= high)].float()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values(name: str) -> None:
    exact, low, high, tolerance = FUNCTIONS[name]
    x = between(low, high)
    expected = exact(x.double())
    found = mapped(f"map_{name}", x).double()
    error = (found - expected).abs() / expected.abs().clamp(min=1e-37)
    excess = error - (tolerance + PER_UNIT * x.abs().clamp(max=100.0))
    assert float(excess.max()) <= 0, (float(x[excess.argmax()]), float(error[excess.argmax()]))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nan_stays_nan_whatever_its_payload(name: str) -> None:
    bits = torch.tensor([0x7FC00000, 0x7F800001, 0x7FC00155, 0x7FFFFFFF, -0x400000, -1], dtype=torch.int32)
    assert mapped(f"map_{name}", bits.view(torch.float32)).isnan().all()


EDGES = {
    "exponential": {0.0: 1.0, math.inf: math.inf, -math.inf: 0.0, 1e30: math.inf, -1e30: 0.0, -104.0: 0.0},
    "exponential_negative": {0.0: 1.0, -math.inf: 0.0, -1e30: 0.0},
    "exponential_bounded": {0.0: 1.0},
    "exponential_brief": {0.0: 1.0},
    "logarithm": {1.0: 0.0, 0.0: -math.inf, math.inf: math.inf, -1.0: math.nan},
    "log1p": {0.0: 0.0, -1.0: -math.inf, math.inf: math.inf, -2.0: math.nan},
    "expm1": {0.0: 0.0, -math.inf: -1.0, math.inf: math.inf},
    "sigmoid": {0.0: 0.5, -math.inf: 0.0, math.inf: 1.0},
    "softplus": {-math.inf: 0.0, math.inf: math.inf},
    "log1mexp": {0.0: -math.inf, -math.inf: 0.0},
    "tanh": {0.0: 0.0, math.inf: 1.0, -math.inf: -1.0},
}


@pytest.mark.parametrize("name", EDGES)
def test_edges(name: str) -> None:
    x = torch.tensor(list(EDGES[name]), dtype=torch.float32)
    expected = torch.tensor(list(EDGES[name].values()), dtype=torch.float32)
    torch.testing.assert_close(mapped(f"map_{name}", x), expected, equal_nan=True, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("f16", torch.float16)])
def test_half_precision_is_read_and_rounded_as_torch_does(name: str, dtype: torch.dtype) -> None:
    every = torch.arange(1 << 16).to(torch.uint16)
    back = mapped(f"map_{name}", every).view(dtype)
    torch.testing.assert_close(back.float(), every.view(dtype).float(), rtol=0.0, atol=0.0, equal_nan=True)
    bits = torch.randint(-(1 << 31), 1 << 31, (100_001,), generator=torch.Generator().manual_seed(0)).to(torch.int32)
    bits = bits[(bits & 0x7F800000) != 0]  # subnormal numbers may become 0
    numbers = torch.cat([bits.view(torch.float32), torch.randn(9_999) * 1e-5, torch.tensor([math.inf, -math.inf, 65520.0])])
    found = mapped(f"round_{name}", numbers, torch.empty(numbers.shape, dtype=torch.uint16)).view(dtype)
    torch.testing.assert_close(found.float(), numbers.to(dtype).float(), rtol=0.0, atol=0.0, equal_nan=True)


def test_the_midpoint_of_two_equal_scores_is_exact() -> None:
    """log(1 + exp 0) is log 2 to the last bit, so that the Jensen-Shannon divergence of a distribution from itself is 0."""
    for name, x in (("log1p_unit", 1.0), ("softplus", 0.0)):
        assert mapped(f"map_{name}", torch.tensor([x])) == torch.tensor(math.log(2.0))
