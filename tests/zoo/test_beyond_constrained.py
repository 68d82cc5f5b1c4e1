"""Constrained objectives beyond the catalogue, written from docs/language.md and docs/library.md alone."""

from __future__ import annotations

import torch
from tests.oracles.batches import classes, tokens, uniform
from tests.oracles.ce import ce
from tests.zoo.beyond import assert_equals
from tests.zoo.harness import Tensors, of_setting
from tests.zoo.oracles.preference import log_ratios
from torch import Tensor

import lossc

RESILIENT = """
\"\"\"Resilient feasible learning: an example may miss its bound by a slack, which costs alpha/2 of its square.\"\"\"
objective resilient_feasible_learning
use std.settings.classes
axis example
data id : label[b] in example
param eps   : nonneg   = 0.5
param alpha : positive = 2
learn u : real[example] = 0.3

minimize
  relax : alpha / 2 * sum[example](u^2)

subject to fit per b by id : nll <= eps + u[example = id]
"""


def test_resilient_feasible_learning() -> None:
    """alpha/2 ||u||^2 + sum_i lambda_i (l_i - eps - u_i); its best slack is lambda_i / alpha."""
    held = (uniform(6, seed=5) + 1) / 2
    batch = {**classes(3), "id": torch.tensor([4, 2, 0, 5, 1]), "fit": held, "u": uniform(6, seed=6)}

    def closed(t: Tensors) -> Tensor:
        losses = ce(t["logits"], t["labels"])
        own = t["fit"].detach()[t["id"]]
        return (t["u"] ** 2).sum() + (own * (losses - 0.5 - t["u"][t["id"]])).sum()

    assert_equals(RESILIENT, batch, closed, sizes={"example": 6})
    objective = lossc.loads(RESILIENT, backend="reference", sizes={"example": 6}).double()
    with torch.no_grad():
        objective.multipliers["fit"].copy_(held)
        objective.learn["u"].copy_(held / 2)
        objective.learn["u"][3] = 0  # the example that is not in the batch
    objective(**{name: batch[name] for name in ("logits", "labels", "id")}).loss.backward()
    assert float(objective.learn["u"].grad.abs().max()) < 1e-12  # type: ignore[union-attr]


NEYMAN_PEARSON = """
\"\"\"Neyman-Pearson classification: as few misses as possible at a bounded rate of false alarms, both by their log-loss.\"\"\"
objective neyman_pearson
axis b : batch
input z     : real[b]
data  event : mask[b]
param alarms : positive = 0.2

minimize
  misses : mean[b where event](-log(sigmoid(z)))

subject to alarm_rate : mean[b where not event](-log(1 - sigmoid(z))) <= alarms

monitor
  alarm : mean[b where not event](z > 0)
"""


def test_neyman_pearson() -> None:
    batch = {"z": 2 * uniform(9, seed=3), "event": uniform(9, seed=4) > 0, "alarm_rate": torch.tensor(0.7, dtype=torch.float64)}

    def closed(t: Tensors) -> Tensor:
        positive, negative = t["z"][t["event"]], t["z"][~t["event"]]
        rate = -torch.nn.functional.logsigmoid(-negative).mean()
        return -torch.nn.functional.logsigmoid(positive).mean() + 0.7 * (rate - 0.2)

    assert_equals(NEYMAN_PEARSON, batch, closed)


KL_BUDGET = """
\"\"\"DPO within a budget: no more than so many nats a token away from the reference on what was chosen.\"\"\"
objective dpo_within_a_budget
use std.settings.pairs
use std.preference (dpo)
param budget : positive = 0.1

let moved = sum[t where mask](-nll)[side = chosen] - ref_logp[side = chosen]

minimize
  dpo : mean[pair](dpo(margin, beta = 0.2))

subject to drift : mean[pair](abs(moved) / max(length[side = chosen], 1)) <= budget
"""


def test_dpo_within_a_budget() -> None:
    for variant in ("plain", "masked"):
        batch = {**of_setting("pairs")(3, variant), "drift": torch.tensor(0.4, dtype=torch.float64)}

        def closed(t: Tensors) -> Tensor:
            chosen, rejected = log_ratios(t)
            away = []
            for i in range(t["labels"].shape[0]):
                kept = (t["labels"][i, 0] >= 0) & t["mask"][i, 0]
                if bool(kept.any()):
                    logp = -ce(t["logits"][i, 0][kept], t["labels"][i, 0][kept]).sum()
                    away.append((logp - t["ref_logp"][i, 0]).abs() / kept.sum())
            dpo = -torch.nn.functional.logsigmoid(0.2 * (chosen - rejected)).mean()
            return dpo + 0.4 * (torch.stack(away).mean() - 0.1)

        assert_equals(KL_BUDGET, batch, closed)
        assert_equals(KL_BUDGET, batch, closed, backend="c")


MAX_ENTROPY = """
\"\"\"Soft actor-critic with a temperature that is found: the best value at an entropy of at least so much.
Haarnoja et al. 2018.\"\"\"
objective entropy_bound
axis b : batch
axis action
input policy : logits[b, action]
data  q      : real[b, action]
param least : nonneg = 1.2

let pi = softmax[action](policy)

maximize
  value : mean[b](sum[action](pi * q))

subject to entropy : mean[b](-sum[action](pi * log(pi))) >= least
"""


def test_soft_actor_critic_with_an_entropy_bound() -> None:
    """The gradient is that of -E[q] + T E[log pi], T the multiplier."""
    batch = {"policy": 2 * uniform(5, 4, seed=3), "q": uniform(5, 4, seed=4), "entropy": torch.tensor(0.6, dtype=torch.float64)}

    def closed(t: Tensors) -> Tensor:
        pi = t["policy"].softmax(-1)
        entropy = -(pi * t["policy"].log_softmax(-1)).sum(-1).mean()
        return -(pi * t["q"]).sum(-1).mean() + 0.6 * (1.2 - entropy)

    for backend in ("reference", "torch", "c"):
        assert_equals(MAX_ENTROPY, batch, closed, backend=backend)


PER_GROUP = """
\"\"\"Every group within a bound: one multiplier for each group.\"\"\"
objective groups_within_a_bound
use std.settings.tokens
axis group
data g : label[b] in group

minimize
  nll : mean[b, t where mask](nll)

subject to fair per group : mean[b, t by g where mask](nll) <= 2
"""


def test_one_multiplier_for_each_group() -> None:
    multipliers = torch.tensor([0.3, 0.9, 0.5], dtype=torch.float64)
    batch = {**tokens(3, b=6), "g": torch.tensor([0, 2, 1, 1, 0, 2]), "fair": multipliers}

    def closed(t: Tensors) -> Tensor:
        losses = ce(t["logits"], t["labels"])
        total = losses[t["mask"]].mean()
        for group in range(3):
            rows = t["g"] == group
            total = total + float(t["fair"][group]) * (losses[rows][t["mask"][rows]].mean() - 2)
        return total

    assert_equals(PER_GROUP, batch, closed, sizes={"group": 3})
