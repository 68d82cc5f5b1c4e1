"""The claims of the family `generative_diffusion`."""

from __future__ import annotations

import math

import pytest
import torch
from tests.oracles.batches import uniform
from tests.zoo.harness import hold, objective_of, oracles
from torch import Tensor, nn

MECO = "zoo/generative_diffusion/meco"
DISTILL = "zoo/generative_diffusion/f_distill"
TURBO = "zoo/generative_diffusion/t2v_turbo"


def test_an_up_to_date_mean_gives_the_slope_of_the_likelihood() -> None:
    """Where u is already the mean over the noise, the slope is that of -mean log p + log mean p / q."""
    batch = oracles()[MECO].batch(1, "plain")
    leaves = {name: batch[name].requires_grad_() for name in ("logp_x", "logp_z")}
    exact = -batch["logp_x"].mean() + (batch["logp_z"] - batch["logq_z"]).exp().mean().log()
    objective = objective_of(MECO)
    hold(objective, {"before": (batch["logp_z"] - batch["logq_z"]).detach().exp().mean().log()})
    found = objective(**leaves, logq_z=batch["logq_z"]).loss
    torch.testing.assert_close(found, exact)
    for slope, expected in zip(
        torch.autograd.grad(found, [*leaves.values()]), torch.autograd.grad(exact, [*leaves.values()]), strict=True
    ):
        torch.testing.assert_close(slope, expected)


def test_the_mean_of_a_normal_density_is_found() -> None:
    """The unnormalised density exp(-(x - m)^2 / 2 + c) with noise from N(0, 4): m goes to the mean of the data."""
    x, noise = 0.7 + uniform(64, seed=2), 2 * torch.erfinv(uniform(256, seed=3)) * math.sqrt(2)
    m = torch.zeros((), dtype=torch.float64, requires_grad=True)
    objective = objective_of(MECO)
    optimiser = torch.optim.Adam([m], lr=0.1)
    for _ in range(40):
        optimiser.zero_grad()
        density = -((torch.cat([x, noise]) - m) ** 2) / 2
        objective(logp_x=density[:64], logp_z=density[64:], logq_z=-(noise**2) / 8 - math.log(2)).loss.backward()
        optimiser.step()
        objective.advance()
    assert float(m.detach()) == pytest.approx(float(x.mean()), abs=0.15)


class Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 0 * x[:, :1]


def test_noise_is_kept_at_its_usual_length() -> None:
    """(d - 1) log |eps| - |eps|^2 / 2 is largest at |eps| = sqrt(d - 1)."""
    noise = uniform(2, 5, seed=4)
    noise = (2 * noise / noise.norm(dim=1, keepdim=True)).requires_grad_()
    objective_of("zoo/generative_diffusion/reno")(
        noise=noise, G=Zero(), R=Zero(), w=torch.ones(1, dtype=torch.float64)
    ).loss.backward()
    torch.testing.assert_close(noise.grad, torch.zeros_like(noise), rtol=0, atol=1e-12)


def slope_of(divergence: str, logit: Tensor) -> Tensor:
    batch = oracles()[DISTILL].batch(5, "plain") | {"logit": logit}
    batch["x"].requires_grad_()
    found = objective_of(DISTILL, divergence=divergence)(**batch, per_term=True).terms["match"]
    (slope,) = torch.autograd.grad(found, batch["x"])
    return slope


def test_reverse_divergence_weights_all_samples_alike() -> None:
    """f = -log r has h = 1: variational score distillation, whatever the discriminator says."""
    logit = 2 * uniform(5, seed=6)
    torch.testing.assert_close(slope_of("reverse_kl", logit), slope_of("reverse_kl", torch.zeros_like(logit)))
    torch.testing.assert_close(slope_of("kl", torch.zeros_like(logit)), slope_of("reverse_kl", logit))


def test_weights_of_the_other_divergences() -> None:
    """h = r for KL and r / (r + 1), up to a factor, for Jensen-Shannon: their slopes have these ratios."""
    logit = 2 * uniform(5, seed=7)
    r, base = logit.exp(), slope_of("reverse_kl", logit)
    for divergence, h in (("kl", r), ("js", r / (r + 1))):
        ratio = (slope_of(divergence, logit) / base)[:, 0]
        torch.testing.assert_close(ratio, h / h.mean(), rtol=1e-4, atol=1e-4)


def test_without_rewards_it_is_consistency_distillation() -> None:
    batch = oracles()[TURBO].batch(8, "plain")
    found = objective_of(TURBO, beta_img=0, beta_vid=0, c=0.2)(**batch).loss
    torch.testing.assert_close(found, ((batch["x"] - batch["target"]) ** 2 + 0.04).sqrt().mean() - 0.2)


def test_rewards_move_the_clip_and_not_what_judges_it() -> None:
    batch = oracles()[TURBO].batch(9, "masked")
    x = batch["x"].requires_grad_()
    found = objective_of(TURBO)(**batch, per_term=True).terms
    (slope,) = torch.autograd.grad(found["images"], x, retain_graph=True)
    assert torch.equal(slope.abs().sum(-1) > 0, batch["shown"])
    objective_of(TURBO)(**batch).loss.backward()
    for name in ("D", "R_img", "R_vid"):
        network = batch[name]
        assert isinstance(network, nn.Module)
        assert all(weight.grad is None for weight in network.parameters())
