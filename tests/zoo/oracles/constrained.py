"""Closed forms of the family `constrained`: the Lagrangian under given multipliers."""

from __future__ import annotations

import torch
from tests.oracles.batches import integers, uniform
from tests.oracles.ce import ce
from tests.oracles.rows import kept, mean
from tests.zoo.harness import Tensors, of_setting, oracle
from tests.zoo.oracles.rlhf_policy import clipped, token_logp
from torch import Tensor

EXAMPLES = 9


def numbered(batch: Tensors, seed: int) -> Tensors:
    """Which example each row is, one of them twice, and a multiplier for each example."""
    multipliers = (uniform(EXAMPLES, seed=seed + 5) + 1) / 2
    return {"id": integers(batch["labels"].shape[0], high=EXAMPLES, seed=seed + 4), "feasible": multipliers}


@oracle(
    "feasible_learning", batch=of_setting("classes", numbered), params=[{}, {"eps": 1.7}],
    load={"sizes": {"example": EXAMPLES}, "multiplier_lr": 1e-3}, rate=0.1,
)  # fmt: skip
def feasible_learning(tensors: Tensors, eps: float = 0.5) -> Tensor:
    """sum_i lambda_i (l_i - eps) over the examples of the batch that have a label."""
    there = tensors["labels"] >= 0
    losses = ce(tensors["logits"][there], tensors["labels"][there])
    multipliers = tensors["feasible"][tensors["id"][there]]
    return (multipliers.detach() * (losses - eps)).sum() if bool(there.any()) else torch.zeros(()).double()


def several_rewards(batch: Tensors, seed: int) -> Tensors:
    """Advantages of the divergence and of three reward models, their rewards, and what the multipliers are made of."""
    mask = batch["mask"]
    return {
        "A_0": uniform(*mask.shape, seed=seed + 5), "A": uniform(*mask.shape, 3, seed=seed + 6),
        "J": uniform(*mask.shape[:2], 3, seed=seed + 7), "l": uniform(3, seed=seed + 8),
    }  # fmt: skip


@oracle(
    "mu_ppo", batch=of_setting("rollouts", several_rewards), params=[{}, {"form": "equality", "eps": 0.1}],
    load={"sizes": {"rm": 3}},
)  # fmt: skip
def mu_ppo(tensors: Tensors, form: str = "inequality", eps: float = 0.2) -> Tensor:
    """The clipped loss of (N - sum mu) A_0 + sum mu_i A_i, and sum_i mu_i (J_i - theta_i) with theta = 0."""
    mu = tensors["l"].sigmoid() if form == "inequality" else tensors["l"].tanh()
    fixed = mu.detach().tolist()
    mixed = (3 - sum(fixed)) * tensors["A_0"] + sum(m * tensors["A"][..., i] for i, m in enumerate(fixed))
    keep = kept(tensors["labels"], tensors["mask"])
    policy = clipped(token_logp(tensors, keep) - tensors["old_logp"][keep], mixed[keep], eps, eps)
    return mean(policy) + (mu * tensors["J"].mean((0, 1))).sum()
