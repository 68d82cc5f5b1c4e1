"""Closed forms of the family `rlhf_policy` whose news is the reward, each token of each answer in a loop of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tests.oracles.batches import logps, scores, uniform
from tests.oracles.rows import kept, mean
from tests.oracles.settings import sequence_logp
from tests.specs.variants import hidden, ignored
from tests.zoo.harness import Tensors, of_setting, oracle
from tests.zoo.oracles.rlhf_policy import clipped, offline, token_logp
from torch import Tensor

Rewards = Callable[[int, int, Tensor], Tensor]


def returns_to_go(rewards: Tensor, values: Tensor, gamma: float, lam: float) -> Tensor:
    """Advantages A_t = r_t + gamma V_{t+1} - V_t + gamma lam A_{t+1} of the tokens of one answer, from the last one back."""
    found: list[Tensor] = []
    ahead = next_value = torch.zeros((), dtype=rewards.dtype)
    for r, value in zip(rewards.flip(0), values.flip(0), strict=True):
        ahead = r + gamma * next_value - value + gamma * lam * ahead
        next_value = value
        found.append(ahead)
    return torch.stack(found[::-1])


def actor_critic(tensors: Tensors, reward_of: Rewards, gamma: float, lam: float, eps: float, whiten: bool) -> Tensor:
    """PPO with a value head: `reward_of(q, j, row)` gives the rewards of the tokens that `row` admits."""
    keep = kept(tensors["labels"], tensors["mask"])
    every, old, targets = [], [], []
    for q in range(keep.shape[0]):
        for j in range(keep.shape[1]):
            row = keep[q, j]
            if bool(row.any()):
                values = tensors["old_value"][q, j][row]
                A = returns_to_go(reward_of(q, j, row), values, gamma, lam)  # noqa: N806
                every.append(A)
                old.append(values)
                targets.append(A + values)
    A = torch.cat(every)  # noqa: N806
    target = torch.cat(targets)
    if whiten:
        A = (A - A.mean()) / (A.std(correction=0) + 1e-8)  # noqa: N806
    policy = clipped(token_logp(tensors, keep) - tensors["old_logp"][keep], A, eps, eps)
    return mean(policy) + mean((tensors["value"][keep] - target) ** 2) / 2


def with_critic(tensors: Tensors, seed: int) -> Tensors:
    """What a critic, a policy trained by DPO and a reward model say of each token, NaN outside the mask."""
    mask = tensors["mask"]
    plain = {
        "dpo_logp": logps(*mask.shape, seed=seed + 11), "attention": 1.1 + uniform(*mask.shape, seed=seed + 12),
        "old_value": uniform(*mask.shape, seed=seed + 13), "value": uniform(*mask.shape, seed=seed + 14),
    }  # fmt: skip
    return {name: torch.where(mask, x, torch.nan) for name, x in plain.items()}


def critic_without(*names: str) -> Callable[[Tensors, int], Tensors]:
    def extra(tensors: Tensors, seed: int) -> Tensors:
        return {name: x for name, x in with_critic(tensors, seed).items() if name not in names}

    return extra


@oracle(
    "rto",
    batch=of_setting("rollouts", critic_without("attention"), q=3),
    params=[{}, {"beta_1": 1, "beta_2": 0.3, "gamma": 0.9, "lam": 0.5, "eps": 0.1}],
)
def rto(
    tensors: Tensors,
    beta_1: float = 0.05,
    beta_2: float = 0.01,
    beta_3: float = 1,
    eps: float = 0.2,
    gamma: float = 1,
    lam: float = 0.95,
) -> Tensor:
    """PPO on beta_1 log(pi_dpo / ref) - beta_2 log(pi_old / ref) and the reward at the last token."""

    def reward(q: int, j: int, row: Tensor) -> Tensor:
        ref = tensors["ref_logp"][q, j][row]
        dense = beta_1 * (tensors["dpo_logp"][q, j][row] - ref) - beta_2 * (tensors["old_logp"][q, j][row] - ref)
        dense[-1] += beta_3 * tensors["reward"][q, j]
        return dense

    return actor_critic(tensors, reward, gamma, lam, eps, whiten=True)


@oracle(
    "abc",
    batch=of_setting("rollouts", critic_without("dpo_logp"), q=3),
    params=[{}, {"beta": 1, "kl": 0}, {"beta": 0, "gamma": 0.9, "lam": 0.5}],
)
def abc(
    tensors: Tensors, beta: float = 0.5, kl: float = 0.2, eps: float = 0.2, gamma: float = 1, lam: float = 0.95
) -> Tensor:
    """PPO on beta alpha_t r + (1 - beta) r 1[t = T] - kl log(pi_old / ref)."""

    def reward(q: int, j: int, row: Tensor) -> Tensor:
        attention, r = tensors["attention"][q, j][row], tensors["reward"][q, j]
        given = beta * r * attention / attention.sum()
        given[-1] += (1 - beta) * r
        return given - kl * (tensors["old_logp"] - tensors["ref_logp"])[q, j][row]

    return actor_critic(tensors, reward, gamma, lam, eps, whiten=False)


def with_members(tensors: Tensors, seed: int) -> Tensors:
    q, sample = tensors["reward"].shape
    critic = {name: x for name, x in with_critic(tensors, seed).items() if name in ("value", "old_value")}
    return {**critic, "scores": uniform(q, sample, 4, seed=seed + 15)}


@oracle(
    "reward_ensemble",
    batch=of_setting("rollouts", with_members, q=3),
    params=[{}, {"rule": "wco", "beta": 0}, {"rule": "average"}, {"lambda": 0, "beta": 0.5}],
)
def reward_ensemble(
    tensors: Tensors, rule: str = "uwo", beta: float = 0.01, eps: float = 0.2, **others: float
) -> Tensor:
    """PPO on the least score, on the mean, or on the mean - lambda var, less beta log(pi_old / ref)."""
    s = tensors["scores"]
    spread = ((s - s.mean(-1, keepdim=True)) ** 2).sum(-1) / (s.shape[-1] - 1)
    careful = s.mean(-1) - others.get("lambda", 0.1) * spread
    R = {"uwo": careful, "wco": s.min(-1).values, "average": s.mean(-1)}[rule]  # noqa: N806

    def reward(q: int, j: int, row: Tensor) -> Tensor:
        given = -beta * (tensors["old_logp"] - tensors["ref_logp"])[q, j][row]
        given[-1] += R[q, j]
        return given

    return actor_critic(tensors, reward, others.get("gamma", 1), others.get("lam", 0.95), eps, whiten=False)


def taught(tensors: Tensors, seed: int) -> Tensors:
    return {"teacher": 5 * scores(*tensors["logits"].shape, seed=seed + 3)}


@oracle("lm_reward", batch=of_setting("distill", taught), params=[{}, {"denom": 10, "bound": 0.5}])
def lm_reward(tensors: Tensors, denom: float = 100, bound: float = 1) -> Tensor:
    """-clip(sum_{k >= t} f(y_k) - max_a f_{k+1}(a)) log pi(y_t), f centred."""
    keep, losses = kept(tensors["labels"], tensors["mask"]), []
    for b, row in enumerate(keep):
        if not bool(row.any()):
            continue
        f = tensors["teacher"][b][row]
        f = f - f.mean(-1, keepdim=True)
        labels = tensors["labels"][b][row]
        own = f.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        best = [float(x.max()) for x in f]
        rewards = [float(own[k]) - (best[k + 1] if k + 1 < len(best) else 0) for k in range(len(best))]
        logp = tensors["logits"][b][row].log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        losses += [-max(-bound, min(bound, sum(rewards[k:]) / denom)) * logp[k] for k in range(len(best))]
    return torch.stack(losses).mean()


def compared(seed: int, variant: str) -> Tensors:
    """Single answers with their log-probability under the reference, and the probability that each is preferred."""
    plain = {name: x for name, x in offline(seed, "odd" if variant == "odd" else "plain").items() if name != "value"}
    plain["preferred"] = (1 + uniform(len(plain.pop("reward")), seed=seed + 9)) / 2
    return hidden(ignored(plain)) if variant == "masked" else plain


@oracle("nash_md", batch=compared, params=[{}, {"tau": 0.5}])
def nash_md(tensors: Tensors, tau: float = 0.008) -> Tensor:
    """-(P - 1/2 - tau log(pi / ref)) log pi, the bracket without gradient."""
    losses = []
    for i, row in enumerate(zip(tensors["logits"], tensors["labels"], tensors["mask"], strict=True)):
        logp = sequence_logp(*row)
        if logp is not None:
            gain = tensors["preferred"][i] - 0.5 - tau * float(logp.detach() - tensors["ref_logp"][i])
            losses.append(-gain * logp)
    return torch.stack(losses).mean()


def with_retriever(tensors: Tensors, seed: int) -> Tensors:
    """What a critic says of each token and a retriever of each answer; the first question is open."""
    q, sample = tensors["reward"].shape
    asked = {"open": torch.arange(q) % 2 == 0, "r_x": uniform(q, sample, seed=seed + 15)}
    critic = critic_without("dpo_logp", "attention")(tensors, seed)
    return {**critic, **asked, "r_y": uniform(q, sample, seed=seed + 16)}


@oracle(
    "r3",
    batch=of_setting("rollouts", with_retriever, q=3, t=8, v=2),
    params=[{}, {"scale": 2, "offset": 0.5, "words": 3, "beta": 1, "gamma": 0.9, "lam": 0.5, "eps": 0.1}],
)
def r3(
    tensors: Tensors,
    scale: float = 1,
    offset: float = 0,
    words: float = 100,
    beta: float = 0.05,
    eps: float = 0.2,
    gamma: float = 1,
    lam: float = 0.95,
) -> Tensor:
    """PPO on the relevance r_x LI RP or F(r_y) RP of the answer and -beta log(pi_old / ref) of its tokens."""

    def reward(q: int, j: int, row: Tensor) -> Tensor:
        y = tensors["labels"][q, j][row].tolist()
        grams = [tuple(y[k : k + 3]) for k in range(len(y) - 2)]
        distinct = len(set(grams)) / len(grams) if grams else 0
        nearness = (
            tensors["r_x"][q, j] * len(y) / words if tensors["open"][q] else scale * tensors["r_y"][q, j] + offset
        )
        given = -beta * (tensors["old_logp"] - tensors["ref_logp"])[q, j][row]
        given[-1] += nearness * distinct
        return given

    return actor_critic(tensors, reward, gamma, lam, eps, whiten=False)
