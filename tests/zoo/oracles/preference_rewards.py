"""Closed forms of further works of the family `preference` without a vocabulary: rewards, log-probabilities of actions."""

from __future__ import annotations

from functools import partial

import torch
from tests.oracles.batches import integers, lengths_mask, uniform
from tests.oracles.rows import mean
from tests.zoo.harness import Tensors, oracle
from torch import Tensor

without_vocabulary = partial(oracle, fuses=False)
log_sigmoid = torch.nn.functional.logsigmoid


def segments(seed: int, variant: str) -> Tensors:
    """Log-densities of actions along pairs of segments."""
    pair, t = (1, 3) if variant == "odd" else (4, 5)
    mask = lengths_mask(pair, 2, t, seed=seed + 1)
    logp = 2 * uniform(pair, 2, t, seed=seed)
    return {"logp": torch.where(mask, logp, torch.nan) if variant == "masked" else logp, "mask": mask}


@without_vocabulary(
    "cpl",
    batch=segments,
    params=[{}, {"alpha": 0.7, "gamma": 0.9, "lambda": 1, "cloned": 0.2}, {"gamma": 0, "lambda": 0}],
)
def cpl(tensors: Tensors, alpha: float = 0.1, gamma: float = 1, cloned: float = 0, **bias: float) -> Tensor:
    """-log(exp S_w / (exp S_w + exp(lambda S_l))), S = sum_t gamma^t alpha log pi(a_t | s_t)."""
    sums = []
    for logp, mask in zip(tensors["logp"].flatten(0, 1), tensors["mask"].flatten(0, 1), strict=True):
        discount = torch.tensor([gamma**i for i in range(len(logp))], dtype=torch.float64)
        sums.append((discount[mask] * alpha * logp[mask]).sum())
    w, r = torch.stack(sums).unflatten(0, tensors["logp"].shape[:2]).unbind(-1)
    loss = -(w - torch.logaddexp(w, bias.get("lambda", 0.5) * r)).mean()
    return loss - cloned * tensors["logp"][tensors["mask"]].mean()


def trajectories(seed: int, variant: str) -> Tensors:
    """Steps of two images; some ratios outside of the bounds, some pairs of which neither image is better."""
    b, step, k = (1, 3, 1) if variant == "odd" else (6, 4, 2)
    ref_logp = 3 * uniform(b, 2, step, seed=seed)
    return {
        "logp": ref_logp + 0.2 * uniform(b, 2, step, seed=seed + 1),
        "ref_logp": ref_logp,
        "reward": integers(b, 2, k, high=3, seed=seed + 2).double(),
    }


@without_vocabulary(
    "d3po", batch=trajectories, params=[{}, {"beta": 3, "eps": 0.15}], variants=("plain", "odd"), steps=60
)
def d3po(tensors: Tensors, beta: float = 0.1, eps: float = 0.1) -> Tensor:
    """-log sigma(sum_i h_i beta log clip(pi / ref, 1 - eps, 1 + eps)), h = (1, -1), (-1, 1) or (0, 0), each step by itself."""
    losses = []
    for logp, ref, reward in zip(*(tensors[name] for name in ("logp", "ref_logp", "reward")), strict=True):
        below, above = bool((reward[0] <= reward[1]).all()), bool((reward[0] >= reward[1]).all())
        h = 0 if below == above else 1 if above else -1
        ratio = (logp - ref).exp().clamp(1 - eps, 1 + eps).log()
        losses.append(-log_sigmoid(beta * h * ratio[0] - beta * h * ratio[1]))
    return mean(torch.cat(losses))


def videos(seed: int, variant: str) -> Tensors:
    pair = 1 if variant == "odd" else 5
    quality = integers(pair, 2, high=3, seed=seed + 1).double() - 1
    return {"r": 2 * uniform(pair, 2, seed=seed), "quality": quality.sort(-1, descending=True).values}


@without_vocabulary(
    "soli_reward", batch=videos, variants=("plain", "odd"),
    params=[{}, {"margin": 0.5, "eps": 0.2, "tie": 0.4, "pass": 0.3}],
)  # fmt: skip
def soli_reward(tensors: Tensors, margin: float = 0, eps: float = 0, tie: float = 1, **weight: float) -> Tensor:
    """-log sigma(d - m), smoothed by eps, or of a tie -log sigma(d - m) - log sigma(-d - m); + c BCE(r, passes)."""
    losses, passing = [], []
    for r, quality in zip(tensors["r"], tensors["quality"].tolist(), strict=True):
        d = r[0] - r[1]
        forward, back = -log_sigmoid(d - margin), -log_sigmoid(-d - margin)
        losses.append(tie * (forward + back) if quality[0] == quality[1] else (1 - eps) * forward + eps * back)
        for x, q in zip(r, quality, strict=True):
            y = (1 - eps) * (q > 0) + eps / 2
            passing.append(-y * log_sigmoid(x) - (1 - y) * log_sigmoid(-x))
    return torch.stack(losses).mean() + weight.get("pass", 0) * torch.stack(passing).mean()


def sequences(seed: int, variant: str) -> Tensors:
    q, sample, t = (1, 3, 4) if variant == "odd" else (3, 4, 5)
    mask = lengths_mask(q, sample, t, seed=seed + 1)
    r = 2 * uniform(q, sample, t, seed=seed)
    return {
        "r": torch.where(mask, r, torch.nan) if variant == "masked" else r,
        "mask": mask,
        "quality": integers(q, sample, high=3, seed=seed + 2).double(),
    }


@without_vocabulary(
    "token_reward", batch=sequences,
    params=[{}, {"aggregate": "soft_max"}, {"aggregate": "soft_min", "temperature": 0.5}],
)  # fmt: skip
def token_reward(tensors: Tensors, aggregate: str = "average", temperature: float = 2) -> Tensor:
    """-log prod_k exp s_(k) / sum_{j >= k} exp s_(j), from the best to the worst, s an aggregate times the mean length."""
    losses = []
    for r, mask, quality in zip(*(tensors[name] for name in ("r", "mask", "quality")), strict=True):
        found = []
        for x in (row[keep] for row, keep in zip(r, mask, strict=True)):
            sign = -1 if aggregate == "soft_min" else 1
            soft = sign * temperature * (sign * x / temperature).logsumexp(0)
            found.append(x.mean() if aggregate == "average" else soft)
        s = torch.stack(found) * mask.sum(-1).double().mean()
        order = sorted(range(len(s)), key=lambda i: -float(quality[i]))
        losses.append(sum((s[order[k:]].logsumexp(0) - s[order[k]] for k in range(len(order))), start=s.new_zeros(())))
    return torch.stack(losses).mean()


SUMMARY = 3


def summarised(seed: int, variant: str) -> Tensors:
    """Actions along pairs of trajectories, the summary of each, and what the context is."""
    pair, t, a = (1, 3, 1) if variant == "odd" else (4, 5, 2)
    mask = lengths_mask(pair, 2, t, seed=seed + 1)
    action = uniform(pair, 2, t, a, seed=seed)
    return {
        "action": torch.where(mask.unsqueeze(-1), action, torch.nan) if variant == "masked" else action,
        "taken": uniform(pair, 2, t, a, seed=seed + 2),
        "mask": mask,
        "phi": uniform(pair, 2, SUMMARY, seed=seed + 3),
        "z": uniform(SUMMARY, seed=seed + 4),
    }


@without_vocabulary(
    "oppo", batch=summarised, params=[{}, {"unit": 0.5, "prefers": 2, "margin": 0.1}], load={"sizes": {"d": SUMMARY}}
)
def oppo(tensors: Tensors, unit: float = 0.1, prefers: float = 0.1, margin: float = 1) -> Tensor:
    """MSE of the actions + unit (|phi| - 1)^2 of each side; + triplet losses of phi around z and of z between phi."""

    def triplet(z: Tensor, phi: Tensor) -> Tensor:
        near, far = (z - phi).square().sum(-1).sqrt().unbind(-1)
        return (near - far + margin).clamp(min=0).mean()

    phi, z, loss = tensors["phi"], tensors["z"], torch.zeros(())
    for side in (0, 1):
        keep = tensors["mask"][:, side]
        loss = loss + (tensors["action"][:, side][keep] - tensors["taken"][:, side][keep]).square().mean()
        loss = loss + unit * (phi[:, side].square().sum(-1).sqrt() - 1).square().mean()
    return loss + prefers * triplet(z.detach(), phi) + triplet(z, phi.detach())


def denoised(seed: int, variant: str) -> Tensors:
    """Noise of winning and of drawn images as the model and as the reference predict it; the model is ahead of some."""
    b, d = (1, 3) if variant == "odd" else (4, 6)
    noise, off = uniform(b, 2, d, seed=seed), uniform(b, 2, d, seed=seed + 1)
    scale = 0.2 * torch.tensor([1.1, 0.9, 0.95, 1.0], dtype=torch.float64)[:b, None, None]
    return {"predicted": noise + scale * off, "ref_predicted": noise + 0.2 * off, "noise": noise}


@without_vocabulary(
    "seppo", batch=denoised, variants=("plain", "odd"), rate=1e-3,
    params=[{}, {"beta": 90}, {"judge": "indicator"}, {"judge": "always"}],
)  # fmt: skip
def seppo(tensors: Tensors, beta: float = 2000, judge: str = "sign") -> Tensor:
    """-log sigma(-beta (e_w - ref e_w - c (e_x - ref e_x))), e a mean squared error, c as the winning image is denoised."""
    losses = []
    for predicted, ref, noise in zip(*(tensors[n] for n in ("predicted", "ref_predicted", "noise")), strict=True):
        w, x = (((predicted - noise) ** 2).mean(-1) - ((ref - noise) ** 2).mean(-1)).unbind()
        judged = {"sign": -float(w.detach().sign()), "indicator": float(w < 0), "always": 1.0}
        losses.append(-log_sigmoid(-beta * (w - judged[judge] * x)))
    return mean(torch.stack(losses))
