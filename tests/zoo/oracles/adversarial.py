"""Closed forms of the family `adversarial`, each from the formula of its paper."""

from __future__ import annotations

import torch
from tests.oracles.batches import uniform
from tests.zoo.harness import Tensors, oracle
from tests.zoo.oracles.networks import Scores, frozen
from torch import Tensor, nn


def domains(seed: int, variant: str) -> Tensors:
    pair, d = (1, 2) if variant == "odd" else (4, 3)
    return {
        "reward": uniform(pair, 2, seed=seed),
        "h": uniform(pair, 2, 2, d, seed=seed + 1),
        "f": Scores(seed + 2, d),
        "held": Scores(seed + 2, d),
        "u": (uniform(pair, 2, seed=seed + 4) + 1) / 2,
    }


def steepness(f: nn.Module, at: Tensor) -> Tensor:
    """|grad f| at each row."""
    at = at.detach().requires_grad_()
    (slope,) = torch.autograd.grad(f(at).sum(), at, create_graph=True)
    return (slope**2).sum(-1).sqrt()


@oracle("dial", batch=domains, params=[{}, {"lam": 1, "gamma": 10}], variants=("plain", "odd"), steps=6)
def dial(tensors: Tensors, lam: float = 0.01, gamma: float = 1) -> Tensor:
    """-E log sigma(r_w - r_l) + lambda (E f'(h_s) - E f'(h_t)) - (E f(h_s) - E f(h_t)) + gamma E (|grad f| - 1)^2."""
    source, target = (tensors["h"][:, at].flatten(0, 1) for at in range(2))
    f, held = tensors["f"], frozen(tensors["held"])
    chosen, rejected = tensors["reward"].unbind(1)
    u = tensors["u"].flatten()[:, None]
    points = torch.cat([u * source + (1 - u) * target, source, target])
    estimate = f(source.detach()).mean() - f(target.detach()).mean()
    moved = held(source).mean() - held(target).mean()
    preference = torch.log(1 + torch.exp(rejected - chosen)).mean()
    return preference + lam * moved - estimate + gamma * ((steepness(f, points) - 1) ** 2).mean()
