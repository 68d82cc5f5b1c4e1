"""What adversarial works share: a small network, and projected gradient ascent in a ball of the largest entry."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tests.oracles.batches import uniform
from torch import Tensor, nn


def network(features: int, classes: int) -> nn.Module:
    """A network with one hidden layer, the same on every machine."""
    net = nn.Sequential(nn.Linear(features, 4), nn.Tanh(), nn.Linear(4, classes)).double()
    with torch.no_grad():
        for seed, weight in enumerate(net.parameters()):
            weight.copy_(uniform(*weight.shape, seed=70 + seed))
    return net


def ascended(u: Callable[[Tensor], Tensor], start: Tensor, radius: float, *, steps: int) -> Tensor:
    """x <- clip(x + 2.5 radius / steps sign(du/dx), -radius, radius), `steps` times from `start`."""
    point = start.detach().clamp(-radius, radius)
    for _ in range(steps):
        point = point.requires_grad_()
        (slope,) = torch.autograd.grad(u(point).sum(), point)
        point = (point + 2.5 * radius / steps * slope.sign()).clamp(-radius, radius).detach()
    return point
