"""Closed forms of the family `rl_other`, each from the formula of its paper."""

from __future__ import annotations

import math

import torch
from tests.oracles.batches import integers, lengths_mask, logps, scores, uniform
from tests.zoo.harness import Tensors, of_setting, oracle
from tests.zoo.oracles.networks import Scores, frozen
from torch import Tensor


def transitions(seed: int, variant: str) -> Tensors:
    """Where an episode ends there is no next state: its scores are NaN in the variant `masked`."""
    b, i = (1, 11) if variant == "odd" else (4, 21)
    done = torch.arange(b) % 3 == 1
    following = scores(b, i, seed=seed + 1)
    if variant == "masked":
        following[done] = torch.nan
    return {"logits": scores(b, i, seed=seed), "next_logits": following, "r": uniform(b, seed=seed + 2), "done": done}


def normal_cdf(x: Tensor) -> Tensor:
    return (1 + torch.special.erf(x / math.sqrt(2))) / 2


def histogram(y: Tensor, edges: Tensor, s: Tensor) -> Tensor:
    """The mass of a normal distribution around `y` in each bin, renormalised on the range."""
    below = normal_cdf((edges - y.unsqueeze(-1)) / s)
    return (below[:, 1:] - below[:, :-1]) / (below[:, -1:] - below[:, :1])


@oracle("hl_gauss", batch=transitions, params=[{}, {"v_min": -2, "v_max": 3, "gamma": 0.5, "ratio": 2}])
def hl_gauss(
    tensors: Tensors, v_min: float = -10, v_max: float = 10, gamma: float = 0.99, ratio: float = 0.75
) -> Tensor:
    """-sum_i q_i log softmax(l)_i,  q_i = Phi((z_i + d/2 - y)/s) - Phi((z_i - d/2 - y)/s) renormalised."""
    bins = tensors["logits"].shape[-1]
    edges = torch.linspace(v_min, v_max, bins + 1, dtype=torch.float64)
    centres = (edges[1:] + edges[:-1]) / 2
    y = tensors["r"].clone()
    for n in range(len(y)):
        if not bool(tensors["done"][n]):
            y[n] = y[n] + gamma * (tensors["next_logits"][n].softmax(-1) * centres).sum()
    q = histogram(y, edges, ratio * (edges[1] - edges[0]))
    return -(q * tensors["logits"].log_softmax(-1)).sum(-1).mean()


def atoms(seed: int, variant: str) -> Tensors:
    b, n, i = (1, 1, 3) if variant == "odd" else (3, 2, 4)
    done = torch.arange(b) % 3 == 1
    z, following = (uniform(b, n, i, seed=seed + at) for at in range(2))
    return {"z": z, "next": following, "r": uniform(b, seed=seed + 2), "done": done}


@oracle("tqc", batch=atoms, params=[{}, {"drop": 2, "gamma": 0.5}], variants=("plain", "odd"))
def tqc(tensors: Tensors, drop: int = 1, gamma: float = 0.99) -> Tensor:
    """The quantile Huber loss of every atom of every critic to the kept atoms of the target, smallest first."""
    z, following, r, done = tensors.values()
    b, n, i = z.shape
    losses = []
    for row in range(b):
        kept = following[row].flatten().sort().values[: n * (i - drop)]
        for at in range(n * i):
            u = r[row] + gamma * (0 if done[row] else 1) * kept - z[row].flatten()[at]
            size = torch.where(u.abs() <= 1, u**2 / 2, u.abs() - 0.5)
            losses.append(((((at % i) + 0.5) / i - (u < 0).to(u.dtype)).abs() * size).mean())
    return torch.stack(losses).mean()


def steps(seed: int, variant: str) -> Tensors:
    """Where an episode ends there is no next state: its scores are NaN in the variant `masked`."""
    b, a, n = (1, 2, 3) if variant == "odd" else (4, 3, 5)
    done = torch.arange(b) % 3 == 1
    return {"logits": scores(b, a, n, seed=seed), "next": scores(b, a, n, seed=seed + 1),
            "taken": integers(b, high=a, seed=seed + 2), "r": 2 * uniform(b, seed=seed + 3), "done": done}  # fmt: skip


@oracle("c51", batch=steps, params=[{"low": -1, "high": 3, "gamma": 0.5}], variants=("plain", "odd"), steps=6)
def c51(tensors: Tensors, low: float = -10, high: float = 10, gamma: float = 0.99) -> Tensor:
    """The projection of the paper's algorithm: each atom's mass goes to the two atoms beside where it moves."""
    losses = []
    for z, following, taken, r, done in zip(*tensors.values(), strict=True):
        n = z.shape[-1]
        width, m, p = (high - low) / (n - 1), [0.0] * n, following.softmax(-1)
        best = int((p * torch.linspace(low, high, n, dtype=z.dtype)).sum(-1).argmax())
        for j in range(n):
            to = min(max(float(r) + (0 if done else gamma * (low + width * j)), low), high)
            below, above = math.floor((to - low) / width), math.ceil((to - low) / width)
            share = (to - low) / width - below
            m[below] += float(p[best, j]) * (1 - share)
            m[above] += float(p[best, j]) * share
        losses.append(-(torch.tensor(m, dtype=z.dtype) * z[taken].log_softmax(-1)).sum())
    return torch.stack(losses).mean()


def soft(seed: int, variant: str) -> Tensors:
    """Masked, nothing is known of what follows the end of an episode."""
    b = 1 if variant == "odd" else 5
    done = torch.arange(b) % 3 == 1
    next_q, next_logp = uniform(b, 2, seed=seed + 3), uniform(b, seed=seed + 4)
    if variant == "masked":
        next_q[done], next_logp[done] = torch.nan, torch.nan
    return {"q": uniform(b, 2, seed=seed), "q_pi": uniform(b, 2, seed=seed + 1), "logp": uniform(b, seed=seed + 2),
            "next_q": next_q, "next_logp": next_logp, "r": uniform(b, seed=seed + 5), "done": done,
            "log_alpha": torch.tensor(0.3, dtype=torch.float64)}  # fmt: skip


@oracle("sac", batch=soft, params=[{"gamma": 0.5, "target": -1}])
def sac(tensors: Tensors, gamma: float = 0.99, target: float = -3) -> Tensor:
    """sum_i E (Q_i - y)^2 / 2 + E(alpha log pi - min Q) - E alpha (log pi + target)."""
    alpha = tensors["log_alpha"].exp()
    held = float(alpha.detach())
    backed = [
        float(r) if done else float(r) + gamma * (float(q.min()) - held * float(logp))
        for r, done, q, logp in zip(tensors["r"], tensors["done"], tensors["next_q"], tensors["next_logp"], strict=True)
    ]
    y = torch.tensor(backed, dtype=torch.float64)
    critic = sum(((q - y) ** 2).mean() for q in tensors["q"].T) / 2
    actor = (held * tensors["logp"] - tensors["q_pi"].min(dim=1).values).mean()
    return critic + actor - alpha * (tensors["logp"].detach() + target).mean()


def advantages(seed: int, variant: str) -> Tensors:
    b = 2 if variant == "odd" else 7
    eta = torch.tensor(0.8, dtype=torch.float64)
    return {"logp": uniform(b, seed=seed), "advantage": uniform(b, seed=seed + 1), "eta": eta}


@oracle("v_mpo", batch=advantages, params=[{"eps": 0.5}], variants=("plain", "odd"))
def v_mpo(tensors: Tensors, eps: float = 0.02) -> Tensor:
    """-sum psi log pi + eta eps + eta log mean exp(A / eta) over the better half."""
    logp, advantage, eta = tensors.values()
    best = advantage.topk(len(logp) // 2).indices
    weights = (advantage[best] / eta.detach()).exp()
    policy = -(weights / weights.sum() * logp[best]).sum()
    return policy + eta * eps + eta * (advantage[best] / eta).exp().mean().log()


def flows(seed: int, variant: str) -> Tensors:
    """Trajectories of unequal lengths, NaN behind their ends in the variant `masked`; two have equal scores."""
    b, t, k = (2, 2, 1) if variant == "odd" else (4, 5, 3)
    mask = lengths_mask(b, t, seed=seed + 2)
    log_pf, log_pb = logps(b, t, seed=seed), logps(b, t, seed=seed + 1)
    if variant == "masked":
        log_pf[~mask], log_pb[~mask] = torch.nan, torch.nan
    return {
        "log_pf": log_pf,
        "log_pb": log_pb,
        "mask": mask,
        "log_z": uniform(b, seed=seed + 3),
        "reward": 0.1 + (uniform(b, k, seed=seed + 4) + 1) / 2,
        "w": torch.softmax(uniform(b, k, seed=seed + 5), -1),
        "score": torch.floor(3 * uniform(b, seed=seed + 6)),
    }


def balanced(seed: int, variant: str) -> Tensors:
    return {name: x for name, x in flows(seed, variant).items() if name != "score"}


def ordered(seed: int, variant: str) -> Tensors:
    return {name: x for name, x in flows(seed, variant).items() if name in ("log_pf", "log_pb", "mask", "score")}


def log_reward(tensors: Tensors, row: int) -> Tensor:
    """sum_t log P_F - log P_B of one trajectory."""
    steps = tensors["mask"][row]
    return tensors["log_pf"][row][steps].sum() - tensors["log_pb"][row][steps].sum()


@oracle("mogfn", batch=balanced, params=[{"beta": 2}, {}])
def mogfn(tensors: Tensors, beta: float = 32) -> Tensor:
    """(log Z + sum log P_F - log (sum_k w_k R_k)^beta - sum log P_B)^2."""
    losses = []
    for row, (w, reward) in enumerate(zip(tensors["w"], tensors["reward"], strict=True)):
        losses.append((tensors["log_z"][row] + log_reward(tensors, row) - beta * (w @ reward).log()) ** 2)
    return torch.stack(losses).mean()


@oracle("op_gfn", batch=ordered)
def op_gfn(tensors: Tensors) -> Tensor:
    """Cross-entropy of (R, R') / (R + R') to (1, 0), (1/2, 1/2) or (0, 1), over all ordered pairs."""
    score, losses = tensors["score"].tolist(), []
    for i in range(len(score)):
        for j in range(len(score)):
            if i != j:
                own, other = log_reward(tensors, i).exp(), log_reward(tensors, j).exp()
                y = 0.5 if score[i] == score[j] else float(score[i] > score[j])
                losses.append(-y * (own / (own + other)).log() - (1 - y) * (other / (own + other)).log())
    return torch.stack(losses).mean()


def modelled(seed: int, variant: str) -> Tensors:
    b, i = (2, 1) if variant == "odd" else (6, 3)
    held = torch.tensor(0.4, dtype=torch.float64)
    return {"pred": uniform(b, i, seed=seed), "next": uniform(b, i, seed=seed + 1), "V": Scores(seed + 2, i),
            "mean_length": held}  # fmt: skip


@oracle("vagram", batch=modelled, params=[{}, {"level": 0.5, "keep": 0.9}], variants=("plain", "odd"))
def vagram(tensors: Tensors, level: float = 0.95, keep: float = 0.999) -> Tensor:
    """mean sum_i g_i^2 (pred_i - next_i)^2, g = grad V(next) cut to the quantile of lengths, over their running mean."""
    after = tensors["next"].detach().clone().requires_grad_()
    (g,) = torch.autograd.grad(frozen(tensors["V"])(after).sum(), after)
    lengths = g.norm(dim=1)
    bound = torch.quantile(lengths, level)
    scale = keep * tensors["mean_length"] + (1 - keep) * lengths.mean()
    rows = [slope if n <= bound else slope * bound / n for slope, n in zip(g, lengths, strict=True)]
    return ((torch.stack(rows) / scale) ** 2 * (tensors["pred"] - tensors["next"]) ** 2).sum(-1).mean()


def encoded(seed: int, variant: str) -> Tensors:
    """Masked, nothing is known of what follows the end of an episode."""
    b, z, n = (1, 1, 2) if variant == "odd" else (4, 3, 5)
    done = torch.arange(b) % 3 == 1
    v_next = uniform(b, seed=seed + 7)
    if variant == "masked":
        v_next[done] = torch.nan
    return {"mu": uniform(b, z, seed=seed), "logvar": uniform(b, z, seed=seed + 1), "r_hat": uniform(b, n, seed=seed + 2),
            "r_true": uniform(b, n, seed=seed + 3), "q": uniform(b, 2, seed=seed + 4),
            "q_target": uniform(b, 2, seed=seed + 5), "v": uniform(b, seed=seed + 6), "v_next": v_next,
            "logp": uniform(b, seed=seed + 8), "r": uniform(b, seed=seed + 9), "done": done}  # fmt: skip


@oracle("fre", batch=encoded, params=[{}, {"beta": 1, "discount": 0.5, "tau": 0.6, "temperature": 8}], steps=6)
def fre(
    tensors: Tensors, beta: float = 0.01, discount: float = 0.99, tau: float = 0.8, temperature: float = 3
) -> Tensor:
    """(r - r_hat)^2 + beta KL + expectile of min Q - V + sum_i (y - Q_i)^2 - min(exp(temperature A), 100) log pi."""
    normal = torch.distributions.Normal
    code = normal(tensors["mu"], (tensors["logvar"] / 2).exp())
    kl = torch.distributions.kl_divergence(code, normal(torch.zeros_like(tensors["mu"]), 1.0)).mean()
    losses = []
    for row in range(len(tensors["v"])):
        above = tensors["q_target"][row].min() - tensors["v"][row]
        weight = (temperature * above.detach()).exp().clamp(max=100)
        y = tensors["r"][row] + (0 if tensors["done"][row] else discount * tensors["v_next"][row])
        value = (tau if above > 0 else 1 - tau) * above**2
        losses.append(value + ((y - tensors["q"][row]) ** 2).sum() - weight * tensors["logp"][row])
    return ((tensors["r_true"] - tensors["r_hat"]) ** 2).mean() + beta * kl + torch.stack(losses).mean()


def mapped(seed: int, variant: str) -> Tensors:
    """Masked, nothing is known of what follows the end of an episode."""
    b, a = (1, 2) if variant == "odd" else (6, 3)
    done = torch.arange(b) % 3 == 1
    q_next = 2 * uniform(b, 2, a, seed=seed + 1)
    if variant == "masked":
        q_next[done] = torch.nan
    return {"q": 2 * uniform(b, 2, a, seed=seed), "q_next": q_next, "taken": integers(b, high=a, seed=seed + 2),
            "r": 1.5 * uniform(b, seed=seed + 3), "done": done}  # fmt: skip


def unmapped(q: float, c: float) -> float:
    return q / c + 1 if q > 0 else math.exp(q / c)


@oracle("map_dqn", batch=mapped, params=[{}, {"discount": 0.5, "beta": 0.5, "c": 1, "least": 0.1}], steps=6)
def map_dqn(
    tensors: Tensors, discount: float = 0.96, beta: float = 0.1, c: float = 0.5, least: float = 0.01687
) -> Tensor:
    """Huber's loss of each channel to f(Q_j + beta (r_j + discount Q_j(s', a') - Q_j)), row by row."""
    losses = []
    for q, q_next, taken, r, done in zip(*tensors.values(), strict=True):
        after = [[unmapped(float(value), c) for value in head] for head in q_next]
        best = max(range(q.shape[1]), key=lambda a, after=after: after[0][a] - after[1][a])
        loss = torch.zeros((), dtype=q.dtype)
        for head, sign in enumerate((1, -1)):
            y = min(max(sign * float(r), 0), 1)
            y += 0 if done else discount * min(max(after[head][best], 0), 1 / (1 - discount))
            own = min(unmapped(float(q[head, taken].detach()), c), 1 / (1 - discount))
            u = max(own + beta * (y - own), least)
            error = (c * (u - 1) if u > 1 else c * math.log(u)) - q[head, taken]
            loss = loss + torch.nn.functional.huber_loss(error, torch.zeros_like(error))
        losses.append(loss)
    return torch.stack(losses).mean()


@oracle("iq_learn_lm", batch=of_setting("tokens"), params=[{}, {"lam": 2, "gamma": 0.5}])
def iq_learn_lm(tensors: Tensors, lam: float = 0.1, gamma: float = 0.99) -> Tensor:
    """mean -log pi + lambda mean (V + log pi - gamma V')^2 of the tokens that have a label, V' 0 behind the last."""
    nll, squares = [], []
    for z, labels, mask in zip(tensors["logits"], tensors["labels"].tolist(), tensors["mask"], strict=True):
        steps = [t for t in range(len(labels)) if mask[t]]
        for at, t in enumerate(steps):
            if labels[t] >= 0:
                v, logp = torch.logsumexp(z[t], 0), z[t].log_softmax(-1)[labels[t]]
                after = torch.logsumexp(z[steps[at + 1]], 0) if at + 1 < len(steps) else 0
                nll.append(-logp)
                squares.append((v + logp - gamma * after) ** 2)
    return torch.stack(nll).mean() + lam * torch.stack(squares).mean()
