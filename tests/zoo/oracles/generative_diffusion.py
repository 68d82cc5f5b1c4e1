"""Closed forms of the family `generative_diffusion`, each from the formula of its paper."""

from __future__ import annotations

import math

import torch
from tests.oracles.batches import integers, uniform
from tests.zoo.harness import Tensors, oracle
from tests.zoo.oracles.networks import Scores, frozen
from torch import Tensor, nn


class Field(nn.Module):
    """A function of a vector and a number: out tanh(in [x, t])."""

    def __init__(self, seed: int, d: int, *, timed: bool = True, scalar: bool = False) -> None:
        super().__init__()
        self.inner = nn.Parameter(uniform(d + timed, 4, seed=seed))
        self.outer = nn.Parameter(uniform(4, 1 if scalar else d, seed=seed + 1))
        self.scalar = scalar

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        full = x if t is None else torch.cat([x, t.to(x.dtype)[:, None]], dim=1)
        y = torch.tanh(full @ self.inner) @ self.outer
        return y[:, 0] if self.scalar else y


def shape(variant: str) -> tuple[int, int]:
    return (1, 1) if variant == "odd" else (5, 3)


def judged(seed: int, variant: str) -> Tensors:
    b, d = shape(variant)
    return {"x": uniform(b, d, seed=seed), "fake": uniform(b, d, seed=seed + 1), "u": (uniform(b, seed=seed + 2) + 1) / 2,
            "critic": Field(seed + 3, d, timed=False, scalar=True)}  # fmt: skip


@oracle("wgan_gp", batch=judged, params=[{"lam": 1}], variants=("plain", "odd"))
def wgan_gp(tensors: Tensors, lam: float = 10) -> Tensor:
    """E f(fake) - E f(x) + lambda E (|grad f(between)| - 1)^2."""
    x, fake, u, critic = tensors.values()
    between = (u[:, None] * x + (1 - u[:, None]) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return critic(fake).mean() - critic(x).mean() + lam * ((slope.norm(dim=1) - 1) ** 2).mean()


def noised(seed: int, variant: str) -> Tensors:
    b, d = shape(variant)
    return {"x": uniform(b, d, seed=seed), "noise": uniform(b, d, seed=seed + 1), "z": uniform(b, seed=seed + 2),
            "F": Field(seed + 3, d)}  # fmt: skip


@oracle("edm", batch=noised, params=[{"s": 1, "P_mean": 0}], variants=("plain", "odd"))
def edm(tensors: Tensors, s: float = 0.5, P_mean: float = -1.2, P_std: float = 1.2) -> Tensor:  # noqa: N803
    """lambda(sigma) |c_skip y + c_out F(c_in y, c_noise) - x|^2, row by row."""
    losses = []
    for x, noise, z in zip(tensors["x"], tensors["noise"], tensors["z"], strict=True):
        sigma = math.exp(P_mean + P_std * float(z))
        skip, out = s**2 / (sigma**2 + s**2), sigma * s / math.sqrt(sigma**2 + s**2)
        y, level = x + sigma * noise, torch.tensor([math.log(sigma) / 4], dtype=torch.float64)
        denoised = skip * y + out * tensors["F"](y[None] / math.sqrt(sigma**2 + s**2), level)[0]
        losses.append((sigma**2 + s**2) / (sigma * s) ** 2 * ((denoised - x) ** 2).sum())
    return torch.stack(losses).mean()


def diffused(seed: int, variant: str) -> Tensors:
    b, d = shape(variant)
    abar = torch.cumprod(torch.linspace(0.99, 0.7, 9, dtype=torch.float64), 0)
    return {"x0": uniform(b, d, seed=seed), "eps": uniform(b, d, seed=seed + 1), "t": integers(b, high=9, seed=seed + 2),
            "abar": abar, "net": Field(seed + 3, d)}  # fmt: skip


@oracle("min_snr", batch=diffused, params=[{"gamma": 1}], variants=("plain", "odd"))
def min_snr(tensors: Tensors, gamma: float = 5) -> Tensor:
    """min(SNR, gamma) / (SNR + 1) |v(x_t, t) - v|^2, row by row."""
    losses = []
    for x, eps, t in zip(tensors["x0"], tensors["eps"], tensors["t"], strict=True):
        a = float(tensors["abar"][t])
        noisy, v = math.sqrt(a) * x + math.sqrt(1 - a) * eps, math.sqrt(a) * eps - math.sqrt(1 - a) * x
        weight = min(a / (1 - a), gamma) * (1 - a)
        losses.append(weight * ((tensors["net"](noisy[None], t[None])[0] - v) ** 2).mean())
    return torch.stack(losses).mean()


def levels(seed: int, variant: str) -> Tensors:
    b, d = shape(variant)
    low = 0.2 + (uniform(b, seed=seed + 2) + 1) / 2
    return {"x": uniform(b, d, seed=seed), "noise": uniform(b, d, seed=seed + 1),
            "high": low + 0.5 + uniform(b, seed=seed + 3) / 4, "low": low, "f": Field(seed + 4, d)}  # fmt: skip


@oracle("consistency", batch=levels, variants=("plain", "odd"))
def consistency(tensors: Tensors) -> Tensor:
    """(sqrt(|f(x + high n) - f-(x + low n)|^2 + c^2) - c) / (high - low),  c = 0.00054 sqrt(d)."""
    x, noise, high, low, f = tensors.values()
    c = 0.00054 * math.sqrt(x.shape[1])
    gap = f(x + high[:, None] * noise, high) - f(x + low[:, None] * noise, low).detach()
    return (((gap**2).sum(1) + c**2).sqrt().sub(c) / (high - low)).mean()


def coded(seed: int, variant: str) -> Tensors:
    b, d = shape(variant)
    return {"z": uniform(b, d, seed=seed), "book": uniform(6, d, seed=seed + 1), "decoder": uniform(d, 4, seed=seed + 2),
            "x": uniform(b, 4, seed=seed + 3)}  # fmt: skip


@oracle("vq_vae", batch=coded, params=[{"beta": 2}], variants=("plain", "odd"))
def vq_vae(tensors: Tensors, beta: float = 0.25) -> Tensor:
    """|decoder(z + sg(q - z)) - x|^2 + |sg(z) - q|^2 + beta |z - sg(q)|^2, q the nearest entry."""
    losses = []
    for z, x in zip(tensors["z"], tensors["x"], strict=True):
        q = min(tensors["book"], key=lambda entry, z=z: float(((z - entry) ** 2).sum().detach()))
        recon = (z + (q - z).detach()) @ tensors["decoder"]
        losses.append(((recon - x) ** 2).sum() + ((z.detach() - q) ** 2).sum() + beta * ((z - q.detach()) ** 2).sum())
    return torch.stack(losses).mean()


def unnormalised(seed: int, variant: str) -> Tensors:
    b, n = (1, 1) if variant == "odd" else (4, 6)
    before = torch.tensor(0.3, dtype=torch.float64)
    draws = {"logp_z": 2 * uniform(n, seed=seed + 1), "logq_z": 2 * uniform(n, seed=seed + 2)}
    return {"logp_x": uniform(b, seed=seed), **draws, "before": before}


@oracle("meco", batch=unnormalised, params=[{}, {"g": 0.2}], variants=("plain", "odd"))
def meco(tensors: Tensors, g: float = 0.9) -> Tensor:
    """-mean log p(x) + log u,  u = (1 - g) u_before + g mean p / q, whose slope is that of mean p / q over u."""
    ratio = (tensors["logp_z"] - tensors["logq_z"]).exp().mean()
    u = ((1 - g) * tensors["before"].exp() + g * ratio).detach()
    return -tensors["logp_x"].mean() + u.log() + (ratio - ratio.detach()) / u


def latents(seed: int, variant: str) -> Tensors:
    b, d = shape(variant)
    return {"noise": uniform(b, d, seed=seed), "G": Scores(seed + 1, d, 3), "R": Scores(seed + 2, 3, 2),
            "w": torch.tensor([1.0, 0.3], dtype=torch.float64)}  # fmt: skip


@oracle("reno", batch=latents, params=[{}, {"lam": 2}], variants=("plain", "odd"))
def reno(tensors: Tensors, lam: float = 0.01) -> Tensor:
    """-sum of the weighted rewards of the images - lambda ((d - 1) log |eps| - |eps|^2 / 2) of each."""
    noise = tensors["noise"]
    rewards = frozen(tensors["R"])(frozen(tensors["G"])(noise))
    squared = (noise**2).sum(-1)
    return -(rewards @ tensors["w"]).sum() - lam * ((noise.shape[1] - 1) * squared.log() / 2 - squared / 2).sum()


def generated(seed: int, variant: str) -> Tensors:
    b, d = shape(variant)
    rows = {name: uniform(b, d, seed=seed + at) for at, name in enumerate(("x", "teacher", "fake"))}
    return {**rows, "logit": 3 * uniform(b, seed=seed + 3)}


@oracle(
    "f_distill", batch=generated, params=[{}, {"divergence": "kl", "gan": 1}, {"divergence": "reverse_kl", "hi": 2}],
    variants=("plain", "odd"), steps=6,
)  # fmt: skip
def f_distill(tensors: Tensors, divergence: str = "js", gan: float = 0.001, lo: float = 0.1, hi: float = 10) -> Tensor:
    """|w (fake - teacher)|^2 / 2 in value, w (fake - teacher) in slope, w = h(r) / mean h / mean |x - teacher|."""
    x, teacher, fake, logit = tensors.values()
    r = logit.detach().exp().clamp(lo, hi)
    h = {"js": r / (2 * (r + 1)), "kl": r, "reverse_kl": torch.ones_like(r)}[divergence]
    w = h / (h.mean() + 1e-6) / ((x - teacher).detach().abs().mean(-1) + 1e-6)
    step = w[:, None] * (fake - teacher)
    return ((x - (x.detach() - step)) ** 2).mean() / 2 + gan * torch.log(1 + torch.exp(-logit)).mean()


def clips(seed: int, variant: str) -> Tensors:
    b, frame, d = (1, 1, 2) if variant == "odd" else (3, 4, 3)
    shown = torch.ones(b, frame, dtype=torch.bool)
    if variant == "masked":
        shown = torch.arange(frame) == torch.arange(b)[:, None]
    return {"x": uniform(b, frame, d, seed=seed), "target": uniform(b, frame, d, seed=seed + 1),
            "caption": uniform(b, 2, seed=seed + 2), "shown": shown, "D": Scores(seed + 3, d, 5), "R_img": Scores(seed + 4, 7),
            "R_vid": Scores(seed + 5, 5 * frame + 2)}  # fmt: skip


@oracle("t2v_turbo", batch=clips, params=[{}, {"beta_img": 0.3, "beta_vid": 0.7, "c": 0.5}])
def t2v_turbo(tensors: Tensors, c: float = 0.001, beta_img: float = 1, beta_vid: float = 2) -> Tensor:
    """mean pseudo-Huber distance - beta_img mean of the rewards of shown frames - beta_vid mean of those of clips."""
    decoder, by_image, by_video = (frozen(tensors[name]) for name in ("D", "R_img", "R_vid"))
    images, clip_rewards = [], []
    for x, caption, shown in zip(tensors["x"], tensors["caption"], tensors["shown"], strict=True):
        frames = decoder(x)
        images += [by_image(frames[[at]], caption[None])[0] for at in range(len(frames)) if shown[at]]
        clip_rewards.append(by_video(frames[None], caption[None])[0])
    distance = (((tensors["x"] - tensors["target"]) ** 2 + c**2).sqrt() - c).mean()
    return distance - beta_img * torch.stack(images).mean() - beta_vid * torch.stack(clip_rewards).mean()
