"""`grad[x](u)` and models called again, against autograd by hand."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.runtime.modules import as_module
from torch import Tensor, nn
from torch.nn import functional

import lossc

HEAD = """
use std.ce (ce)
axis b : batch
axis d
axis v
axis view = {first, second}
input x   : real[b, d]
data  xs  : real[b, view, d]
data  w   : mask[b]
input net : model(real[b, d]) -> logits[b, v]
data  y   : label[b] in v
"""

Given = dict[str, object]


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 4)).double()


def given(net: nn.Module) -> Given:
    torch.manual_seed(4)
    return {
        "x": torch.randn(5, 3, dtype=torch.float64, requires_grad=True),
        "xs": torch.randn(5, 2, 3, dtype=torch.float64),
        "w": torch.tensor([True, True, False, True, True]),
        "y": torch.tensor([0, 3, -1, 1, 2]),
        "net": net,
    }


def entropies(z: Tensor, y: Tensor) -> Tensor:
    return torch.where(y >= 0, functional.cross_entropy(z, y.clamp(min=0), reduction="none"), 0.0)


def slope(u: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(u.sum(), x, create_graph=True)[0]


def plain(x: Tensor, net: nn.Module, y: Tensor, **_: Tensor) -> Tensor:
    return entropies(net(x), y).sum() / (y >= 0).sum()


def penalty(x: Tensor, net: nn.Module, y: Tensor, **_: Tensor) -> Tensor:
    return slope(entropies(net(x), y), x).square().sum(-1).mean()


def masked_penalty(x: Tensor, net: nn.Module, y: Tensor, w: Tensor, **_: Tensor) -> Tensor:
    return slope(entropies(net(x), y), x).square().sum(-1)[w].mean()


def of_a_let(x: Tensor, net: nn.Module, y: Tensor, **_: Tensor) -> Tensor:
    h = torch.tanh(2 * x)
    return (slope(entropies(net(h), y), h) * x).square().sum(-1).mean()


def of_data(net: nn.Module, xs: Tensor, **_: Tensor) -> Tensor:
    xs = xs.clone().requires_grad_()
    return slope(net(xs).square().sum(-1), xs).square().mean()


def views(net: nn.Module, xs: Tensor, **_: Tensor) -> Tensor:
    p = net(xs).softmax(-1)
    return (p[:, 0] - p[:, 1]).square().sum(-1).mean()


def second(x: Tensor, net: nn.Module, **_: Tensor) -> Tensor:
    """The Laplacian of the first output, as a physics-informed residual has it."""
    first = slope(net(x)[:, 0], x)
    return sum((slope(first[:, at], x)[:, at] for at in range(3)), torch.zeros(())).square().mean()


def of_scores(x: Tensor, net: nn.Module, y: Tensor, **_: Tensor) -> Tensor:
    """p - onehot, through autograd; the scores are a named quantity."""
    z = net(x)
    seen = (y >= 0).unsqueeze(-1)
    gradient = torch.where(seen, z.softmax(-1) - functional.one_hot(y.clamp(min=0), 4), 0.0)
    return gradient.abs().sum(-1).mean()


CASES: dict[str, tuple[str, Callable[..., Tensor]]] = {
    "a model": ("mean[b](ce(net(x), y))", plain),
    "a penalty": ("mean[b](norm[d](grad[x](ce(net(x), y)))^2)", penalty),
    "a masked penalty": ("mean[b where w](norm[d](grad[x](ce(net(x), y)))^2)", masked_penalty),
    "of a named quantity": ("mean[b](norm[d](grad[h](ce(net(h), y)) * x)^2)", of_a_let),
    "of data": ("mean[b, view, d](grad[xs](sum[v](net(xs)^2))^2)", of_data),
    "several views": (
        "mean[b](sum[v]((softmax[v](net(xs))[view = first] - softmax[v](net(xs))[view = second])^2))", views,
    ),
    "of scores": ("mean[b](sum[v](abs(grad[z](ce(z, y)))))", of_scores),
    "second derivatives": (
        "mean[b]((grad[x](g[d = 0])[d = 0] + grad[x](g[d = 1])[d = 1] + grad[x](g[d = 2])[d = 2])^2)", second,
    ),
    "in a term": ("mean[b](steepness(net, x, y)^2)", penalty),
}  # fmt: skip
LETS = """
let h = tanh(2 * x)
let z = net(x)
let g = grad[x](z[v = 0])
term steepness(f : model(real[b, d]) -> logits[b, v], x : real[b, d], y : label[b] in v) = norm[d](grad[x](ce(f(x), y)))
"""


def spec(*entries: str) -> str:
    return "\n".join([HEAD, LETS, "minimize", *(f"  f{at} : {entry}" for at, entry in enumerate(entries))])


def gradients(loss: Tensor, tensors: Given) -> list[Tensor]:
    net = tensors["net"]
    assert isinstance(net, nn.Module) and isinstance(tensors["x"], Tensor)
    leaves = [tensors["x"], *net.parameters()]
    return list(torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True))


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_by_hand(name: str, backend: str) -> None:
    text, oracle = CASES[name]
    tensors = given(network())
    loss = lossc.loads(spec(text), backend=backend)(tensors).loss
    expected = oracle(**tensors)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
    for found, wanted in zip(gradients(loss, tensors), gradients(expected, tensors), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_evaluation_takes_them_too(context: Callable[[], object]) -> None:
    objective = lossc.loads(spec(*(text for text, _ in CASES.values())))
    tensors = given(network())
    expected = objective(tensors).loss
    with context():  # type: ignore[attr-defined]
        loss = objective(tensors).loss
    assert not loss.requires_grad
    torch.testing.assert_close(loss, expected)


def test_a_model_is_called_once_for_equal_calls() -> None:
    net = network()
    calls: list[torch.Size] = []
    net.register_forward_hook(lambda _, arguments, __: calls.append(arguments[0].shape))
    lossc.loads(spec(*(text for text, _ in list(CASES.values())[:3])))(given(net))
    assert calls == [torch.Size((5, 3))]


def test_further_axes_are_further_rows() -> None:
    net = network()
    calls: list[torch.Size] = []
    net.register_forward_hook(lambda _, arguments, __: calls.append(arguments[0].shape))
    lossc.loads(spec(CASES["several views"][0]))(given(net))
    assert calls == [torch.Size((10, 3))]


def test_an_argument_without_the_rows_of_another_repeats_over_them() -> None:
    """A critic of two arguments scores all pairs of a batch."""
    text = """
    objective critic
    axis b : batch
    axis d
    axis e
    input x : real[b, d]
    input y : real[b, e]
    input f : model(real[b, d], real[b, e]) -> real[b]
    minimize
      scores : mean[b](logsumexp[j](f(x, y[b -> j])))
    """
    net = nn.Bilinear(3, 2, 1).double()
    x, y = torch.randn(4, 3).double(), torch.randn(4, 2).double()
    found = lossc.loads(textwrap.dedent(text)).double()(x=x, y=y, f=lambda a, c: net(a, c)[:, 0]).loss
    scores = torch.einsum("bd,kde,je->bj", x, net.weight, y) + net.bias
    torch.testing.assert_close(found, scores.logsumexp(1).mean())


def test_a_model_is_called_at_other_points() -> None:
    text = """
    objective boundary
    axis b : batch
    axis c : batch
    input x  : real[b]
    data  x0 : real[c]
    input u  : model(real[b]) -> real[b]
    minimize
      inside  : mean[b](grad[x](u(x))^2)
      outside : mean[c](u(x0)^2)
    """
    x, x0 = torch.randn(4).double(), torch.randn(3).double()
    found = lossc.loads(textwrap.dedent(text)).double()(x=x, x0=x0, u=torch.sin)
    torch.testing.assert_close(found.terms["inside"], (x.cos() ** 2).mean())
    torch.testing.assert_close(found.terms["outside"], (x0.sin() ** 2).mean())


def test_a_model_of_data_is_not_trained() -> None:
    text = HEAD.replace("input net", "data net").replace("data net  ", "data  net") + "minimize\n  f : mean[b](ce(net(x), y))"
    net = network()
    tensors = given(net)
    loss = lossc.loads(text)(tensors).loss
    assert not loss.requires_grad or torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)[0] is None


def test_the_extent_of_scores_is_that_of_the_model() -> None:
    """Labels reach only class 3, the model has 4: a mean over classes divides by 4."""
    objective = lossc.loads(spec("mean[b](mean[v](net(x)))"))
    tensors = given(network())
    tensors["y"] = torch.zeros(5, dtype=torch.int64)
    torch.testing.assert_close(objective(tensors).loss, tensors["net"](tensors["x"]).mean())  # type: ignore[operator]


def test_a_model_computes_in_its_own_type() -> None:
    net = network().to(torch.bfloat16)
    tensors = given(net)
    loss = lossc.loads(spec("mean[b](ce(net(x), y))"))(tensors).loss
    assert loss.dtype == torch.float64
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.dtype == torch.bfloat16 for parameter in net.parameters())


def test_mixed_precision_is_that_around_the_objective() -> None:
    tensors = given(network().float())
    tensors["x"] = tensors["x"].float().detach().requires_grad_()  # type: ignore[attr-defined]
    types: list[torch.dtype] = []
    tensors["net"][2].register_forward_hook(lambda *given: types.append(given[2].dtype))  # type: ignore[index]
    objective = lossc.loads(spec("mean[b](ce(net(x), y))"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        objective(tensors)
    objective(tensors)
    assert types == [torch.bfloat16, torch.float32]


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (lambda x: x.sum(), "must give a tensor with 2 dimensions: b, v"),
        (lambda x: x[:3], "gives 3 along `b`, which has 5"),
        (lambda x: (x,), "must give a tensor"),
    ],
)
def test_what_a_model_gives_is_checked(net: Callable[[Tensor], Tensor], words: str) -> None:
    objective = lossc.loads(spec("mean[b](ce(net(x), y))"))
    with pytest.raises(lossc.LosscError) as raised:
        objective({**given(network()), "net": net})
    (problem,) = raised.value.diagnostics
    assert problem.code == "E725" and words in problem.message


def test_what_is_no_model_is_refused() -> None:
    objective = lossc.loads(spec("mean[b](ce(net(x), y))"))
    tensors = given(network())
    with pytest.raises(lossc.LosscError, match="must be a model"):
        objective({**tensors, "net": torch.zeros(3)})
    del tensors["net"]
    with pytest.raises(lossc.LosscError, match="the model `net` is missing"):
        objective(tensors)


def test_scores_given_in_place_of_a_call() -> None:
    objective = lossc.loads(spec("mean[b](ce(z, y))"))
    tensors = given(network())
    z = tensors["net"](tensors["x"])  # type: ignore[operator]
    torch.testing.assert_close(objective(z=z, y=tensors["y"]).loss, objective(tensors).loss)


def test_a_compiled_objective_breaks_the_graph_where_gradients_are_taken() -> None:
    objective = lossc.loads(spec(CASES["a penalty"][0]))
    tensors = given(network())
    expected = objective(tensors).loss
    compiled = torch.compile(objective, backend="eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Dynamo, about tensors that it meets behind the break
        torch.testing.assert_close(compiled(tensors).loss, expected)


def test_a_standalone_module_has_them(tmp_path: Path) -> None:
    objective = lossc.loads(spec(*(text for text, _ in CASES.values())))
    tensors = given(network())
    module = as_module(objective, tmp_path).Objective()
    torch.testing.assert_close(module(**tensors).loss, objective(tensors).loss)
    with torch.no_grad():
        torch.testing.assert_close(module(**tensors).loss, objective(tensors).loss)


def test_it_is_shown_as_mathematics() -> None:
    from lossc.compiler.display.equation import latex_equation, plain_equation

    program = lossc.loads(spec(CASES["of a named quantity"][0])).program
    assert "∇_h(ce(net(h), y))" in plain_equation(program)
    assert r"\nabla_{h}\left[" in latex_equation(program)
    assert "∇_h(" in plain_equation(program, expand=True)


@pytest.mark.parametrize("quantity", ["x", "h"])
def test_gradients_of_rows_that_leave_are_unseen(quantity: str) -> None:
    """Where the `where` around a gradient excludes a row, nothing of it passes, NaN included; in second derivatives too."""
    text = f"""
axis b : batch
axis d
input x : real[b, d]
data  m : mask[b]
learn c : real = 0.5
let h = 2 * x + c
minimize
  f : mean[b where m](sum[d](grad[{quantity}](sum[d](log({quantity} + 1) * {quantity}) * c)^2))
"""
    objective = lossc.loads(text)
    x = torch.rand(4, 3, dtype=torch.float64)
    x[1:3] = torch.tensor([[torch.nan] * 3, [-5.0] * 3])
    x.requires_grad_()
    keep = torch.tensor([True, False, False, True])
    loss = objective(x=x, m=keep).loss
    loss.backward()
    kept = x.detach()[keep].requires_grad_()
    c = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    at = kept if quantity == "x" else 2 * kept + c
    expected = (slope((torch.log(at + 1) * at).sum(-1) * c, at) ** 2).sum(-1).mean()
    torch.testing.assert_close(loss, expected)
    gradients = torch.autograd.grad(expected, (kept, c))
    assert x.grad is not None and (x.grad[~keep] == 0).all()
    torch.testing.assert_close(x.grad[keep], gradients[0])
    torch.testing.assert_close(next(objective.parameters()).grad, gradients[1].float())


def test_a_quantity_is_found_wherever_it_stands() -> None:
    """In sums and products that are one with what it is made of, through other quantities, and in the arguments of terms."""
    text = """
axis b : batch
input x : real[b]
input y : real[b]
let h = x + y
let k = 3 * x * y
let z = h^2 + k
term slope(u : real) = grad[u]((u + 1)^3 + 2 * u)
minimize
  one   : mean[b](grad[h]((h + 1)^3 + h * k))
  two   : mean[b](grad[k](2 * k * x * k))
  three : mean[b](grad[h](z * (z + h)))
  four  : mean[b](grad[x](z))
  five  : mean[b](slope(x + y) * slope(2 * x))
  six   : mean[b](grad[h](grad[h](h * z)))
  seven : mean[b](grad[h](slope(h) + h))
"""
    x, y = (torch.rand(3, dtype=torch.float64, requires_grad=True) for _ in "xy")
    terms = lossc.loads(text)(x=x, y=y, per_term=True).terms
    h, k = x + y, 3 * x * y
    z = h**2 + k
    expected = {
        "one": 3 * (h + 1) ** 2 + k,
        "two": 4 * k * x,
        "three": 2 * h * (z + h) + z * (2 * h + 1),
        "four": 2 * h + 3 * y,
        "five": (3 * (h + 1) ** 2 + 2) * (3 * (2 * x + 1) ** 2 + 2),
        "six": 6 * h,
        "seven": 6 * (h + 1) + 1,
    }
    for name, wanted in expected.items():
        torch.testing.assert_close(terms[name], wanted.mean())
        values = (terms[name], wanted.mean())
        pair = (torch.autograd.grad(value, (x, y), retain_graph=True, materialize_grads=True) for value in values)
        for found, gradient in zip(*pair, strict=True):
            torch.testing.assert_close(found, gradient)


@pytest.mark.parametrize("dummy", ["0 * index[e] + 1", "exp(0 * index[e])"])
def test_a_constant_is_a_variable_of_its_own(dummy: str) -> None:
    """The multiplier 1 of invariant risk minimisation is no other 1 of the loss, and is one for each environment."""
    text = f"""
use std.ce (bce)
axis b : batch
input z : real[b]
data  y : unit[b]
data  env : label[b] in e
let each = {dummy}
let all  = 1
let risk = mean[b by env](bce(each[e = env] * z, y))
minimize
  irm  : mean[e](grad[each](risk)^2)
  irm1 : grad[all](mean[b](bce(all * z, y)))^2
"""
    z = torch.linspace(-1, 2, 6, dtype=torch.float64).requires_grad_()
    y = torch.tensor([0, 1, 1, 0, 1, 0], dtype=torch.float64)
    env = torch.tensor([0, 1, 0, 1, 1, 0])
    slopes = (torch.sigmoid(z) - y) * z
    expected = sum(slopes[env == e].mean() ** 2 for e in (0, 1)) / 2 + slopes.mean() ** 2
    loss = lossc.loads(text)(z=z, y=y, env=env).loss
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, z), torch.autograd.grad(expected, z))
