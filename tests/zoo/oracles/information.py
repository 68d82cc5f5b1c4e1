"""Closed forms of the family `information`, each from the formula of its paper."""

from __future__ import annotations

import torch
from tests.oracles.batches import integers, uniform
from tests.zoo.harness import Tensors, oracle
from tests.zoo.oracles.networks import Scores
from torch import Tensor, nn


def bottleneck(seed: int, variant: str) -> Tensors:
    b, p, d = (2, 3, 1) if variant == "odd" else (6, 2, 3)
    return {
        "x": uniform(b, p, seed=seed),
        "t": uniform(b, d, seed=seed + 1),
        "yhat": uniform(b, seed=seed + 2),
        "y": uniform(b, seed=seed + 3),
    }


def gram(x: Tensor, y: Tensor, sigma: float) -> Tensor:
    """exp(-|x_i - y_j|^2 / (2 sigma^2))."""
    x, y = x.reshape(len(x), -1), y.reshape(len(y), -1)
    return torch.exp(-((x[:, None] - y[None, :]) ** 2).sum(-1) / (2 * sigma**2))


def quadratic_information(k: Tensor, t: Tensor) -> Tensor:
    """log2(tr(K T) / n^2) + log2(sum K sum T / n^4) - 2 log2(1' K T 1 / n^3)."""
    n, one = len(k), torch.ones(len(k), dtype=k.dtype)
    joint, marginal, cross = torch.trace(k @ t) / n**2, k.sum() * t.sum() / n**4, one @ k @ t @ one / n**3
    return torch.log2(joint) + torch.log2(marginal) - 2 * torch.log2(cross)


@oracle("cs_ib", batch=bottleneck, params=[{}, {"sigma": 0.5, "beta": 2.0}], variants=("plain", "odd"))
def cs_ib(tensors: Tensors, sigma: float = 1.0, beta: float = 0.01) -> Tensor:
    """D_CS(p(y|x); q(yhat|x)) + beta I_CS(x; t) / sqrt(I_CS(x; x) I_CS(t; t)) of the Gram matrices."""
    x, y, yhat = tensors["x"], tensors["y"], tensors["yhat"]
    k, t = gram(x, x, sigma), gram(tensors["t"], tensors["t"], sigma)
    d = (k**2).sum(1)

    def conditional(other: Tensor) -> Tensor:
        return torch.log2(((k * other).sum(1) / d).sum())

    divergence = conditional(gram(y, y, sigma)) + conditional(gram(yhat, yhat, sigma))
    divergence = divergence - 2 * conditional(gram(yhat, y, sigma))
    scale = (quadratic_information(k, k) * quadratic_information(t, t)).clamp(min=1e-18).sqrt()
    return divergence + beta * quadratic_information(k, t) / scale


class Critic(nn.Module):
    """tanh(x A) W y + c |y|^2 / 2, which is not linear in either argument."""

    def __init__(self, seed: int, d: int, e: int) -> None:
        super().__init__()
        self.a = nn.Parameter(uniform(d, d, seed=seed))
        self.w = nn.Parameter(uniform(d, e, seed=seed + 1))
        self.c = nn.Parameter(uniform(1, seed=seed + 2))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return ((torch.tanh(x @ self.a) @ self.w) * y).sum(-1) + self.c * (y**2).sum(-1) / 2


def criticised(seed: int, variant: str) -> Tensors:
    b, d, e = (2, 1, 3) if variant == "odd" else (5, 3, 2)
    return {
        "x": uniform(b, d, seed=seed),
        "y": uniform(b, e, seed=seed + 1),
        "f": Critic(seed + 2, d, e),
        "mix": (uniform(b, seed=seed + 5) + 1) / 2,
    }


@oracle("wasserstein_predictive_coding", batch=criticised, params=[{}, {"lam": 0.5}], variants=("plain", "odd"))
def wasserstein_predictive_coding(tensors: Tensors, lam: float = 10.0) -> Tensor:
    """InfoNCE over the critic's scores of all pairs, and the two-sided penalty on its slopes at mixed points."""
    x, y, f, mix = tensors["x"], tensors["y"], tensors["f"], tensors["mix"]
    b = len(x)
    scores = torch.stack([torch.stack([f(x[i : i + 1], y[j : j + 1])[0] for j in range(b)]) for i in range(b)])
    loss = torch.nn.functional.cross_entropy(scores, torch.arange(b))
    for i in range(b):
        at = mix[i] * y[i] + (1 - mix[i]) * y[(i + 1) % b]
        slopes = torch.autograd.grad(f(x[i : i + 1], at[None])[0], (x, at), create_graph=True)
        length = torch.cat([slopes[0][i], slopes[1]]).norm()
        loss = loss + lam * (length - 1) ** 2 / b
    return loss


def explained_series(seed: int, variant: str) -> Tensors:
    b, t, k, v, e = (2, 2, 1, 3, 1) if variant == "odd" else (4, 5, 2, 3, 4)
    return {
        "logits": 2 * uniform(b, v, seed=seed),
        "logits_x": 2 * uniform(b, v, seed=seed + 1),
        "m": 0.5 + 0.45 * uniform(b, t, k, seed=seed + 2),
        "mu": uniform(b, e, seed=seed + 3),
        "logvar": uniform(b, e, seed=seed + 4),
        "mu_x": uniform(b, e, seed=seed + 5),
        "logvar_x": uniform(b, e, seed=seed + 6),
        "reference": uniform(b, t, k, seed=seed + 7),
        "explained": uniform(b, t, k, seed=seed + 8),
    }


def js(p: Tensor, q: Tensor) -> Tensor:
    middle = (p + q) / 2
    return ((p * (p / middle).log()).sum(-1) + (q * (q / middle).log()).sum(-1)) / 2


@oracle(
    "timex_pp",
    batch=explained_series,
    params=[{}, {"beta_exp": 0.5, "beta_sim": 3, "bias": 1, "r": 0.2}],
    variants=("plain", "odd"),
)
def timex_pp(tensors: Tensors, beta_exp: float = 2, beta_sim: float = 1, bias: float = 0.1, r: float = 0.5) -> Tensor:
    """JS + beta_exp (mean KL(Bern(m), Bern(r)) + mean |m_t - m_{t-1}|) + beta_sim (bias KL of Gaussians + MSE)."""
    label = js(tensors["logits_x"].softmax(-1), tensors["logits"].softmax(-1)).mean()
    m = tensors["m"]
    sparse = (m * (m / r + 1e-6).log() + (1 - m) * ((1 - m) / (1 - r) + 1e-6).log()).mean()
    connected = (m[:, 1:] - m[:, :-1]).abs().mean()
    own = torch.distributions.Normal(tensors["mu_x"], (tensors["logvar_x"] / 2).exp())
    usual = torch.distributions.Normal(tensors["mu"].mean(0), (tensors["logvar"].mean(0) / 2).exp())
    code = torch.distributions.kl_divergence(own, usual).mean()
    likeness = ((tensors["reference"] - tensors["explained"]) ** 2).mean()
    return label + beta_exp * (sparse + connected) + beta_sim * (bias * code + likeness)


def segmented(seed: int, variant: str) -> Tensors:
    b, pixel, k = (1, 1, 2) if variant == "odd" else (3, 6, 4)
    prior = torch.softmax(uniform(b, k, seed=seed + 1), -1)
    return {"logits": 2 * uniform(b, pixel, k, seed=seed), "prior": prior}


@oracle("sfda", batch=segmented, params=[{}, {"lam": 5}], variants=("plain", "odd"))
def sfda(tensors: Tensors, lam: float = 1) -> Tensor:
    """mean over pixels of the entropy + lambda mean over images of sum_k tau_k log(tau_k / prior_k)."""
    losses = []
    for z, prior in zip(tensors["logits"], tensors["prior"], strict=True):
        p = z.softmax(-1)
        tau = p.mean(0)
        losses.append(-(p * p.log()).sum(-1).mean() + lam * (tau * (tau / prior).log()).sum())
    return torch.stack(losses).mean()


def trajectories(seed: int, variant: str) -> Tensors:
    """Two trajectories, of which the second has one state: it has no neighbour."""
    b, d, p = (3, 1, 2) if variant == "odd" else (6, 3, 2)
    return {
        "z": uniform(b, d, seed=seed),
        "x_hat": uniform(b, p, seed=seed + 1),
        "x": uniform(b, p, seed=seed + 2),
        "run": torch.arange(b) // (b - 1),
        "K": uniform(d, d, seed=seed + 3),
    }


@oracle(
    "info_koopman",
    batch=trajectories,
    params=[{}, {"alpha": 0.5, "beta": 2, "gamma": 3, "tau": 0.5, "window": 2}],
    variants=("plain", "odd"),
    load={"sizes": {"trajectory": 2}},
)
def info_koopman(
    tensors: Tensors, alpha: float = 1, beta: float = 1, gamma: float = 0.1, tau: float = 1, window: int = 1
) -> Tensor:
    """|x - g(z)|^2 - alpha InfoNCE of neighbours + beta |z_{n+1} - K z_n|^2 - gamma S(C / tr C)."""
    z, run = tensors["z"], tensors["run"].tolist()
    b, s = len(z), z @ z.T / tau
    told, steps = [], []
    for n in range(b):
        near = [j for j in range(b) if run[j] == run[n] and 1 <= abs(j - n) <= window]
        if near:
            told.append(torch.stack([s[n, j] - torch.log(torch.exp(s[n]).sum()) for j in near]).mean())
        if n + 1 < b and run[n + 1] == run[n]:
            steps.append(((z[n + 1] - tensors["K"] @ z[n]) ** 2).sum())
    centred = z - z.mean(0)
    c = centred.T @ centred / b
    rho = torch.linalg.eigvalsh(c / torch.trace(c))
    entropy = -(rho * rho.log()).sum()
    reconstruct = ((tensors["x"] - tensors["x_hat"]) ** 2).sum(-1).mean()
    return reconstruct - alpha * torch.stack(told).mean() + beta * torch.stack(steps).mean() - gamma * entropy


def asked(seed: int, variant: str) -> Tensors:
    """What is not known may not reach the policy, but the prediction reads all: it is trained on whole rows."""
    b, i, v = (1, 2, 3) if variant == "odd" else (5, 4, 3)
    labels = integers(b, high=v, seed=seed + 2)
    if variant == "masked":
        labels[1] = -1
    return {
        "x": uniform(b, i, seed=seed),
        "known": uniform(b, i, seed=seed + 1) > 0.3,
        "labels": labels,
        "policy": Scores(seed + 3, 2 * i, i),
        "f": Scores(seed + 4, 2 * i, v),
        "u": 0.5 + 0.45 * uniform(b, i, seed=seed + 5),
    }


@oracle("dfs", batch=asked, params=[{}, {"tau": 0.3}], steps=6)
def dfs(tensors: Tensors, tau: float = 1) -> Tensor:
    """CE(f(x m, m), y),  m = 1 where known, else softmax((pi(x_S) - log(-log u)) / tau)."""
    x, known = tensors["x"], tensors["known"].to(torch.float64)
    noisy = (tensors["policy"](x * known, known) - torch.log(-torch.log(tensors["u"]))) / tau
    m = torch.maximum(known, noisy.exp() / noisy.exp().sum(-1, keepdim=True))
    rows = tensors["labels"] >= 0
    return torch.nn.functional.cross_entropy(tensors["f"](x * m, m)[rows], tensors["labels"][rows])
