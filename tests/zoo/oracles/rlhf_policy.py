"""Closed forms of the family `rlhf_policy`, each from the formula of its paper, one sequence at a time."""

from __future__ import annotations

import torch
from tests.oracles.batches import integers, logps, rollouts, tokens, uniform
from tests.oracles.rows import kept, mean
from tests.oracles.settings import advantages, sequence_logp
from tests.specs.variants import hidden, ignored
from tests.zoo.harness import ODD, Objective, Tensors, of_setting, oracle
from torch import Tensor


def token_logp(tensors: Tensors, where: tuple[Tensor, ...] | Tensor) -> Tensor:
    """log pi of the tokens that `where` admits, flat."""
    picked = tensors["logits"][where].log_softmax(-1)
    return picked.gather(-1, tensors["labels"][where].unsqueeze(-1)).squeeze(-1)


def samples(tensors: Tensors) -> list[list[tuple[int, Tensor]]]:
    """For each question its samples that have a token, with the positions of their tokens."""
    keep = kept(tensors["labels"], tensors["mask"])
    return [[(j, row) for j, row in enumerate(question) if bool(row.any())] for question in keep]


def binary_reward(tensors: Tensors, seed: int) -> Tensors:
    """Rewards 0 and 1, both for each question but the last."""
    reward = (torch.arange(tensors["reward"].shape[1]) + torch.arange(tensors["reward"].shape[0])[:, None]) % 2
    reward[-1] = reward[-1] if len(reward) == 1 else 1
    return {"reward": reward.to(torch.float64)}


def score_of(tensors: Tensors, q: int, j: int, row: Tensor, score: str) -> Tensor:
    """The mean log-probability of a token, or the mean ratio."""
    one = {name: tensors[name][q, j] for name in ("logits", "labels", "old_logp")}
    logp = token_logp(one, row)
    return (logp if score == "logL" else (logp - one["old_logp"][row]).exp()).mean()


@oracle(
    "disco",
    batch=of_setting("rollouts", binary_reward, q=3, sample=4),
    params=[{}, {"score": "Lratio", "tau": 1}, {"beta": 2, "delta": 0.01}, {"delta": 100}],
)
def disco(tensors: Tensors, score: str = "logL", tau: float = 10, beta: float = 1000, delta: float = 1e-4) -> Tensor:
    """-E_q[mean_P s - tau log mean_N exp(s / tau)] + beta [KL(old, pi) - delta]_+^2."""
    gain = tensors["logits"].new_zeros(())
    for q, found in enumerate(samples(tensors)):
        sides: dict[bool, list[Tensor]] = {True: [], False: []}
        for j, row in found:
            sides[float(tensors["reward"][q, j]) == 1].append(score_of(tensors, q, j, row, score))
        if sides[True] and sides[False]:
            up, down = torch.stack(sides[True]), torch.stack(sides[False])
            gain = gain + up.mean() - tau * (down / tau).exp().mean().log()
    keep = kept(tensors["labels"], tensors["mask"])
    log_ratio = token_logp(tensors, keep) - tensors["old_logp"][keep]
    drift = mean(log_ratio.exp() - log_ratio - 1)
    return -gain / len(tensors["reward"]) + beta * (drift - delta).clamp(min=0) ** 2


@oracle(
    "drpo",
    batch=of_setting("rollouts", binary_reward, q=3, sample=4),
    params=[{}, {"tau": 1, "lambda": 0.5, "longest": 4}, {"beta": 2, "delta": 0.01}],
)
def drpo(
    tensors: Tensors, tau: float = 10, longest: float = 1024, beta: float = 1000, delta: float = 1e-4, **others: float
) -> Tensor:
    """-E_q[sum_P w s - tau log mean_N exp(s / tau)] + beta / 2 [KL(old, pi) - delta]_+^2, w = softmax(-length / (C lambda))."""
    gain = tensors["logits"].new_zeros(())
    for q, found in enumerate(samples(tensors)):
        right = [(j, row) for j, row in found if float(tensors["reward"][q, j]) == 1]
        wrong = [(j, row) for j, row in found if float(tensors["reward"][q, j]) == 0]
        if right and wrong:
            lengths = torch.tensor([float(row.sum()) for _, row in right]).double()
            w = (-lengths / (longest * others.get("lambda", 0.1))).softmax(0)
            up = torch.stack([score_of(tensors, q, j, row, "logL") for j, row in right])
            down = torch.stack([score_of(tensors, q, j, row, "logL") for j, row in wrong])
            gain = gain + (w * up).sum() - tau * (down / tau).exp().mean().log()
    keep = kept(tensors["labels"], tensors["mask"])
    log_ratio = token_logp(tensors, keep) - tensors["old_logp"][keep]
    drift = mean(log_ratio.exp() - log_ratio - 1)
    return -gain / len(tensors["reward"]) + beta / 2 * (drift - delta).clamp(min=0) ** 2


@oracle("copg", batch=of_setting("rollouts", q=3), params=[{}, {"beta": 0.5}])
def copg(tensors: Tensors, beta: float = 0.1) -> Tensor:
    """1 / (2 beta) sum of pairs (R_pi(y) - R_pi(y'))^2 / (k - 1),  R_pi = R - beta log(pi / ref)."""
    k, losses = tensors["reward"].shape[1], []
    for q, found in enumerate(samples(tensors)):
        regularised = []
        for j, row in found:
            one = {name: tensors[name][q, j] for name in ("logits", "labels")}
            log_ratio = (token_logp(one, row) - tensors["ref_logp"][q, j][row]).sum()
            regularised.append(tensors["reward"][q, j] - beta * log_ratio)
        gaps = [(a - b) ** 2 for i, a in enumerate(regularised) for b in regularised[:i]]
        if gaps:
            losses.append(torch.stack(gaps).sum() / (2 * beta * (k - 1)))
    return torch.stack(losses).mean()


def offline(seed: int, variant: str) -> Tensors:
    b, t, v = (1, ODD["t"], ODD["v"]) if variant == "odd" else (4, 5, 7)
    plain: Tensors = dict(tokens(seed, b, t, v))
    logp = [sequence_logp(*row) for row in zip(plain["logits"], plain["labels"], plain["mask"], strict=True)]
    plain["ref_logp"] = torch.stack([x for x in logp if x is not None]) + 2 * uniform(b, seed=seed + 5)
    plain |= {"reward": 1 + uniform(b, seed=seed + 6), "value": 0.6 + uniform(b, seed=seed + 7) / 2}
    return hidden(ignored(plain)) if variant == "masked" else plain


@oracle("a_lol", batch=offline, params=[{}, {"eps": 0}, {"eps": 0.5}])
def a_lol(tensors: Tensors, eps: float = 0.9) -> Tensor:
    """-max(0, A) clip(sg(pi / ref), 1 - eps, 1 + eps) log pi."""
    losses = []
    for i, row in enumerate(zip(tensors["logits"], tensors["labels"], tensors["mask"], strict=True)):
        logp = sequence_logp(*row)
        if logp is not None:
            rho = (logp - tensors["ref_logp"][i]).exp().detach().clamp(1 - eps, 1 + eps)
            losses.append(-(tensors["reward"][i] - tensors["value"][i]).clamp(min=0) * rho * logp)
    return torch.stack(losses).mean()


def judged(seed: int, variant: str) -> Tensors:
    plain = offline(seed, variant)
    return plain | {"value": 3 * plain["value"]}


@oracle("dro_v", batch=judged, params=[{}, {"tau": 0.3}])
def dro_v(tensors: Tensors, tau: float = 1) -> Tensor:
    """(r - V - tau log(pi / ref))^2 / 2."""
    losses = []
    for i, row in enumerate(zip(tensors["logits"], tensors["labels"], tensors["mask"], strict=True)):
        logp = sequence_logp(*row)
        if logp is not None:
            residual = tensors["reward"][i] - tensors["value"][i] - tau * (logp - tensors["ref_logp"][i])
            losses.append(residual**2 / 2)
    return torch.stack(losses).mean()


def two_streams(seed: int, variant: str) -> Tensors:
    """Rollouts on questions to explore, and stored answers to the others with the log-probability of their tokens."""
    q, sample, b, t, v = (1, 3, 1, 3, 11) if variant == "odd" else (2, 3, 3, 4, 5)
    explored = rollouts(seed, q, sample, t, v)
    stored = {**tokens(seed + 20, b, t + 1, v), "ref_logp": logps(b, t + 1, seed=seed + 30)}
    if variant == "masked":
        explored, stored = hidden(ignored(explored)), hidden(ignored(stored))
    ref_logp = stored.pop("ref_logp")
    streams = {"exp": explored, "pef": stored}
    return {f"{s}.{name}": x for s, inner in streams.items() for name, x in inner.items()} | {"ref_logp": ref_logp}


def stream(tensors: Tensors, name: str) -> Tensors:
    return {key.removeprefix(name + "."): x for key, x in tensors.items() if key.startswith(name + ".")}


def clipped(log_ratio: Tensor, advantage: Tensor, low: float, high: float) -> Tensor:
    """-min(r A, clip(r, 1 - low, 1 + high) A)."""
    ratio = log_ratio.exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)


@oracle("dph_rl", batch=two_streams, params=[{}, {"f": "js", "eta": 1}, {"eta": 0}])
def dph_rl(
    tensors: Tensors, f: str = "forward_kl", eta: float = 0.01, eps_low: float = 0.2, eps_high: float = 0.28
) -> Tensor:
    """The clipped surrogate on one stream, eta E[f(pi / ref)] on the other."""
    explored, stored = stream(tensors, "exp"), stream(tensors, "pef")
    keep = kept(explored["labels"], explored["mask"])
    advantage = advantages(explored["reward"]).unsqueeze(-1).expand(keep.shape)[keep]
    surrogate = clipped(token_logp(explored, keep) - explored["old_logp"][keep], advantage, eps_low, eps_high)
    keep = kept(stored["labels"], stored["mask"])
    u = (token_logp(stored, keep) - tensors["ref_logp"][keep]).exp()
    penalty = -u.log() if f == "forward_kl" else u * u.log() - (u + 1) * ((u + 1) / 2).log()
    return mean(surrogate) + eta * mean(penalty)


HISTORY = torch.tensor([1.2, 0.5, 1.45], dtype=torch.float64)
"""The mean entropy that each turn has had."""


def with_turns(tensors: Tensors, seed: int) -> Tensors:
    return {"turns": integers(*tensors["labels"].shape, high=3, seed=seed + 11), "history": HISTORY}


def halfway(objective: Objective, tensors: Tensors) -> None:
    """Brings the run to its middle, with a history of each turn."""
    objective.total_steps = 8
    for _ in range(4 - objective.step):
        objective.advance()
    objective.state["history"].copy_(HISTORY)


@oracle(
    "epo", batch=of_setting("rollouts", with_turns), params=[{}, {"lambda": 1, "c": 3}], prepare=halfway,
    load={"sizes": {"turn": 3}},
)  # fmt: skip
def epo(tensors: Tensors, c: float = 1, **others: float) -> Tensor:
    """PPO-clip - lambda (mean H - c beta_k mean P),  P = 0 inside (0.8, 1.2) of the turn's history, else 0.1."""
    keep = kept(tensors["labels"], tensors["mask"])
    advantage = advantages(tensors["reward"]).unsqueeze(-1).expand(keep.shape)[keep]
    surrogate = clipped(token_logp(tensors, keep) - tensors["old_logp"][keep], advantage, 0.2, 0.2)
    rows = tensors["mask"]
    z = tensors["logits"][rows]
    entropy = -(z.softmax(-1) * z.log_softmax(-1)).sum(-1)
    usual = HISTORY[tensors["turns"][rows]]
    outside = (entropy <= 0.8 * usual) | (entropy >= 1.2 * usual)
    beta_k = 1.0  # halfway between 0.5 and 1.5
    smooth = c * beta_k * mean(0.1 * outside.to(entropy))
    return mean(surrogate) - others.get("lambda", 0.01) * (mean(entropy) - smooth)
