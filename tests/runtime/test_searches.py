"""`worst` against projected gradient ascent by hand, `root` against bisection and the implicit function theorem."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.runtime.modules import as_module
from torch import Tensor, nn
from torch.nn import functional

import lossc
from lossc.runtime.operations.searches import projected

HEAD = """
use std.ce (ce)
use std.divergence (kl)
axis b : batch
axis t
axis d
axis v
axis i
input x   : real[b, d]
input z   : real[b, i]
data  m   : mask[b]
input net : model(real[b, d]) -> logits[b, v]
data  y   : label[b] in v
param eps : positive = 0.2
param k   : positive = 2
"""

Given = dict[str, object]


def given() -> Given:
    torch.manual_seed(5)
    return {
        "net": nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 4)).double(),
        "x": torch.randn(5, 3, dtype=torch.float64, requires_grad=True),
        "z": torch.randn(5, 6, dtype=torch.float64, requires_grad=True),
        "m": torch.tensor([True, True, False, True, True]),
        "y": torch.tensor([0, 3, -1, 1, 2]),
    }


def spec(*entries: str) -> str:
    return "\n".join([HEAD, "minimize", *(f"  f{at} : {entry}" for at, entry in enumerate(entries))])


def entropies(z: Tensor, y: Tensor) -> Tensor:
    return torch.where(y >= 0, functional.cross_entropy(z, y.clamp(min=0), reduction="none"), 0.0)


def divergences(p: Tensor, q: Tensor) -> Tensor:
    return (p.softmax(-1) * (p.log_softmax(-1) - q.log_softmax(-1))).sum(-1)


def onto_l1(row: Tensor, radius: float) -> Tensor:
    """Duchi et al. 2008, one row at a time."""
    if row.abs().sum() <= radius:
        return row
    u = row.abs().sort(descending=True).values
    largest = [j for j in range(len(u)) if u[j] - (u[: j + 1].sum() - radius) / (j + 1) > 0][-1]
    theta = (u[: largest + 1].sum() - radius) / (largest + 1)
    return row.sign() * (row.abs() - theta).clamp(min=0)


def ascended(u: Callable[[Tensor], Tensor], start: Tensor, norm: str, eps: float, steps: int, size: float) -> Tensor:
    point = start.detach().clone()
    for _ in range(steps):
        point.requires_grad_()
        (g,) = torch.autograd.grad(u(point).sum(), point)
        with torch.no_grad():
            if norm == "inf":
                point = (point + size * g.sign()).clamp(-eps, eps)
            elif norm == "2":
                length = g.norm(dim=-1, keepdim=True)
                point = point + size * torch.where(length > 0, g / length.clamp(min=1e-300), 0.0)
                point = point * (eps / point.norm(dim=-1, keepdim=True).clamp(min=eps))
            else:
                top = (g.abs() == g.abs().amax(-1, keepdim=True)) & (g != 0)
                point = torch.stack([onto_l1(row, eps) for row in point + size * g.sign() * top])
    return point.detach()


def attack(norm: str, steps: int, size: float | None, start: float = 0.0) -> Callable[..., Tensor]:
    def oracle(x: Tensor, y: Tensor, net: nn.Module, **_: Tensor) -> Tensor:
        point = ascended(lambda e: entropies(net(x.detach() + e), y), start * x, norm, 0.2, steps, size or 0.5 / steps)
        return entropies(net(x + point), y).sum() / (y >= 0).sum()

    return oracle


def smoothness(x: Tensor, net: nn.Module, **_: Tensor) -> Tensor:
    """Both arguments of the divergence are differentiated, where the search has found its point."""
    clean = net(x).detach()
    point = ascended(lambda e: divergences(clean, net(x.detach() + e)), 0.01 * x, "2", 0.2, 4, 0.5 / 4)
    return divergences(net(x), net(x + point)).mean()


def elsewhere(x: Tensor, y: Tensor, net: nn.Module, **_: Tensor) -> Tensor:
    """The point is that of the cross-entropy, the value another's."""
    point = ascended(lambda e: entropies(net(x.detach() + e), y), 0 * x, "inf", 0.2, 3, 0.5 / 3)
    return divergences(net(x), net(x + point)).mean()


BALL = "delta : real[b, d] in ball"
ATTACKS: dict[str, tuple[str, Callable[..., Tensor]]] = {
    "inf": (f"mean[b](worst[{BALL}(inf, eps), steps = 4](ce(net(x + delta), y)))", attack("inf", 4, None)),
    "2": (f"mean[b](worst[{BALL}(2, eps), steps = 4](ce(net(x + delta), y)))", attack("2", 4, None)),
    "1": (f"mean[b](worst[{BALL}(1, eps), steps = 5](ce(net(x + delta), y)))", attack("1", 5, None)),
    "step_size": (
        f"mean[b](worst[{BALL}(inf, eps), steps = 3, step_size = 0.03](ce(net(x + delta), y)))", attack("inf", 3, 0.03),
    ),
    "start": (
        f"mean[b](worst[{BALL}(inf, eps), steps = 2, start = 0.05 * x](ce(net(x + delta), y)))",
        attack("inf", 2, None, 0.05),
    ),
    "a divergence": (
        f"mean[b](worst[{BALL}(2, eps), steps = 4, start = 0.01 * x](kl(net(x), net(x + delta))))", smoothness,
    ),
    "at": (
        f"mean[b](worst[{BALL}(inf, eps), steps = 3](ce(net(x + delta), y), at = kl(net(x), net(x + delta))))", elsewhere,
    ),
    "the point": (
        f"mean[b](kl(net(x), net(x + worst[{BALL}(inf, eps), steps = 3](ce(net(x + delta), y), at = delta))))", elsewhere,
    ),
}  # fmt: skip


def gradients(loss: Tensor, tensors: Given) -> list[Tensor]:
    net = tensors["net"]
    assert isinstance(net, nn.Module)
    leaves = [tensors["x"], tensors["z"], *net.parameters()]
    return list(torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ATTACKS)
def test_the_worst_case_is_that_of_ascent_by_hand(name: str) -> None:
    text, oracle = ATTACKS[name]
    tensors = given()
    loss = lossc.loads(spec(text))(tensors).loss
    expected = oracle(**tensors)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
    for found, wanted in zip(gradients(loss, tensors), gradients(expected, tensors), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)


def test_more_steps_are_worse() -> None:
    text = "mean[b](worst[delta : real[b, d] in ball(2, eps), steps = {}](ce(net(x + delta), y)))"
    result = lossc.loads(spec("mean[b](ce(net(x), y))", *(text.format(steps) for steps in (1, 20))))(given())
    clean, one, many = result.terms.values()
    assert clean < one <= many + 1e-4


def test_a_ball_is_one_for_each_row() -> None:
    """Along `t`, which u does not have, the norm runs; along `b` it does not."""
    text = """
axis b : batch
axis t
axis d
input w : real[b, t, d]
minimize
  f : mean[b](worst[e : real[b, t, d] in ball(2, 1), steps = 4](sum[t, d](w * e)))
  g : mean[b, t](worst[e : real[b, t, d] in ball(2, 1), steps = 4](sum[d](w * e)))
"""
    w = torch.randn(3, 4, 5, dtype=torch.float64)
    terms = lossc.loads(text)(w=w).terms
    torch.testing.assert_close(terms["f"], w.flatten(1).norm(dim=1).mean())
    torch.testing.assert_close(terms["g"], w.norm(dim=-1).mean())


def test_the_nearest_point_of_a_diamond() -> None:
    torch.manual_seed(0)
    points = torch.randn(4, 3, 5, dtype=torch.float64)
    found = projected(points, torch.tensor(0.7, dtype=torch.float64).expand(1, 3, 1), "1", (0, 2))
    for at in range(3):
        torch.testing.assert_close(found[:, at].flatten(), onto_l1(points[:, at].flatten(), 0.7))


# ------------------------------------------------------------------------------------------------ roots


def top_k(z: Tensor) -> Tensor:
    """sum_i sigmoid(z_i + t) = 2, one t a row; dt/dz_i = -s_i / sum s with s the slopes of the sigmoids."""
    low, high = (torch.full((len(z),), end, dtype=z.dtype) for end in (-30.0, 30.0))
    for _ in range(100):
        middle = (low + high) / 2
        above = (z.detach() + middle.unsqueeze(-1)).sigmoid().sum(-1) > 2
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    p = (z.detach() + low.unsqueeze(-1)).sigmoid()
    slopes = p * (1 - p)
    return low - ((slopes * (z - z.detach())).sum(-1) / slopes.sum(-1))


def test_a_root_and_its_gradient() -> None:
    objective = lossc.loads(spec("mean[b, i](sigmoid(z + root[t in -30..30](sum[i](sigmoid(z + t)) - k))^3)"))
    tensors = given()
    z = tensors["z"]
    assert isinstance(z, Tensor)
    loss = objective({"z": z}).loss
    expected = ((z + top_k(z).unsqueeze(-1)).sigmoid() ** 3).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    found, wanted = (torch.autograd.grad(value, z)[0] for value in (loss, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
    assert torch.autograd.gradcheck(lambda z: objective({"z": z}).loss, (z,))


@pytest.mark.parametrize(
    ("equation", "expected"),
    [
        ("x^3 - z", lambda z: z.sign() * z.abs() ** (1 / 3)),
        ("z - exp(x)", lambda z: torch.where(z > 0, z.clamp(min=1e-30).log(), torch.nan)),
    ],
)
def test_rising_and_falling_functions(equation: str, expected: Callable[[Tensor], Tensor]) -> None:
    text = f"axis b : batch\ninput z : real[b]\nminimize\n  f : mean[b where z > 0.1](root[x in -20..20]({equation}))\n"
    z = torch.tensor([0.5, -1.0, 2.0, 0.2], dtype=torch.float64, requires_grad=True)
    loss = lossc.loads(text)(z=z).loss
    wanted = expected(z)[z > 0.1].mean()
    torch.testing.assert_close(loss, wanted)
    (found,), (slopes,) = torch.autograd.grad(loss, z), torch.autograd.grad(wanted, z)
    torch.testing.assert_close(found, torch.where(z > 0.1, slopes, 0.0), rtol=1e-9, atol=1e-12)


def test_a_second_derivative_of_a_root_is_refused() -> None:
    text = "axis b : batch\ninput z : real[b]\nlet r = root[x in 0..9](x^2 - z)\nminimize\n  f : mean[b](grad[z](r)^2)\n"
    z = torch.tensor([2.0, 3.0], requires_grad=True)
    loss = lossc.loads(text)(z=z).loss
    torch.testing.assert_close(loss.detach(), (1 / (4 * z.detach())).mean())
    with pytest.raises(RuntimeError, match="second derivative of a `root`"):
        loss.backward()


def test_no_sign_change_is_no_number() -> None:
    text = "axis b : batch\ninput z : real[b]\nminimize\n  f : mean[b](root[x in 0..1](x - z))\n"
    objective = lossc.loads(text)
    assert torch.isnan(objective(z=torch.tensor([0.5, 2.0])).loss)
    assert objective(z=torch.tensor([0.5, 1.0])).loss == 0.75


def test_single_precision_is_reached() -> None:
    text = "axis b : batch\ninput z : real[b]\nminimize\n  f : sum[b](root[x in 0..100](x^2 - z))\n"
    assert abs(lossc.loads(text)(z=torch.tensor([2.0])).loss - 2**0.5) < 2e-7


# ------------------------------------------------------------------------------------------------ everywhere


def whole() -> lossc.Objective:
    nested = "worst[e : real[b, d] in ball(inf, eps), steps = 2](norm[d](grad[x](ce(net(x + e), y))))"
    chained = "root[t in -9..9](t + root[u in -9..9](u^3 + u - t - x[d = 0]) - x[d = 1])"
    return lossc.loads(spec(*(text for text, _ in ATTACKS.values()), f"mean[b]({nested})", f"mean[b]({chained})"))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_evaluation_searches_too(context: Callable[[], object]) -> None:
    objective, tensors = whole(), given()
    expected = objective(tensors).loss
    with context():  # type: ignore[attr-defined]
        loss = objective(tensors).loss
    assert not loss.requires_grad
    torch.testing.assert_close(loss, expected)


def test_a_search_in_which_a_gradient_is_taken() -> None:
    """At each step the gradient is that by x at the point; by hand, with the tangent of the network."""
    text = "mean[b](worst[e : real[b, d] in ball(inf, eps), steps = 2, start = 0.01 * x](sum[d](grad[x](ce(net(x + e), y))^2)))"
    tensors = given()
    x, y, net = tensors["x"], tensors["y"], tensors["net"]
    assert isinstance(x, Tensor) and isinstance(y, Tensor) and isinstance(net, nn.Module)

    def steepness(point: Tensor) -> Tensor:
        free = x.detach().requires_grad_()
        (g,) = torch.autograd.grad(entropies(net(free + point), y).sum(), free, create_graph=True)
        return g.square().sum(-1)

    point = ascended(steepness, 0.01 * x, "inf", 0.2, 2, 0.25)
    torch.testing.assert_close(lossc.loads(spec(text))(tensors).loss, steepness(point).mean().detach(), check_dtype=True)


def test_nested_roots() -> None:
    text = "mean[b](root[t in -9..9](t + root[u in -9..9](u^3 + u - t - x[d = 0]) - x[d = 1]))"
    tensors = given()
    x = tensors["x"]
    assert isinstance(x, Tensor)
    loss = lossc.loads(spec(text))({"x": x}).loss
    (gradient,) = torch.autograd.grad(loss, x)
    a, b = x.detach()[:, 0], x.detach()[:, 1]
    u = torch.zeros_like(a)
    for _ in range(100):  # t + u = b in the inner equation, by Newton's method
        u = u - (u**3 + 2 * u - a - b) / (3 * u**2 + 2)
    torch.testing.assert_close(loss.detach(), (b - u).mean(), rtol=1e-12, atol=1e-12)
    s = 3 * u**2 + 1  # du = (dt + da) / s, dt + du = db
    torch.testing.assert_close(gradient[:, 0], -1 / (s + 1) / 5, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient[:, 1], s / (s + 1) / 5, rtol=1e-9, atol=1e-12)


def test_searches_that_look_alike_are_apart() -> None:
    """Variables of one name in several calls of a term, and in a call within a call."""
    text = """
axis b : batch
input a : real[b]
input c : real[b]
term square_root(y : real) = root[r in 0..100](r^2 - y)
term slope(u : real)
  let h = u^2
  grad[h](h^2 + h)
minimize
  f : mean[b](square_root(a^2 + 3) + square_root(square_root(c^2 + 2)) + slope(a) * slope(c))
"""
    torch.manual_seed(1)
    a, c = (torch.randn(4, dtype=torch.float64, requires_grad=True) for _ in "ac")
    loss = lossc.loads(text)(a=a, c=c).loss
    expected = ((a**2 + 3).sqrt() + (c**2 + 2).sqrt().sqrt() + (2 * a**2 + 1) * (2 * c**2 + 1)).mean()
    torch.testing.assert_close(loss, expected)
    for found, wanted in zip(*(torch.autograd.grad(value, (a, c)) for value in (loss, expected)), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_a_standalone_module_has_them(tmp_path: Path) -> None:
    objective, tensors = whole(), given()
    torch.testing.assert_close(as_module(objective, tmp_path).Objective()(**tensors).loss, objective(tensors).loss)


def test_vocabulary_sized_terms_beside_a_search_still_fuse() -> None:
    text = HEAD + "input big : logits[b, w]\ndata yb : label[b] in w\nminimize\n"
    text += "  f : mean[b](ce(big, yb))\n"
    text += "  g : mean[b](worst[delta : real[b, d] in ball(inf, eps), steps = 2](ce(net(x + delta), y)))\n"
    tensors = {**given(), "big": torch.randn(5, 50, requires_grad=True), "yb": torch.tensor([1, 2, 3, 4, 49])}
    losses = [lossc.loads(text, backend=backend)(tensors).loss for backend in ("reference", "torch")]
    torch.testing.assert_close(*losses)


def test_it_is_shown_as_mathematics() -> None:
    from lossc.compiler.display.equation import latex_equation, plain_equation

    program = whole().program
    shown = plain_equation(program)
    assert "max_{δ ∈ ball(∞, ε), steps = 4}(ce(net(x + δ), y))" in shown
    assert "argmax_{δ ∈ ball(∞, ε), steps = 3}(" in plain_equation(program, expand=True)
    assert r"\max_{\delta \in \operatorname{ball}\left(\infty, \varepsilon\right)" in latex_equation(program)


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ("worst[e : real[b, d] in ball(2, x)](norm[d](x + e))", "E312"),
        ("worst[e : real[b, d] in ball(2, eps), start = z](norm[d](x + e))", "E312"),
        ("worst[e : real[b, d] in ball(3, eps)](norm[d](x + e))", "E306"),
        ("worst[e : real[b, d] in ball(inf, eps), steps = 1.5](norm[d](x + e))", "E401"),
        ("worst[e : real[b, d] in ball(inf, eps)](norm[d](x))", "E311"),
        ("root[t in 0..1](x - 1)", "E311"),
        ("root[t in 0..1](x[d = 0] - mean[b](t * x[d = 0]))", "E312"),
        ("root[t in 0..1](t, t)", "E201"),
        ("net[b](x)", "E306"),
    ],
)
def test_forms_that_there_are_not(form: str, code: str) -> None:
    with pytest.raises(lossc.LosscError) as raised:
        lossc.loads(f"{HEAD}let q = {form}\nminimize\n  f : mean[b](norm[d](x))\n")
    assert [problem.code for problem in raised.value.diagnostics] == [code]
