"""A model that is data is held fixed: gradient passes through it to what it is called on, never to its weights."""

from __future__ import annotations

import textwrap

import pytest
import torch
from torch import Tensor, nn

import lossc

SPEC = """
    axis b : batch
    axis d
    input x    : real[b, d]
    data  net  : model(real[b, d]) -> real[b]
"""


def network() -> nn.Module:
    torch.manual_seed(3)

    class Score(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)[:, 0]

    return Score().double()


def evaluated(value: str, net: object, x: Tensor, backend: str = "reference") -> Tensor:
    """The loss of an objective in which the network is data."""
    text = textwrap.dedent(SPEC) + f"minimize\n  f : mean[b]({value})\n"
    return lossc.loads(text, backend=backend).double()(x=x, net=net).loss


@pytest.mark.parametrize("backend", ["reference", "torch", "c"])
def test_gradient_passes_to_the_arguments_alone(backend: str) -> None:
    net, x = network(), torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    loss = evaluated("exp(net(2 * x))", net, x, backend)
    slope, *weights = torch.autograd.grad(loss, [x, *net.parameters()], allow_unused=True)
    expected = torch.autograd.grad(net(2 * x).exp().mean(), x)
    torch.testing.assert_close(slope, *expected)
    assert weights == [None] * len(weights)


def test_what_carries_no_gradient_gets_no_graph() -> None:
    assert not evaluated("net(x)", network(), torch.randn(4, 3, dtype=torch.float64)).requires_grad


def test_its_slope_is_differentiated_in_turn() -> None:
    net, x = network(), torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    loss = evaluated("(norm[d](grad[x](net(x))) - 1)^2", net, x)
    slope, *weights = torch.autograd.grad(loss, [x, *net.parameters()], allow_unused=True)
    (inner,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    torch.testing.assert_close(slope, *torch.autograd.grad(((inner.norm(dim=1) - 1) ** 2).mean(), x))
    assert weights == [None] * len(weights)


def test_a_function_that_is_no_module_gives_constants() -> None:
    """Whose weights it reads is not known."""
    net, x = network(), torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    loss = evaluated("net(x) + sum[d](x)", lambda rows: net(rows), x)
    slope, *weights = torch.autograd.grad(loss, [x, *net.parameters()], allow_unused=True)
    torch.testing.assert_close(slope, torch.full_like(x, 0.25))
    assert weights == [None] * len(weights)


def test_one_network_may_be_trained_and_held() -> None:
    """As `input` its weights move, as `data` they do not; running statistics are kept as in any call."""
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1), nn.Flatten(0)).double()
    text = (
        textwrap.dedent(SPEC) + "input f : model(real[b, d]) -> real[b]\nminimize\n  f : mean[b](f(x)^2 - net(x)^2)\n"
    )
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    lossc.loads(text, backend="reference").double()(x=x, net=net, f=net).loss.backward()
    weight = net[1].weight
    assert isinstance(weight, Tensor)
    expected = torch.autograd.grad((net(x) ** 2).mean(), weight)
    torch.testing.assert_close(weight.grad, *expected)
    torch.testing.assert_close(x.grad, torch.zeros_like(x), rtol=0, atol=1e-12)
    assert int(net[0].num_batches_tracked) == 3  # type: ignore[arg-type]
