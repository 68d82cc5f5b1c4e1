"""Closed forms of works of the family `preference` in which a response is read twice: revised, or under opposite prompts."""

from __future__ import annotations

import torch
from tests.oracles.batches import integers, lengths_mask, logps, scores
from tests.oracles.rows import kept, mean
from tests.oracles.settings import sequence_logp
from tests.specs.variants import hidden, ignored
from tests.zoo.harness import Tensors, of_setting, oracle
from tests.zoo.oracles.preference import log_ratios, pair_rows
from tests.zoo.oracles.preference_pairs import hiding
from tests.zoo.oracles.preference_tokens import token_logp
from torch import Tensor


def revised(seed: int, variant: str) -> Tensors:
    """Pairs, and each response once more as the revision of each: (pair, given, side, token)."""
    answers = of_setting("pairs")(seed, variant)
    pair, u, v = len(answers["labels"]), 4, answers["logits"].shape[-1]
    own: Tensors = {
        "logits": scores(pair, 2, 2, u, v, seed=seed + 30),
        "labels": integers(pair, 2, 2, u, high=v, seed=seed + 31),
        "mask": lengths_mask(pair, 2, 2, u, seed=seed + 32),
    }
    own = hidden(ignored(own)) if variant == "masked" else own
    own["ref_logp"] = logps(pair, 2, 2, seed=seed + 33, size=u)
    return {**answers, **{f"revised_{name}": x for name, x in own.items()}}


@oracle("srpo", batch=revised, params=[{}, {"alpha": 0.8, "beta": 0.4}, {"alpha": 1}])
def srpo(tensors: Tensors, beta: float = 0.01, alpha: float = 0.5) -> Tensor:
    """(1 - alpha) (beta (d_l(w) + h(w) - d_w(l) - h(l)) - 1)^2 + alpha sum_given (1/2 - beta (d_given(w) - d_given(l)))^2."""
    h = dict(zip(pair_rows(tensors), zip(*log_ratios(tensors), strict=True), strict=True))
    generate, improve = [], []
    for pair in range(len(tensors["labels"])):
        d: dict[tuple[int, int], Tensor] = {}
        for given, side in ((0, 0), (0, 1), (1, 0), (1, 1)):
            row = [tensors[f"revised_{name}"][pair, given, side] for name in ("logits", "labels", "mask")]
            logp = sequence_logp(*row)
            if logp is not None:
                d[given, side] = logp - tensors["revised_ref_logp"][pair, given, side]
        if pair in h and (1, 0) in d and (0, 1) in d:
            generate.append((beta * (d[1, 0] + h[pair][0] - d[0, 1] - h[pair][1]) - 1) ** 2)
        both = [given for given in (0, 1) if (given, 0) in d and (given, 1) in d]
        if both:
            improve.append(sum((0.5 - beta * (d[given, 0] - d[given, 1])) ** 2 for given in both))
    return (1 - alpha) * mean(torch.stack(generate)) + alpha * mean(torch.stack(improve))


def prompted(batch: Tensors, seed: int) -> Tensors:
    shape = batch["labels"].shape
    return {"better": logps(*shape, seed=seed + 7, size=2), "worse": logps(*shape, seed=seed + 8, size=2)}


@oracle(
    "t_reg", batch=hiding(of_setting("pairs", prompted), "better", "worse"), params=[{}, {"alpha": 0.1, "beta": 0.5}]
)
def t_reg(tensors: Tensors, beta: float = 0.1, alpha: float = 0.25) -> Tensor:
    """-log sigma(beta m) - alpha w sum_side sum_t beta r_t log pi(y_t), r = sigma(log better - log worse) - 1/2, w held."""
    losses = []
    for pair, w, r in zip(pair_rows(tensors), *log_ratios(tensors), strict=True):
        margin = beta * (w - r)
        likelihood = torch.zeros(())
        for side in (0, 1):
            keep = kept(tensors["labels"][pair, side], tensors["mask"][pair, side])
            reward = torch.sigmoid((tensors["better"] - tensors["worse"])[pair, side][keep]) - 0.5
            logp = token_logp(tensors["logits"][pair, side][keep], tensors["labels"][pair, side][keep])
            likelihood = likelihood + (beta * reward * logp).sum()
        weight = torch.sigmoid(-margin).detach()
        losses.append(-torch.nn.functional.logsigmoid(margin) - alpha * weight * likelihood)
    return mean(torch.stack(losses))
