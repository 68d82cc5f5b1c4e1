"""Closed forms of the family `physics`, each from the formula of its paper."""

from __future__ import annotations

import math

import torch
from tests.oracles.batches import uniform
from tests.zoo.harness import Tensors, oracle
from torch import Tensor, nn


class Curve(nn.Module):
    """A function of one number: sum_k c_k tanh(a_k x + s_k)."""

    def __init__(self, seed: int, width: int = 4) -> None:
        super().__init__()
        a, s, c = uniform(3, width, seed=seed)
        self.a, self.s, self.c = nn.Parameter(2 * a), nn.Parameter(s), nn.Parameter(c)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x[..., None] * self.a + self.s) @ self.c


def points(seed: int, variant: str) -> Tensors:
    """Collocation points, the last ones with given values; masked, the others hold garbage for these."""
    b = 2 if variant == "odd" else 7
    given = torch.arange(b) >= b - b // 2
    g = uniform(b, seed=seed + 2)
    tensors: Tensors = {
        "net": Curve(seed),
        "x": uniform(b, seed=seed + 1),
        "given": given,
        "g": torch.where(given, g, torch.nan) if variant == "masked" else g,
    }
    if variant != "odd":
        tensors |= {"m_r": torch.tensor(0.5, dtype=torch.float64), "m_b": torch.tensor(2.0, dtype=torch.float64)}
    return tensors


def slopes(net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """u, u' and u'' at points, by autograd."""
    at = x if x.requires_grad else x.clone().requires_grad_()
    u = net(at)
    (first,) = torch.autograd.grad(u.sum(), at, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), at, create_graph=True)
    return u, first, second


@oracle("singular_pinn", batch=points, params=[{}, {"l": 3}], steps=30, rate=0.02)
def singular_pinn(tensors: Tensors, l: float = 2.0) -> Tensor:  # noqa: E741
    """w_r mean |N[u]|^2 + w_b mean |u - g|^2 with w_k = 2 m_k / (m_r + m_b), both 1 at first."""
    x, given = tensors["x"], tensors["given"]
    u, first, second = slopes(tensors["net"], x)
    residual = (1 - x**2) * second - 2 * x * first + l * (l + 1) * u
    m_r, m_b = (float(tensors.get(name, 1.0)) for name in ("m_r", "m_b"))
    losses = (residual[~given] ** 2).mean(), ((u - tensors["g"])[given] ** 2).mean()
    return 2 * (m_r * losses[0] + m_b * losses[1]) / (m_r + m_b)


class Surface(nn.Module):
    """A function of two numbers: sum_k c_k tanh(a_k t + s_k x)."""

    def __init__(self, seed: int, width: int = 4) -> None:
        super().__init__()
        a, s, c = uniform(3, width, seed=seed)
        self.a, self.s, self.c = nn.Parameter(a), nn.Parameter(2 * s), nn.Parameter(c)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(t[..., None] * self.a + x[..., None] * self.s) @ self.c


def flow(seed: int, variant: str) -> Tensors:
    b, i = (1, 1) if variant == "odd" else (6, 4)
    return {"t": (uniform(b, seed=seed) + 1) / 2, "x": uniform(b, seed=seed + 1), "start": uniform(i, seed=seed + 2),
            "end_t": (uniform(i, seed=seed + 3) + 1) / 2, "end_x": uniform(i, seed=seed + 4).sign(),
            "net": Surface(seed + 5)}  # fmt: skip


@oracle("burgers", batch=flow, variants=("plain", "odd"), rate=0.02)
def burgers(tensors: Tensors) -> Tensor:
    """|u_t + u u_x - nu u_xx|^2 + |u(0, x) + sin(pi x)|^2 + |u(t, +-1)|^2, with the slopes of a sum of tanh written out."""
    net, t, x, start = (tensors[name] for name in ("net", "t", "x", "start"))
    h = torch.tanh(t[:, None] * net.a + x[:, None] * net.s)
    bend = 1 - h**2
    u, u_t, u_x, u_xx = h @ net.c, (bend * net.a) @ net.c, (bend * net.s) @ net.c, (-2 * h * bend * net.s**2) @ net.c
    residual = u_t + u * u_x - 0.01 / math.pi * u_xx
    initial = net(torch.zeros_like(start), start) + torch.sin(math.pi * start)
    return (residual**2).mean() + (initial**2).mean() + (net(tensors["end_t"], tensors["end_x"]) ** 2).mean()
