"""What the works of the family `divergence` claim: their surrogates have the gradients of divergences."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from tests.zoo.harness import Tensors, objective_of
from torch import Tensor

import lossc
from lossc import Objective

V = 4
GENERATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "kl": lambda u: -u.log(),
    "reverse_kl": lambda u: u * u.log(),
    "js": lambda u: u * (2 * u / (1 + u)).log() + (2 / (1 + u)).log(),
    "tv": lambda u: (u - 1).abs() / 2,
}
"""f with D_f(pi || p) = sum_x p f(pi / p)."""


def every_token(z: Tensor) -> Tensors:
    """Responses of one token, each token once: the expectation under an even proposal is their mean."""
    return {
        "logits": z.expand(V, 1, V),
        "labels": torch.arange(V).unsqueeze(-1),
        "mask": torch.ones(V, 1, dtype=torch.bool),
        "log_q": torch.full((V,), -math.log(V), dtype=torch.float64),
    }


SCORES = torch.tensor([0.4, -1.2, 0.9, 0.1]).double()
TARGET = torch.tensor([0.6, 0.1, 0.9, 0.4]).double()
"""P, which sums to 2."""


@pytest.mark.parametrize("f", list(GENERATORS))
def test_the_gradient_of_any_divergence(f: str) -> None:
    z = SCORES.clone().requires_grad_()
    result = objective_of("zoo/divergence/f_dpg", f=f)({**every_token(z), "log_P": TARGET.log()})
    (found,) = torch.autograd.grad(result.loss, z)
    p = TARGET / TARGET.sum()
    (expected,) = torch.autograd.grad((p * GENERATORS[f](z.softmax(-1) / p)).sum(), z)
    torch.testing.assert_close(found, expected)
    assert float(result.monitors["Z"]) == pytest.approx(2)


def test_reverse_kl_is_the_objective_of_rlhf() -> None:
    """P = a exp(r / beta): the gradient is that of KL(pi, a) - E r / beta."""
    z, a, r = SCORES.clone().requires_grad_(), torch.tensor([0.1, 0.2, 0.3, 0.4]).double(), TARGET
    given = {**every_token(z), "log_P": a.log() + r / 0.5}
    (found,) = torch.autograd.grad(objective_of("zoo/divergence/f_dpg", f="reverse_kl")(given).loss, z)
    pi = z.softmax(-1)
    (expected,) = torch.autograd.grad((pi * (pi.log() - a.log())).sum() - (pi * r).sum() / 0.5, z)
    torch.testing.assert_close(found, expected)


def test_the_normaliser_is_a_running_mean() -> None:
    objective = objective_of("zoo/divergence/f_dpg")
    for step, scale in enumerate((1.0, 3.0, 0.5)):
        objective({**every_token(SCORES), "log_P": (scale * TARGET).log()})
        objective.advance()
        assert float(objective.state["Z"]) == pytest.approx(2 * sum((1.0, 3.0, 0.5)[: step + 1]) / (step + 1))


def test_far_from_the_target_jensen_shannon_does_not_overflow() -> None:
    """The slope of a long response is log 2 where the policy is far above the target."""
    log_pi = torch.tensor([-1.0, -4.0]).double().requires_grad_()
    given = {
        "log_pi": log_pi,
        "log_P": torch.tensor([-5000.0, -5.0]).double(),
        "log_q": torch.tensor([-1.0, -5.0]).double(),
    }
    (slope,) = torch.autograd.grad(objective_of("zoo/divergence/f_dpg")(given).loss, log_pi)
    assert float(slope[0]) == pytest.approx(math.log(2) / 2)
    assert bool(slope.isfinite().all())


def with_multiplier(multiplier: float) -> Objective:
    objective = lossc.load("zoo/divergence/gdc", backend="reference", sizes={"k": 1}).double()
    with torch.no_grad():
        objective.learn["lambda"].fill_(multiplier)
    return objective


def controlled(z: Tensor) -> Tensors:
    """One feature, of the last two tokens."""
    phi = torch.tensor([[0.0], [0.0], [1.0], [1.0]]).double()
    return {
        **every_token(z),
        "phi": phi,
        "mu": torch.tensor([0.7], dtype=torch.float64),
        "log_a": torch.tensor([0.4, 0.3, 0.2, 0.1]).double().log(),
    }


@pytest.mark.parametrize(("multiplier", "met"), [(0.0, False), (0.5, False), (1.6946, True)])
def test_multipliers_are_right_where_the_moments_are_met(multiplier: float, met: bool) -> None:
    """a gives the feature 0.3, and log(0.7 / 0.3) - log(0.3 / 0.7) is what brings it to 0.7."""
    objective = with_multiplier(multiplier)
    result = objective(controlled(SCORES.clone().requires_grad_()))
    (slope,) = torch.autograd.grad(result.loss, objective.learn["lambda"])
    w = (
        torch.tensor([0.4, 0.3, 0.2, 0.1]).double()
        * torch.tensor([0.0, 0.0, multiplier, multiplier], dtype=torch.float64).exp()
    )
    missed = float(w[2:].sum() / w.sum()) - 0.7
    assert float(slope) == pytest.approx(missed, abs=1e-12)
    assert (abs(missed) < 1e-4) == met
    assert float(result.monitors["missed"]) == pytest.approx(abs(missed))


def test_the_policy_follows_the_target() -> None:
    """The gradient is Z times that of KL(p, pi), and the reported divergences are those of the target."""
    z = SCORES.clone().requires_grad_()
    result = with_multiplier(0.5)(controlled(z))
    (found,) = torch.autograd.grad(result.loss, z)
    weights = torch.tensor([0.4, 0.3, 0.2, 0.1]).double() * torch.tensor([0.0, 0.0, 0.5, 0.5]).double().exp()
    p = weights / weights.sum()
    kl = (p * (p.log() - z.log_softmax(-1))).sum()
    (expected,) = torch.autograd.grad(weights.sum() * kl, z)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(result.monitors["kl_policy"], kl.detach())
    torch.testing.assert_close(result.monitors["kl_proposal"], (p * (p * V).log()).sum())
