"""Preference and unlearning objectives beyond the catalogue, written from docs/language.md and docs/library.md alone."""

from __future__ import annotations

import math

import pytest
import torch
from tests.oracles.batches import distill, pairs, rollouts, scores, uniform
from tests.oracles.rows import mean
from tests.oracles.settings import token_nll
from tests.zoo.beyond import assert_equals
from tests.zoo.harness import Tensors, of_setting
from tests.zoo.oracles.preference import log_ratios, pair_rows
from torch import Tensor

import lossc

log_sigmoid = torch.nn.functional.logsigmoid


def token_logp(tensors: Tensors) -> Tensor:
    """log pi(y_t) of every token."""
    return tensors["logits"].log_softmax(-1).gather(-1, tensors["labels"].unsqueeze(-1)).squeeze(-1)


OFFSET_DPO = """
\"\"\"DPO with an offset: the margin is to exceed alpha log(score_w - score_l). Amini et al. 2024.\"\"\"
objective odpo
use std.settings.pairs
data score : real[pair, side]
param beta  : positive = 0.1
param alpha : nonneg   = 0.5

let gap = score[side = chosen] - score[side = rejected]

minimize
  odpo : mean[pair where gap > 0](-log(sigmoid(beta * margin - alpha * log(gap))))
"""


def test_dpo_with_an_offset() -> None:
    for variant in ("plain", "masked"):
        batch = of_setting("pairs", lambda b, s: {"score": 2 * uniform(*b["ref_logp"].shape, seed=s + 8)}, pair=7)(3, variant)

        def closed(t: Tensors) -> Tensor:
            chosen, rejected = log_ratios(t)
            gap = (t["score"][:, 0] - t["score"][:, 1])[pair_rows(t)]
            kept = gap > 0
            return mean(-log_sigmoid(0.1 * (chosen - rejected)[kept] - 0.5 * gap[kept].log()))

        assert_equals(OFFSET_DPO, batch, closed)


CPO = """
\"\"\"Contrastive preference optimisation: no reference, and a likelihood term. Xu et al. 2024.\"\"\"
objective cpo
use std.settings.pairs
param beta : positive = 0.1

minimize
  prefer : mean[pair](-log(sigmoid(beta * (logp[side = chosen] - logp[side = rejected]))))
  nll    : mean[pair](-logp[side = chosen])
"""


def test_contrastive_preference_optimisation() -> None:
    def closed(t: Tensors) -> Tensor:
        logp = (token_logp(t) * t["mask"]).sum(-1)
        return (-log_sigmoid(0.1 * (logp[:, 0] - logp[:, 1])) - logp[:, 0]).mean()

    assert_equals(CPO, {k: x for k, x in pairs(3).items() if k != "ref_logp"}, closed)
    assert_equals(CPO, {k: x for k, x in pairs(3).items() if k != "ref_logp"}, closed, backend="c")


TDPO = """
\"\"\"Token-level DPO (TDPO2): the divergences of both responses, token by token, balance the margin. Zeng et al. 2024.\"\"\"
objective tdpo
use std.settings.pairs
use std.divergence (kl)
data ref_logits : logits[pair, side, t, v]
param beta  : positive = 0.1
param alpha : nonneg   = 0.5

let ratio  = sum[t where mask](ce(ref_logits, labels) - nll)
let seq_kl = sum[t where mask](kl(ref_logits, logits))
let u      = beta * ratio[side = chosen] - beta * ratio[side = rejected]
let delta  = beta * seq_kl[side = rejected] - sg(beta * seq_kl[side = chosen])

use std.ce (ce)

minimize
  tdpo : mean[pair](-log(sigmoid(u - alpha * delta)))
"""


def test_token_level_dpo() -> None:
    batch = {k: x for k, x in pairs(3).items() if k != "ref_logp"} | {"ref_logits": scores(3, 2, 5, 7, seed=11)}

    def closed(t: Tensors) -> Tensor:
        p, q = t["ref_logits"].log_softmax(-1), t["logits"].log_softmax(-1)
        ref = p.gather(-1, t["labels"].unsqueeze(-1)).squeeze(-1)
        ratio = ((token_logp(t) - ref) * t["mask"]).sum(-1)
        kl = ((p.exp() * (p - q)).sum(-1) * t["mask"]).sum(-1)
        u = 0.1 * (ratio[:, 0] - ratio[:, 1])
        delta = 0.1 * kl[:, 1] - (0.1 * kl[:, 0]).detach()
        return -log_sigmoid(u - 0.5 * delta).mean()

    for backend in ("reference", "torch", "c"):
        assert_equals(TDPO, batch, closed, backend=backend)


LD_DPO = """
\"\"\"LD-DPO: beyond the length that both responses have, tokens count only alpha. Liu et al. 2024.\"\"\"
objective ld_dpo
use std.settings.pairs
param beta  : positive = 0.1
param alpha : unit     = 0.3

let common = min[side](length)
let place  = cumsum[t where mask and labels >= 0](1)
let weight = 1 if place <= common else alpha
let ld     = -sum[t where mask](weight * nll)
let reward = beta * (ld - ref_logp)

minimize
  ld_dpo : mean[pair](-log(sigmoid(reward[side = chosen] - reward[side = rejected])))
"""


def test_length_desensitised_dpo() -> None:
    def closed(t: Tensors) -> Tensor:
        lengths = t["mask"].sum(-1)
        common = lengths.min(-1, keepdim=True).values.unsqueeze(-1)
        weight = torch.where(torch.arange(5) < common, 1.0, 0.3).double()
        reward = 0.1 * ((weight * token_logp(t) * t["mask"]).sum(-1) - t["ref_logp"])
        return -log_sigmoid(reward[:, 0] - reward[:, 1]).mean()

    assert_equals(LD_DPO, pairs(3), closed)


WPO = """
\"\"\"WPO: pairs weigh as if they were sampled from the policy; weights are aligned by sum_v p_v^2. Zhou et al. 2024.\"\"\"
objective wpo
use std.settings.pairs
param beta : positive = 0.1

let aligned = -nll - log(sum[v](softmax[v](logits)^2))
let weight  = exp(mean[t where mask](aligned))
let w       = sg(weight[side = chosen] * weight[side = rejected])

minimize
  wpo : mean[pair](-w * log(sigmoid(beta * margin)))
"""


def test_weighted_preference_optimisation() -> None:
    def closed(t: Tensors) -> Tensor:
        chosen, rejected = log_ratios(t)
        p = t["logits"].softmax(-1)
        aligned = (token_logp(t) - p.pow(2).sum(-1).log()) * t["mask"]
        weight = (aligned.sum(-1) / t["mask"].sum(-1)).exp().prod(-1).detach()
        return (-weight * log_sigmoid(0.1 * (chosen - rejected))).mean()

    for backend in ("reference", "torch", "c"):
        assert_equals(WPO, pairs(3), closed, backend=backend)


INFO_NCA = """
\"\"\"InfoNCA: the policy's rewards of several responses match the softmax of explicit ones. Chen et al. 2024.\"\"\"
objective info_nca
use std.settings.rollouts
param alpha : positive = 0.5
param beta  : positive = 0.1

let implicit = beta * sum[t where mask](logp - ref_logp)
let target   = softmax[sample](reward / alpha)

minimize
  info_nca : mean[q](-sum[sample](target * log_softmax[sample](implicit)))
"""


def test_info_nca() -> None:
    def closed(t: Tensors) -> Tensor:
        implicit = 0.1 * ((token_logp(t) - t["ref_logp"]) * t["mask"]).sum(-1)
        return -((t["reward"] / 0.5).softmax(-1) * implicit.log_softmax(-1)).sum(-1).mean()

    assert_equals(INFO_NCA, without(rollouts(3), "old_logp"), closed)


PLACKETT_LUCE = """
\"\"\"DPO on whole rankings, under Plackett-Luce: response k beats all that come after. Rafailov et al. 2023, appendix.\"\"\"
objective plackett_luce_dpo
use std.settings.rollouts
param beta : positive = 0.1

let r     = beta * sum[t where mask](logp - ref_logp)
let place = rank[sample](-reward)
let rest  = logsumexp[other where place[sample -> other] >= place](r[sample -> other])

minimize
  ranking : mean[q](sum[sample](rest - r))
"""


def test_dpo_of_rankings() -> None:
    def closed(t: Tensors) -> Tensor:
        r = 0.1 * ((token_logp(t) - t["ref_logp"]) * t["mask"]).sum(-1)
        total = torch.zeros((), dtype=torch.float64)
        for row, reward in zip(r, t["reward"], strict=True):
            ordered = row[reward.argsort(descending=True)]
            for k in range(len(ordered)):
                total = total + ordered[k:].logsumexp(0) - ordered[k]
        return total / len(r)

    assert_equals(PLACKETT_LUCE, without(rollouts(3), "old_logp"), closed)


MAX_ENTROPY = """
\"\"\"Unlearning by maximal entropy: KL of the uniform distribution to the prediction, and likelihood of what is kept.
Yuan et al. 2024.\"\"\"
objective max_entropy
use std.settings.tokens as forget sharing (v)
use std.settings.tokens as retain sharing (v)
param keep : nonneg = 1

let logp = log(softmax[v](forget.logits))

minimize
  forget_loss : mean[forget.b, forget.t where forget.mask](mean[v](-log(size[v]) - logp))
  retain_loss : keep * mean[retain.b, retain.t where retain.mask](retain.nll)
"""


def test_unlearning_by_maximal_entropy() -> None:
    batch = {k: x for k, x in of_setting("forget_retain")(3, "plain").items() if not k.endswith("ref_logp")}

    def closed(t: Tensors) -> Tensor:
        logp = t["forget.logits"].log_softmax(-1)[t["forget.mask"]]
        kept = token_logp({k.removeprefix("retain."): x for k, x in t.items() if k.startswith("retain.")})
        return (-math.log(7) - logp).mean(-1).mean() - kept[t["retain.mask"]].mean()

    for backend in ("reference", "c"):
        assert_equals(MAX_ENTROPY, without(batch, "forget.labels"), closed, backend=backend)


EXO = """
\"\"\"EXO on pairs: the reverse KL of the policy's preference to a smoothed label. Ji et al. 2024.\"\"\"
objective exo
use std.settings.pairs
param beta : positive             = 0.1
param eps  : real in [1e-6, 0.49] = 0.001

let q = sigmoid(beta * margin)

minimize
  exo : mean[pair](q * (log(q) - log(1 - eps)) + (1 - q) * (log(1 - q) - log(eps)))
"""


def test_exo() -> None:
    def closed(t: Tensors) -> Tensor:
        chosen, rejected = log_ratios(t)
        m = 0.1 * (chosen - rejected)
        up = m.sigmoid() * (log_sigmoid(m) - math.log(0.999))
        return mean(up + (-m).sigmoid() * (log_sigmoid(-m) - math.log(0.001)))

    for variant in ("plain", "odd", "masked"):
        assert_equals(EXO, of_setting("pairs")(3, variant), closed)


BETA_DPO = """
\"\"\"DPO with a beta for each batch: larger where its margins exceed what they usually are. Wu et al. 2024.\"\"\"
objective beta_dpo
use std.settings.pairs
param beta0 : positive = 0.1
param alpha : nonneg   = 0.6
param m     : unit     = 0.9

state usual : real = 0 then m * usual + (1 - m) * mean[pair](margin)

let beta = max(beta0 * (1 + alpha * sg(mean[pair](margin) - usual)), 0.001)

minimize
  beta_dpo : mean[pair](-log(sigmoid(beta * margin)))

monitor
  beta : beta
"""


def test_dpo_with_a_beta_for_each_batch() -> None:
    objective, usual = lossc.loads(BETA_DPO, backend="reference").double(), 0.0
    for seed in (3, 4, 5):
        batch = pairs(seed)
        logits = batch["logits"].clone().requires_grad_()
        chosen, rejected = log_ratios({**batch, "logits": logits})
        margin = chosen - rejected
        beta = max(0.1 * (1 + 0.6 * (float(margin.detach().mean()) - usual)), 0.001)
        expected = -log_sigmoid(beta * margin).mean()
        own = batch["logits"].clone().requires_grad_()
        loss = objective(**{**batch, "logits": own}).loss
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
        (wanted,), (found,) = torch.autograd.grad(expected, logits), torch.autograd.grad(loss, own)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)
        usual = 0.9 * usual + 0.1 * float(margin.detach().mean())
        objective.advance()
        assert float(objective.state["usual"]) == pytest.approx(usual)


UNDIAL = """
\"\"\"Unlearning by distilling oneself, the score of each token lowered in the target. Dong et al. 2024.\"\"\"
objective undial
use std.settings.distill
use std.ce (soft_ce)
param gamma : positive = 10

let lowered = teacher - gamma * (index[v] == labels)

minimize
  undial : mean[b, t where mask](soft_ce(logits, softmax[v](lowered)))
"""


def test_unlearning_by_self_distillation() -> None:
    def closed(t: Tensors) -> Tensor:
        hot = torch.nn.functional.one_hot(t["labels"], 7)
        target = (t["teacher"] - 10 * hot).softmax(-1)
        return -(target * t["logits"].log_softmax(-1)).sum(-1)[t["mask"]].mean()

    for backend in ("reference", "torch", "c"):
        assert_equals(UNDIAL, distill(3), closed, backend=backend)


WEIGHTED_ASCENT = """
\"\"\"Weighted gradient ascent: a token that is forgotten already weighs little, p^beta. Wang et al. 2025.\"\"\"
objective wga
use std.settings.tokens
param beta : positive = 2

let p = softmax[v](logits)[v = labels]

minimize
  wga : mean[b, t where mask](sg(p^beta) * log(p))
"""


def test_weighted_gradient_ascent() -> None:
    def closed(t: Tensors) -> Tensor:
        logp = -token_nll(t["logits"], t["labels"], t["mask"])
        return ((2 * logp).exp().detach() * logp).mean()

    for variant in ("plain", "odd", "masked"):
        assert_equals(WEIGHTED_ASCENT, of_setting("tokens")(3, variant), closed, backend="c")


def without(batch: Tensors, *names: str) -> Tensors:
    return {name: tensor for name, tensor in batch.items() if name not in names}
