"""Covariances, singular values, determinants, systems and transport plans against torch.linalg and plain iterations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.runtime.modules import as_module
from torch import Tensor

import lossc
from lossc.runtime import operations

HEAD = """
axis b : batch
axis t
axis d
axis k
input x : real[b, d]
input z : real[t, b, d]
input r : real[d]
data  m : mask[b]
data  w : label[b] in k
"""
RIDGE = "0.5 * (index[d] == index[e])"


def given(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    tensors = {"x": torch.randn(7, 3), "z": torch.randn(2, 7, 3), "r": torch.randn(3)}
    tensors = {name: tensor.double().requires_grad_() for name, tensor in tensors.items()}
    return {**tensors, "m": torch.tensor([1, 1, 0, 1, 1, 0, 1]).bool(), "w": torch.tensor([0, 1, -1, 3, 2, 0, 1])}


def cov(x: Tensor, ddof: int = 0) -> Tensor:
    x = x - x.mean(-2, keepdim=True)
    return x.mT @ x / (x.shape[-2] - ddof)


def eye(n: int) -> Tensor:
    return torch.eye(n, dtype=torch.float64)


CASES: dict[str, tuple[str, Callable[[dict[str, Tensor]], Tensor]]] = {
    "cov": ("sum[d, e](cov[b, d -> e](x)^3)", lambda g: (cov(g["x"]) ** 3).sum()),
    "cov ddof": ("sum[d, e](cov[b, d -> e](x, ddof = 1)^3)", lambda g: (torch.cov(g["x"].T) ** 3).sum()),
    "cov masked": ("sum[d, e](cov[b, d -> e where m](x)^3)", lambda g: (cov(g["x"][g["m"]]) ** 3).sum()),
    "cov batched": ("sum[t, d, e](cov[b, d -> e where m](z)^3)", lambda g: (cov(g["z"][:, g["m"]]) ** 3).sum()),
    "cov of what may be absent": (
        "sum[d, e](cov[b, d -> e](x * (index[k] == w)[k = w])^3)",
        lambda g: (cov(g["x"][g["w"] >= 0]) ** 3).sum(),
    ),
    "trace": ("trace[d, e](cov[b, d -> e](x))^2", lambda g: torch.trace(cov(g["x"])) ** 2),
    "logdet": (f"logdet[d, e](cov[b, d -> e](x) + {RIDGE})", lambda g: torch.logdet(cov(g["x"]) + 0.5 * eye(3))),
    "logdets": (
        f"sum[t](logdet[d, e](cov[b, d -> e](z) + {RIDGE}))",
        lambda g: torch.logdet(cov(g["z"]) + 0.5 * eye(3)).sum(),
    ),
    "nuclear norm": ("sum[i](svdvals[b, d -> i](x))", lambda g: torch.linalg.matrix_norm(g["x"], "nuc")),
    "nuclear norms": (
        "sum[t](sum[i](svdvals[b, d -> i where m](z))^2)",
        lambda g: (torch.linalg.matrix_norm(g["z"][:, g["m"]], "nuc") ** 2).sum(),
    ),
    "spectral norm": ("max[i](svdvals[d, b -> i](x))", lambda g: torch.linalg.matrix_norm(g["x"], 2)),
    "eigenvalues": (
        f"sum[i](log(eigvals[d, e -> i](cov[b, d -> e](x) + {RIDGE})) * index[i])",
        lambda g: (torch.linalg.eigvalsh(cov(g["x"]) + 0.5 * eye(3)).log() * torch.arange(3)).sum(),
    ),
    "mahalanobis": (
        f"sum[b](dot[e](x[d -> e], solve[d, e](cov[b, d -> e](x) + {RIDGE}, x - r)))",
        lambda g: (g["x"] @ torch.linalg.inv(cov(g["x"]) + 0.5 * eye(3)) * (g["x"] - g["r"])).sum(),
    ),
}


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_torch(name: str, backend: str) -> None:
    text, oracle = CASES[name]
    objective = lossc.loads(f"{HEAD}\nminimize\n  f : {text}", backend=backend)
    tensors = given()
    loss = objective(**tensors).loss
    expected = oracle(tensors)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    inputs = [tensors[name] for name in "xzr"]
    for found, wanted in zip(
        torch.autograd.grad(loss, inputs, materialize_grads=True, allow_unused=True),
        torch.autograd.grad(expected, inputs, materialize_grads=True, allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)


def test_what_a_mask_excludes_is_not_seen() -> None:
    text = f"logdet[d, e](cov[b, d -> e where m](x) + {RIDGE}) + sum[i](svdvals[b, d -> i where m](x))"
    objective = lossc.loads(f"{HEAD}\nminimize\n  f : {text}")
    tensors = given()
    expected = objective(**tensors).loss
    with torch.no_grad():
        tensors["x"][~tensors["m"]] = torch.nan
    loss = objective(**tensors).loss
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, tensors["x"])
    assert torch.isfinite(gradient).all() and (gradient[~tensors["m"]] == 0).all()


def test_a_matrix_that_is_not_chosen_has_no_gradient() -> None:
    objective = lossc.loads(f"{HEAD}\nminimize\n  f : logdet[d, e](cov[b, d -> e](x)) if sum[d](r) > 1e9 else 0 * r[d = 0]")
    tensors = given()
    tensors["x"] = torch.zeros(7, 3, dtype=torch.float64, requires_grad=True)
    loss = objective(**tensors).loss
    assert loss == 0
    (gradient,) = torch.autograd.grad(loss, tensors["x"])
    assert (gradient == 0).all()


def test_nothing_left_is_absent() -> None:
    objective = lossc.loads(f"{HEAD}\nminimize\n  f : mean[d, e](cov[b, d -> e where m](x)) + fill(mean[b](x[d = 0]), 0)")
    tensors = given()
    tensors["m"][:] = False
    result = objective(**tensors)
    assert torch.isfinite(result.loss)


# ------------------------------------------------------------------------------------------------ degenerate matrices


def test_equal_singular_values_have_the_slope_of_their_sum() -> None:
    q = torch.linalg.qr(torch.randn(5, 3, dtype=torch.float64)).Q.requires_grad_()
    (gradient,) = torch.autograd.grad(operations.svdvals(q).sum(), q)
    torch.testing.assert_close(gradient, q.detach())


def test_singular_values_of_nothing_have_slope_0() -> None:
    x = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(operations.svdvals(x).sum(), x)
    assert (gradient == 0).all()


def test_a_matrix_with_nan_gives_nan_and_no_other() -> None:
    c = torch.eye(3, dtype=torch.float64).repeat(2, 1, 1)
    c[0, 1, 2] = torch.nan
    for function in (operations.svdvals, lambda c: operations.eigvals(c, None)):
        values = function(c)
        assert torch.isnan(values[0]).all() and torch.equal(values[1], torch.ones(3, dtype=torch.float64))
    assert torch.isnan(operations.logdet(c, None)[0]) and operations.logdet(c, None)[1] == 0
    assert torch.isnan(operations.solve(c, torch.ones(2, 3, dtype=torch.float64), None)[0]).any()


def test_determinants_that_have_no_logarithm() -> None:
    c = torch.tensor([[[1.0, 0.0], [0.0, -1.0]], [[1.0, 1.0], [1.0, 1.0]]])
    assert torch.isnan(operations.logdet(c, None)[0]) and operations.logdet(c, None)[1] == -torch.inf


def test_second_derivatives() -> None:
    torch.manual_seed(1)
    x = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    c = (x.detach().mT @ x.detach() + eye(3)).requires_grad_()
    b = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(operations.svdvals, (x,))
    assert torch.autograd.gradgradcheck(lambda c: operations.eigvals(c, None), (c,))
    assert torch.autograd.gradgradcheck(lambda c: operations.logdet(c, None), (c,))
    assert torch.autograd.gradgradcheck(lambda c, b: operations.solve(c, b, None), (c, b))


# ------------------------------------------------------------------------------------------------ transport

TRANSPORT = """
axis b : batch
axis i
axis j
input cost : real[b, i, j]
data  p : prob[b, i]
data  q : prob[b, j]
data  m : mask[b, j]
param eps : positive = 0.3
"""


def plan(cost: Tensor, p: Tensor, q: Tensor, eps: float, steps: int) -> Tensor:
    """Sinkhorn & Knopp's alternating normalisation of exp(-cost / eps)."""
    kernel = torch.exp(-cost / eps)
    v = torch.ones_like(q)
    for _ in range(steps):
        u = p / (kernel @ v.unsqueeze(-1)).squeeze(-1)
        v = q / (kernel.mT @ u.unsqueeze(-1)).squeeze(-1)
    return u.unsqueeze(-1) * kernel * v.unsqueeze(-2)


def costs(**change: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(2)
    tensors = {
        "cost": torch.rand(3, 4, 5, dtype=torch.float64, requires_grad=True),
        "p": torch.rand(3, 4, dtype=torch.float64).softmax(-1),
        "q": torch.rand(3, 5, dtype=torch.float64).softmax(-1),
        "m": torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 1, 0], [0, 0, 0, 0, 0]]).bool(),
    }
    return {**tensors, **change}


def test_the_plan_is_that_of_alternating_normalisation() -> None:
    call = "sinkhorn[i, j](cost, eps = eps, a = p, b = q, steps = 7)"
    objective = lossc.loads(f"{TRANSPORT}\nminimize\n  f : mean[b](sum[i, j](cost * {call}))")
    tensors = costs()
    loss = objective(**tensors).loss
    expected = (tensors["cost"] * plan(tensors["cost"], tensors["p"], tensors["q"], 0.3, 7)).sum((1, 2)).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    found, wanted = (torch.autograd.grad(value, tensors["cost"])[0] for value in (loss, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_a_plan_over_what_is_there() -> None:
    call = "sinkhorn[i, j where m](cost, eps = eps)"
    text = f"{TRANSPORT}\nminimize\n  f : mean[b](sum[i, j where m](cost * {call}))\nmonitor\n  mass : sum[b, i, j]({call})"
    objective = lossc.loads(text)
    tensors = costs()
    result = objective(**tensors)
    rows = [tensors["cost"][at][:, tensors["m"][at]] for at in (0, 1)]
    even = [torch.full((n,), 1 / n, dtype=torch.float64) for n in (4, 5, 3)]
    expected = sum((row * plan(row, even[0], even[at + 1], 0.3, 100)).sum() for at, row in enumerate(rows)) / 3
    torch.testing.assert_close(result.loss, expected)
    torch.testing.assert_close(result.monitors["mass"], torch.tensor(2.0, dtype=torch.float64))
    with torch.no_grad():
        tensors["cost"].masked_fill_(~tensors["m"].unsqueeze(1), torch.nan)
    torch.testing.assert_close(objective(**tensors).loss, expected)
    (gradient,) = torch.autograd.grad(objective(**tensors).loss, tensors["cost"])
    assert torch.isfinite(gradient).all()


def test_a_sharp_plan_is_an_assignment() -> None:
    cost = -100 * torch.eye(4).repeat(1, 1, 1)
    found = operations.sinkhorn(cost, torch.tensor(1e-2), None, None, None, steps=5)
    torch.testing.assert_close(found, torch.eye(4).unsqueeze(0) / 4)


def test_a_standalone_module_has_them(tmp_path: Path) -> None:
    entries = [f"  f{at} : {text}" for at, (text, _) in enumerate(CASES.values())]
    objective = lossc.loads("\n".join([HEAD, "minimize", *entries]))
    tensors = given()
    torch.testing.assert_close(as_module(objective, tmp_path).Objective()(**tensors).loss, objective(**tensors).loss)


@pytest.mark.parametrize("form", ["logdet[b, d](x)", "sum[i](eigvals[b, d -> i](x))", "sum[d](solve[b, d](x, x[d = 0]))"])
def test_matrices_that_are_not_square_are_reported(form: str) -> None:
    with pytest.raises(lossc.LosscError, match="a square matrix has 7 entries along `b` and 3 along `d`"):
        lossc.loads(f"{HEAD}\nminimize\n  f : {form}")(given())


@pytest.mark.parametrize("backend", ["reference", "torch", "c"])
def test_norm_and_dot_over_several_axes(backend: str) -> None:
    """Frobenius' norm of what a mask admits, with slope 0 where that is 0, and the sum of all products."""
    text = """
axis b : batch
axis i
axis j
input x : real[b, i, j]
data  m : mask[b, i]
minimize
  norm : sum[b](norm[i, j where m](x))
  dot  : sum[b](dot[i, j](x if m else 0, x if m else 1) / 2)
"""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(3, 2, 4, generator=draw, dtype=torch.float64)
    m = torch.tensor([[True, False], [True, True], [False, False]])
    x[~m] = torch.nan
    x.requires_grad_()
    loss = lossc.loads(text, backend=backend)(x=x, m=m).loss
    rows = [x[b][m[b]] for b in range(2)]
    wanted = sum(row.pow(2).sum().sqrt() + row.pow(2).sum() / 2 for row in rows)
    torch.testing.assert_close(loss, wanted)
    found, right = (torch.autograd.grad(value, x)[0] for value in (loss, wanted))
    torch.testing.assert_close(found, right)
