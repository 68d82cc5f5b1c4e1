"""Closed forms of the family `generative_diffusion`: latent variables, and a mean velocity."""

from __future__ import annotations

import math

import torch
from tests.oracles.batches import uniform
from tests.zoo.harness import Tensors, oracle
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional


class Velocity(nn.Module):
    """A function of a vector and two numbers: out tanh(in [x, r, t])."""

    def __init__(self, seed: int, d: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Parameter(uniform(d + 2, 4, seed=seed)), nn.Parameter(uniform(4, d, seed=seed + 1))

    def forward(self, x: Tensor, r: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(torch.cat([x, torch.stack([r, t], -1).to(x.dtype)], -1) @ self.inner) @ self.outer


def flows(seed: int, variant: str) -> Tensors:
    """The last row has r = t."""
    b, d = (1, 1) if variant == "odd" else (4, 3)
    r = (uniform(b, seed=seed + 2) + 1) / 2
    t = torch.where(torch.arange(b) == 3, r, r + (1 - r) * (uniform(b, seed=seed + 3) + 1) / 2)
    return {"x": uniform(b, d, seed=seed), "e": uniform(b, d, seed=seed + 1), "r": r, "t": t, "net": Velocity(seed + 4, d)}


@oracle("mean_flow", batch=flows, params=[{}, {"p": 0, "c": 1}], variants=("plain", "odd"), steps=6)
def mean_flow(tensors: Tensors, p: float = 1, c: float = 0.001) -> Tensor:
    """|u - sg(v - (t - r) du/dt)|^2 / sg(its own + c)^p, du/dt forwards along (v, 0, 1)."""
    x, e, r, t, net = (tensors[name] for name in ("x", "e", "r", "t", "net"))
    v, z = e - x, (1 - t[:, None]) * x + t[:, None] * e
    along = (v, torch.zeros_like(r), torch.ones_like(t))
    u, slope = torch.autograd.functional.jvp(net, (z, r, t), along, create_graph=True)
    error = (u - (v - (t - r)[:, None] * slope).detach()).square().sum(-1)
    return (error / (error.detach() + c) ** p).mean()


class Decoder(nn.Module):
    def __init__(self, seed: int, d: int, pixel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(uniform(d, pixel, seed=seed))

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(z) @ self.weight


def encoded(seed: int, variant: str) -> Tensors:
    b, d, pixel = (1, 1, 1) if variant == "odd" else (4, 3, 5)
    return {"mu": uniform(b, d, seed=seed), "log_sigma": uniform(b, d, seed=seed + 1) / 2,
            "x": (uniform(b, pixel, seed=seed + 2) + 1) / 2, "e": 2 * uniform(b, d, seed=seed + 3),
            "decoder": Decoder(seed + 4, d, pixel)}  # fmt: skip


@oracle("beta_tcvae", batch=encoded, params=[{}, {"N": 50, "beta": 2}], variants=("plain", "odd"), steps=6)
def beta_tcvae(tensors: Tensors, N: float = 10000, beta: float = 6) -> Tensor:  # noqa: N803
    """Row by row: each latent under the posterior of every row of the batch."""
    mu, sigma = tensors["mu"], tensors["log_sigma"].exp()
    losses = []
    for row, e in enumerate(tensors["e"]):
        z = mu[row] + sigma[row] * e
        under = Normal(mu, sigma).log_prob(z)
        q_z = under.sum(1).logsumexp(0) - math.log(N * len(mu))
        q_zj = (under.logsumexp(0) - math.log(N * len(mu))).sum()
        logits = tensors["decoder"](z[None])[0]
        image = functional.binary_cross_entropy_with_logits(logits, tensors["x"][row], reduction="sum")
        prior = q_zj - Normal(torch.zeros_like(z), 1.0).log_prob(z).sum()
        losses.append(image + under[row].sum() - q_z + beta * (q_z - q_zj) + prior)
    return torch.stack(losses).mean()


def weighted(seed: int, variant: str) -> Tensors:
    b, k = (1, 2) if variant == "odd" else (3, 4)
    return {"log_p": 2 * uniform(b, k, seed=seed), "log_q": uniform(b, k, seed=seed + 1)}


@oracle("vimco", batch=weighted, variants=("plain", "odd"), steps=6)
def vimco(tensors: Tensors) -> Tensor:
    """-L - sum_k sg(L - L_-k) log q_k, L_-k with the geometric mean of the others in the place of f_k."""
    losses = []
    for log_p, log_q in zip(tensors["log_p"], tensors["log_q"], strict=True):
        f = (log_p - log_q).exp()
        bound = f.mean().log()
        for k in range(len(f)):
            others = torch.cat([f[:k], f[k + 1 :]])
            without = torch.cat([others, others.log().mean().exp()[None]]).mean().log()
            bound = bound + (f.mean().log() - without).detach() * log_q[k]
        losses.append(-bound)
    return torch.stack(losses).mean()
