"""Closed forms of further works of the family `preference` that weight, mask or group tokens, one token at a time."""

from __future__ import annotations

import math

import torch
from tests.oracles.batches import integers, lengths_mask, logps, scores, uniform
from tests.oracles.rows import kept, mean
from tests.oracles.settings import sequence_logp
from tests.specs.variants import hidden, ignored
from tests.zoo.harness import Tensors, advanced, of_setting, oracle
from tests.zoo.oracles.preference_pairs import hiding, single, token_kl
from torch import Tensor

log_sigmoid = torch.nn.functional.logsigmoid


def token_logp(logits: Tensor, labels: Tensor) -> Tensor:
    """log pi of tokens that all have labels."""
    return logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)


def present(tensors: Tensors) -> tuple[list[int], Tensor]:
    """The rows that have a log-probability, and it."""
    found = [sequence_logp(*row) for row in zip(*(tensors[name] for name in ("logits", "labels", "mask")), strict=True)]
    return [i for i, x in enumerate(found) if x is not None], torch.stack([x for x in found if x is not None])


def judged_good(batch: Tensors, seed: int) -> Tensors:
    good = torch.arange(len(batch["labels"])) % 2 == 0
    return {"good": good, "reference": scores(*batch["logits"].shape, seed=seed + 8)}


@oracle(
    "pmpo", batch=hiding(of_setting("tokens", judged_good), "reference"),
    params=[{}, {"alpha": 0.8, "beta": 0.1}, {"alpha": 0, "beta": 2}],
)  # fmt: skip
def pmpo(tensors: Tensors, alpha: float = 0.5, beta: float = 0.5) -> Tensor:
    """-alpha E_good log pi + (1 - alpha) E_bad log pi + beta KL(pi_ref, pi), the divergence summed over tokens."""
    rows, logp = present(tensors)
    good = tensors["good"][rows]
    drift = [
        token_kl(p[m], q[m]).sum()
        for p, q, m in zip(*(tensors[n] for n in ("reference", "logits", "mask")), strict=True)
    ]
    return -alpha * mean(logp[good]) + (1 - alpha) * mean(logp[~good]) + beta * torch.stack(drift).mean()


EXAMPLES = 9


def drawn(seed: int, variant: str) -> Tensors:
    """Answers of the data, some that the base model drew, and what earlier visits left in the log of the mean."""
    answers = of_setting("tokens")(seed, variant)
    b, sample, u, v = len(answers["labels"]), 3, 4, answers["logits"].shape[-1]
    own: Tensors = {
        "logits": scores(b, sample, u, v, seed=seed + 30),
        "labels": integers(b, sample, u, high=v, seed=seed + 31),
        "mask": lengths_mask(b, sample, u, seed=seed + 32),
    }
    own = hidden(ignored(own)) if variant == "masked" else own
    return {
        **answers, **{f"drawn_{name}": x for name, x in own.items()},
        "log_p0": logps(b, sample, seed=seed + 33, size=u), "log_u": 2 * uniform(EXAMPLES, seed=seed + 34),
        "id": integers(b, high=EXAMPLES, seed=seed + 35),
    }  # fmt: skip


@oracle(
    "discriminative_ft", batch=drawn, prepare=advanced(2), load={"sizes": {"example": EXAMPLES}},
    params=[{"over": 4}, {"gamma": 0.3, "tau": 2, "over": 2}, {"gamma": 1}],
)  # fmt: skip
def discriminative_ft(tensors: Tensors, tau: float = 1, gamma: float = 0.85, over: float = 1000) -> Tensor:
    """-s + mean_j exp(s'_j / tau - log P_0 - u) s'_j, u = log((1 - g) e^u + g mean_j exp(s'_j / tau - log P_0)), two steps in.

    g falls from 1 to gamma along a cosine.
    """
    g = gamma + (1 - gamma) * (1 + math.cos(math.pi * min(2 / over, 1))) / 2
    losses = []
    for i in range(len(tensors["labels"])):
        s = sequence_logp(*(tensors[name][i] for name in ("logits", "labels", "mask")))
        rows = zip(*(tensors[f"drawn_{name}"][i] for name in ("logits", "labels", "mask")), strict=True)
        found = [(j, x) for j, x in enumerate(sequence_logp(*row) for row in rows) if x is not None]
        if s is None or not found:
            continue
        other = torch.stack([x for _, x in found])
        d = other.detach() / tau - tensors["log_p0"][i, [j for j, _ in found]]
        u = ((1 - g) * tensors["log_u"][tensors["id"][i]].exp() + g * d.exp().mean()).log()
        losses.append(-s + ((d - u).exp() * other).mean())
    return torch.stack(losses).mean()


def rewarded(stream: Tensors, seed: int) -> Tensors:
    return {"reward": (uniform(*stream["labels"].shape, seed=seed + 7) + 1.1) / 2}


def guided(seed: int, variant: str) -> Tensors:
    """Answers of the data and of the policy, with rewards of their tokens."""
    batch = hiding(of_setting("tokens", rewarded), "reward")
    own = {f"own.{name}": x for name, x in batch(seed + 20, variant).items() if name != "reward"}
    return {**batch(seed, variant), **own, "own_reward": batch(seed + 20, variant)["reward"]}


def to_go(reward: Tensor) -> Tensor:
    """The rewards from each token on."""
    return reward.flip(-1).cumsum(-1).flip(-1)


@oracle("token_guidance", batch=guided, params=[{}, {"weight": "to_go", "reinforce": 0.7, "bonus": 0.3}])
def token_guidance(tensors: Tensors, weight: str = "token", reinforce: float = 0, bonus: float = 0) -> Tensor:
    """-sum_t r_t / (sum_t r_t) log pi(y_t) + a E -r_t log pi(y_t) - b H, r the rewards of tokens or of those from there on."""
    turn = to_go if weight == "to_go" else lambda reward: reward
    likelihood, own = [], single(tensors, "own")
    for i in range(len(tensors["labels"])):
        keep = kept(tensors["labels"][i], tensors["mask"][i])
        if bool(keep.any()):
            r = turn(tensors["reward"][i][keep])
            likelihood.append(-(r / r.sum() * token_logp(tensors["logits"][i][keep], tensors["labels"][i][keep])).sum())
    drawn_nll = []
    for i in range(len(own["labels"])):
        keep = kept(own["labels"][i], own["mask"][i])
        drawn_nll.append(
            turn(tensors["own_reward"][i][keep]) * -token_logp(own["logits"][i][keep], own["labels"][i][keep])
        )
    log_p = own["logits"][own["mask"]].log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum(-1).mean()
    return torch.stack(likelihood).mean() + reinforce * torch.cat(drawn_nll).mean() - bonus * entropy


def edits(seed: int, variant: str) -> Tensors:
    """Two responses whose edited tokens are marked, some of them outside of the range of losses."""
    b, t, v = (1, 3, 11) if variant == "odd" else (3, 6, 4)
    batch: Tensors = {
        "logits": 0.4 * scores(b, 2, t, v, seed=seed),
        "labels": integers(b, 2, t, high=v, seed=seed + 1),
        "edited": uniform(b, 2, t, seed=seed + 2) > -0.3,
    }
    if variant != "masked":
        return batch
    batch = ignored(batch)
    return {**batch, "logits": torch.where(batch["edited"].unsqueeze(-1), batch["logits"], torch.nan)}


@oracle(
    "figa",
    batch=edits,
    params=[{}, {"alpha": 0.6, "beta": 1.2, "low": 1, "high": 1.6}, {"beta": 0.1, "low": 0, "high": 9}],
)
def figa(tensors: Tensors, alpha: float = 1, beta: float = 0.5, low: float = 0.6, high: float = 1) -> Tensor:
    """The mean of alpha nll over edited tokens of the revision and of -beta nll over those of the first response in range."""
    losses = []
    for side, weight in ((0, alpha), (1, -beta)):
        keep = kept(tensors["labels"][:, side], tensors["edited"][:, side])
        nll = -token_logp(tensors["logits"][:, side][keep], tensors["labels"][:, side][keep])
        losses.append(weight * (nll if side == 0 else nll[(nll >= low) & (nll <= high)]))
    return mean(torch.cat(losses))


def stepwise(batch: Tensors, seed: int) -> Tensors:
    b, t = batch["labels"].shape
    return {
        "ref_logp": logps(b, t, seed=seed + 7),
        "steps": torch.arange(t).expand(b, t) // 2,
        "right": torch.arange(b) % 2 == 0,
    }


@oracle("implicit_prm", batch=of_setting("tokens", stepwise), params=[{}, {"beta": 0.7}], stays="gathered into `step`")
def implicit_prm(tensors: Tensors, beta: float = 0.05) -> Tensor:
    """-log sigma(r) of a right response, -log(1 - sigma(r)) of a wrong one, r = beta log(pi / pi_ref)."""
    losses = []
    for i in range(len(tensors["labels"])):
        keep = kept(tensors["labels"][i], tensors["mask"][i])
        if bool(keep.any()):
            logp = token_logp(tensors["logits"][i][keep], tensors["labels"][i][keep])
            r = beta * (logp - tensors["ref_logp"][i][keep]).sum()
            losses.append(-log_sigmoid(r) if tensors["right"][i] else -log_sigmoid(-r))
    return torch.stack(losses).mean()


def masked_tokens(batch: Tensors, seed: int) -> Tensors:
    shape = batch["labels"].shape
    return {
        "reference": scores(*batch["logits"].shape, seed=seed + 8),
        "m_u": (uniform(*shape, seed=seed + 9) + 1) * (uniform(*shape, seed=seed + 10) > -0.5),
        "m_d": (uniform(*shape, seed=seed + 11) + 1) / 2,
    }


def of_pairs_without_reference(seed: int, variant: str) -> Tensors:
    batch = hiding(of_setting("pairs", masked_tokens), "reference", "m_u", "m_d")(seed, variant)
    return {name: x for name, x in batch.items() if name != "ref_logp"}


@oracle("sparse_po", batch=of_pairs_without_reference, params=[{}, {"beta": 0.5, "sparse": 0.3}])
def sparse_po(tensors: Tensors, beta: float = 0.1, sparse: float = 0) -> Tensor:
    """-log sigma(u - delta): u = beta sum m_u log(pi / ref), of w less of l; delta = beta sum m_d KL, of l less of w."""
    losses = []
    for i in range(len(tensors["labels"])):
        reward, drift = [], []
        for s in (0, 1):
            mask = tensors["mask"][i, s]
            keep = kept(tensors["labels"][i, s], mask)
            values = [
                token_logp(tensors[name][i, s][keep], tensors["labels"][i, s][keep]) for name in ("logits", "reference")
            ]
            if bool(keep.any()):
                reward.append((tensors["m_u"][i, s][keep] * (values[0] - values[1])).sum())
            kl = token_kl(tensors["reference"][i, s][mask], tensors["logits"][i, s][mask])
            drift.append((tensors["m_d"][i, s][mask] * kl).sum())
        if len(reward) == 2:
            losses.append(-log_sigmoid(beta * (reward[0] - reward[1]) - beta * (drift[1] - drift[0])))
    mask = tensors["mask"]
    return torch.stack(losses).mean() + sparse * (tensors["m_u"][mask] + tensors["m_d"][mask]).mean()
