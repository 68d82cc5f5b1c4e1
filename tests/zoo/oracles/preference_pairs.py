"""Closed forms of further works of the family `preference`: of pairs, alone or beside responses that the policy draws."""

from __future__ import annotations

import math

import torch
from tests.oracles.batches import logps, scores, uniform
from tests.oracles.rows import mean
from tests.oracles.settings import sequence_logp, token_nll
from tests.zoo.harness import Batches, Tensors, of_setting, oracle
from tests.zoo.oracles.preference import judged, log_ratios, pair_lengths, pair_rows, pair_values, wins
from torch import Tensor

log_sigmoid = torch.nn.functional.logsigmoid


def token_kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(softmax p, softmax q) over the last dimension."""
    log_p, log_q = p.log_softmax(-1), q.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def hiding(batch: Batches, *names: str) -> Batches:
    """The same batches, in the masked variant with NaN behind the mask in further tensors of tokens."""

    def hidden(seed: int, variant: str) -> Tensors:
        found = batch(seed, variant)
        for name in names if variant == "masked" else ():
            x = found[name]
            found[name] = torch.where(
                found["mask"].reshape(*found["mask"].shape, *(1,) * (x.dim() - found["mask"].dim())), x, torch.nan
            )
        return found

    return hidden


def beside(stream: str) -> Batches:
    """Pairs, and a stream of single responses with their log-probability under the reference."""
    own = of_setting("tokens", lambda batch, seed: {"ref_logp": logps(len(batch["labels"]), seed=seed + 9, size=5)})
    of_pairs = of_setting("pairs")

    def batch(seed: int, variant: str) -> Tensors:
        return {**of_pairs(seed, variant), **{f"{stream}.{name}": x for name, x in own(seed + 20, variant).items()}}

    return batch


def single(tensors: Tensors, stream: str) -> Tensors:
    """One stream of a batch, without its prefix."""
    return {name.partition(".")[2]: x for name, x in tensors.items() if name.startswith(f"{stream}.")}


def dpo(tensors: Tensors, beta: float) -> Tensor:
    """-log sigma(beta margin), the mean over pairs."""
    chosen, rejected = log_ratios(tensors)
    return mean(-log_sigmoid(beta * (chosen - rejected)))


def chosen_logps(tensors: Tensors) -> Tensor:
    """log pi(y_w) of the chosen responses that are present."""
    rows = zip(*(tensors[name][:, 0] for name in ("logits", "labels", "mask")), strict=True)
    return torch.stack([logp for logp in (sequence_logp(*row) for row in rows) if logp is not None])


def with_heads(batch: Tensors, seed: int) -> Tensors:
    """Scores of a reward head, and the logits of a reference."""
    return {
        "reward": 2 * uniform(*batch["ref_logp"].shape, seed=seed + 7),
        "reference": scores(*batch["logits"].shape, seed=seed + 8),
    }


@oracle(
    "dph", batch=hiding(of_setting("pairs", with_heads), "reference"),
    params=[{}, {"form": "contrastive", "eps": 0.3, "prior": 0.2}, {"eps": 0, "prior": 0}],
)  # fmt: skip
def dph(tensors: Tensors, form: str = "separable", eps: float = 0.1, prior: float = 1) -> Tensor:
    """BCE(r_w, 1 - eps) + BCE(r_l, eps), or -(1 - eps) log sigma(r_w - r_l) - eps log sigma(r_l - r_w); + KL(ref, pi)."""
    w, r = tensors["reward"].unbind(-1)
    apart = -(1 - eps) * (log_sigmoid(w) + log_sigmoid(-r)) - eps * (log_sigmoid(-w) + log_sigmoid(r))
    against = -(1 - eps) * log_sigmoid(w - r) - eps * log_sigmoid(r - w)
    keep = tensors["mask"]
    drift = token_kl(tensors["reference"][keep], tensors["logits"][keep])
    return mean(apart if form == "separable" else against) + prior * drift.mean()


@oracle(
    "grm", batch=of_setting("pairs", lambda batch, seed: {"reward": 2 * uniform(*batch["ref_logp"].shape, seed=seed + 7)}),
    params=[{}, {"text": "dpo_free", "a": 0.3}, {"text": "dpo", "a": 0.5, "beta": 0.4}],
)  # fmt: skip
def grm(tensors: Tensors, text: str = "sft", a: float = 0.01, beta: float = 0.1) -> Tensor:
    """(1 - a) E -log sigma(r_w - r_l) + a E -log sigma(beta x), x = log pi(y_w), or less log pi(y_l), or of log-ratios."""
    w, r, ref_w, ref_r = pair_values(tensors)
    likes = {"sft": chosen_logps(tensors), "dpo_free": w - r, "dpo": w - r - ref_w + ref_r}[text]
    gap = tensors["reward"][:, 0] - tensors["reward"][:, 1]
    return (1 - a) * mean(-log_sigmoid(gap)) + a * mean(-log_sigmoid(beta * likes))


@oracle("selm", batch=beside("own"), params=[{}, {"alpha": 0.7, "beta": 0.4}])
def selm(tensors: Tensors, beta: float = 0.1, alpha: float = 0.001) -> Tensor:
    """-log sigma(beta margin) + alpha beta (log pi(y) - log pi_ref(y)), y of the policy itself."""
    _, ratio = judged(single(tensors, "own"))
    return dpo(tensors, beta) + alpha * beta * mean(ratio)


@oracle(
    "vpo", batch=beside("calibration"),
    params=[{}, {"mode": "online", "alpha": 0.3}, {"mode": "offline", "alpha": 0.3, "beta": 0.5}],
)  # fmt: skip
def vpo(tensors: Tensors, mode: str = "offline", beta: float = 0.1, alpha: float = 0.01) -> Tensor:
    """-log sigma(beta margin) + s alpha beta E_cal log(pi / pi_ref), s = 1 online and -1 offline."""
    _, ratio = judged(single(tensors, "calibration"))
    return dpo(tensors, beta) + (1 if mode == "online" else -1) * alpha * beta * mean(ratio)


@oracle("hypo", batch=beside("own"), params=[{}, {"lambda": 0.7, "beta": 0.4}])
def hypo(tensors: Tensors, beta: float = 0.1, **weight: float) -> Tensor:
    """-log sigma(beta margin) + lambda E_pi [log(pi / pi_ref) without gradient] log pi."""
    own = single(tensors, "own")
    rows, ratio = judged(own)
    return dpo(tensors, beta) + weight.get("lambda", 0.0001) * mean(ratio.detach() * (ratio + own["ref_logp"][rows]))


@oracle("rpo", batch=of_setting("pairs"), params=[{}, {"beta": 0.4, "eta": 0.6}])
def rpo(tensors: Tensors, beta: float = 0.1, eta: float = 0.005) -> Tensor:
    """-log sigma(beta margin) - eta beta log pi(y_w)."""
    return dpo(tensors, beta) - eta * beta * mean(chosen_logps(tensors))


@oracle("irpo", batch=of_setting("pairs"), params=[{}, {"beta": 0.4, "alpha": 0.3}])
def irpo(tensors: Tensors, beta: float = 0.1, alpha: float = 1) -> Tensor:
    """-log sigma(beta margin) - alpha log pi(y_w) / |y_w|."""
    rows = zip(*(tensors[name][:, 0] for name in ("logits", "labels", "mask")), strict=True)
    each = [nll.mean() for nll in (token_nll(*row) for row in rows) if nll.numel()]
    return dpo(tensors, beta) + alpha * torch.stack(each).mean()


@oracle("dno", batch=of_setting("pairs", wins), params=[{}, {"beta": 0.5}])
def dno(tensors: Tensors, beta: float = 0.1) -> Tensor:
    """-sigma(r_1 - r_2) log sigma(D) - sigma(r_2 - r_1) log sigma(-D), D = beta margin."""
    chosen, rejected = log_ratios(tensors)
    win = tensors["win"][pair_rows(tensors)]
    d, ahead = beta * (chosen - rejected), win[:, 0] - win[:, 1]
    return mean(-torch.sigmoid(ahead) * log_sigmoid(d) - torch.sigmoid(-ahead) * log_sigmoid(-d))


@oracle("asft", batch=of_setting("pairs"), params=[{}, {"lambda": 0.3}], rate=0.1)
def asft(tensors: Tensors, **weight: float) -> Tensor:
    """-log P(y_w) + lambda (-log P(y_w) - log(1 - P(y_l))), P = exp(log pi / |y|)."""
    w, r, _, _ = pair_values(tensors)
    n_w, n_r = pair_lengths(tensors)
    own = zip(*(tensors[name][:, 0] for name in ("logits", "labels", "mask")), strict=True)
    nll = torch.stack([x.mean() for x in (token_nll(*row) for row in own) if x.numel()])
    return mean(nll) + weight.get("lambda", 1) * mean(-w / n_w - torch.log(1 - (r / n_r).exp()))


def thinking(batch: Tensors, seed: int) -> Tensors:
    """Some first tokens of each response."""
    return {"thinking": torch.arange(batch["mask"].shape[-1]) < 1 + (batch["ref_logp"] > -8).long().unsqueeze(-1)}


@oracle("preflexor", batch=of_setting("pairs", thinking), params=[{}, {"beta": 0.5, "eps": 0.2}])
def preflexor(tensors: Tensors, beta: float = 0.1, eps: float = 0.005) -> Tensor:
    """KL of (sigma(h), sigma(-h)) from (1 - eps, eps), h = beta margin of the answers without their thinking."""
    losses = []
    for i in range(len(tensors["labels"])):
        rows = [
            (tensors["logits"][i, s], tensors["labels"][i, s], tensors["mask"][i, s] & ~tensors["thinking"][i, s])
            for s in (0, 1)
        ]
        found = [sequence_logp(*row) for row in rows]
        if found[0] is None or found[1] is None:
            continue
        ref = tensors["ref_logp"][i]
        h = beta * (found[0] - ref[0] - found[1] + ref[1])
        p, q = torch.sigmoid(h), torch.sigmoid(-h)
        losses.append(p * (p.log() - math.log(1 - eps)) + q * (q.log() - math.log(eps)))
    return mean(torch.stack(losses))
