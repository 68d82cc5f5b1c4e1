"""Whole programs in single and half precision, with heads in place of scores, on batches that are hard to compute with."""

from __future__ import annotations

import random

import pytest
import torch
from tests.runtime import whole_programs
from tests.runtime.fused_cases import of_type
from tests.runtime.rounded import assert_as_good_as_the_reference, outcome
from torch import Tensor

import lossc

FEATURES = 5

TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)

KINDS = ("plain", "hidden rows of NaN", "hidden classes of NaN", "minus infinity", "large", "one class", "one row")


def batch(seed: int, dtype: torch.dtype, kind: str) -> dict[str, Tensor]:
    sizes = {"one class": whole_programs.Sizes(v=1), "one row": whole_programs.Sizes(b=1, t=1)}.get(kind)
    tensors = whole_programs.batch(seed, sizes=sizes)
    source = torch.Generator().manual_seed(seed)
    if kind == "hidden rows of NaN":
        for name in ("z", "u", "q", "a"):
            tensors[name][~tensors["m"]] = torch.nan
    elif kind == "hidden classes of NaN":
        for name in ("z", "u", "q"):
            tensors[name][:, :, ~tensors["keep"]] = torch.nan
    elif kind == "minus infinity":
        tensors["z"][torch.rand(tensors["z"].shape, generator=source) < 0.15] = -torch.inf
    elif kind == "large":
        tensors["z"] += 1e4 * (torch.rand(tensors["z"].shape, generator=source) - 0.5).sign()
    return of_type(tensors, dtype)


def head(tensors: dict[str, Tensor], seed: int, kind: str) -> dict[str, Tensor]:
    """Hidden states and weights whose product has the shape of the scores."""
    source, z = torch.Generator().manual_seed(seed), tensors["z"]
    hidden = torch.randn(*z.shape[:-1], FEATURES, generator=source, dtype=torch.float64)
    hidden[..., 0] *= 1e4 if kind == "large" else 1.0
    if kind == "hidden rows of NaN":
        hidden[~tensors["m"]] = torch.nan
    weight = torch.randn(z.shape[-1], FEATURES, generator=source, dtype=torch.float64)
    bias = torch.randn(z.shape[-1], generator=source, dtype=torch.float64)
    return {name: x.to(z.dtype) for name, x in (("hidden", hidden), ("weight", weight), ("bias", bias))}


def compared(text: str, seed: int, dtype: torch.dtype, kind: str, *, headed: bool) -> None:
    tensors = batch(seed, dtype, kind)
    assert_as_good_as_the_reference(text, tensors, head(tensors, seed, kind) if headed else None)


@pytest.mark.parametrize("seed", [12001, 12007, 12010, 12013, 12016, 12022])
def test_random_programs(seed: int) -> None:
    source = random.Random(seed)
    dtype, kind = source.choice(TYPES[:2]), source.choice(KINDS)
    text = whole_programs.program(seed, depth=2).replace("[v = 2]", "[v = 0]").replace("[t = 1]", "[t = 0]")
    compared(text, seed, dtype, kind, headed=source.random() < 0.5)


FOUND = (
    ("mean[b, t where m](tanh(any[v where keep](z > 1) * tau))", torch.float32, "hidden rows of NaN", True),
    ("log(mean[b, t where m]((s * sum[v where softmax[v](z / tau) > 0.02](w))^2) + 1)", torch.float64, "one class", True),
    ("mean[b, t where m](var[v](w), weight = 1 + a^2)", torch.bfloat16, "plain", False),
    ("mean[b](mean[t where m](std[v](z)))", torch.float64, "hidden classes of NaN", False),
    ("mean[b, t where m](sum[v](tau * (index[v] / 7) * softmax[v](z / tau - gamma)))", torch.float32, "plain", False),
    ("mean[b](mean[t where m](fill(median[v](index[v] / 7), 0.5))) "
     "+ sum[v](mean[b, t where m](3 * tanh(relu(index[v] / 7 - z[v = y]) / 3))^2)", torch.float64, "one row", True),
    ("mean[b, j where index[b] != index[j]](relu(1 + mean[t](a) - (sg(a - a))[t = 0][b -> j]))", torch.float32, "plain", False),
    ("mean[b, t, v where m]((1 - softmax[v](u * a))^gamma)", torch.float32, "one class", False),
    ("mean[b, t, v where m](cumsum[t](z)^2)", torch.float64, "plain", True),
    ("mean[b, t where m](scan[t where m](-log_softmax[v](z)[v = y], 0.9))", torch.float64, "hidden rows of NaN", True),
    ("mean[b, t where m](any[v where keep](w > 1) * log_softmax[v](z)[v = y])", torch.float64, "hidden rows of NaN", True),
    ("mean[b, t where m](logsumexp[v](z)) + sum[b, t](median[v](z + u))", torch.float32, "plain", True),
    ("sum[b, t](sum[v](log1p(z^2) if keep else 1))", torch.float64, "hidden classes of NaN", False),
)  # fmt: skip
"""Terms that went wrong once: where, and whether scores were those of a head."""


@pytest.mark.parametrize(("term", "dtype", "kind", "headed"), FOUND)
def test_what_went_wrong_once(term: str, dtype: torch.dtype, kind: str, headed: bool) -> None:
    compared(f"{whole_programs.HEAD}minimize\n  f : {term}\n", 5, dtype, kind, headed=headed)


PAIRS = """axis b : batch
axis d
input x : embedding[b, d]
input y : embedding[b, d]
input z : real[b, j]
data keep : mask[b, j]
learn tau : positive = 0.7
let others = logsumexp[j where index[j] != index[b]](z / tau)
minimize
  rows : mean[b](others - z[j = index[b]] / tau)
  columns : mean[j](logsumexp[b](z / tau) - z[b = index[j]] / tau) + mean[b](max[j where keep](z)^2)
"""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("cosine", [True, False])
def test_pairs(dtype: torch.dtype, cosine: bool) -> None:
    """Against the reference on the matrix; a vector of length 0 and another of length 1e4 are among the rows."""
    source = torch.Generator().manual_seed(3)
    x, y = (torch.randn(6, 4, generator=source, dtype=torch.float64) for _ in range(2))
    x[0], x[1] = 0.0, x[1] * (1e4 if cosine else 1.0)
    keep = torch.rand(6, 6, generator=source) < 0.7
    found = {}
    for backend in ("exact", "reference", "torch", "c"):
        objective = lossc.loads(PAIRS, backend="reference" if backend == "exact" else backend)
        rounded = [each.to(dtype).to(torch.float64 if backend == "exact" else dtype).requires_grad_() for each in (x, y)]
        pairs = lossc.Pairs(*rounded, cosine=cosine)
        loss = objective(z=pairs if backend in ("torch", "c") else pairs.logits(), keep=keep).loss
        loss.backward()
        found[backend] = [loss.detach(), *(each.grad for each in rounded), *(p.grad for p in objective.learn.values())]
    for at, exact in enumerate(found["exact"]):
        assert exact is not None
        error = {backend: (values[at].double() - exact).norm() for backend, values in found.items()}
        for backend in ("torch", "c"):
            assert error[backend] <= 4 * error["reference"] + 1e-6 * exact.norm(), (backend, at)


def test_a_deviation_of_nan_is_nan() -> None:
    text = f"{whole_programs.HEAD}minimize\n  f : sum[b, t](std[v](z))\n"
    tensors = batch(5, torch.float64, "hidden classes of NaN")
    assert all(outcome(text, backend, tensors)["loss"].isnan() for backend in ("reference", "torch", "c"))
