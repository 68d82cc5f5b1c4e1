"""Closed forms of the family `continual`, each from the formula of its paper."""

from __future__ import annotations

import torch
from tests.oracles.batches import classes, tokens, uniform
from tests.oracles.rows import kept
from tests.specs.variants import hidden, ignored
from tests.zoo.harness import Objective, Tensors, of_setting, oracle
from tests.zoo.oracles.attacks import network
from tests.zoo.oracles.regularizer import initial
from torch import Tensor


def task_and_text(seed: int, variant: str) -> Tensors:
    """A label for each text, and the tokens of the text."""
    b, t, v = (1, 3, 11) if variant == "odd" else (3, 5, 7)
    streams = {"task": classes(seed, b), "lm": tokens(seed + 10, b, t, v)}
    if variant == "masked":
        streams = {name: hidden(ignored(inner)) for name, inner in streams.items()}
    return {f"{stream}.{name}": x for stream, inner in streams.items() for name, x in inner.items()}


def after_a_quarter(objective: Objective, tensors: Tensors) -> None:
    objective.total_steps = 8
    for _ in range(2 - objective.step):
        objective.advance()


@oracle("siatl", batch=task_and_text, params=[{}, {"gamma_0": 1, "gamma_1": 0.5}], prepare=after_a_quarter)
def siatl(tensors: Tensors, gamma_0: float = 0.2, gamma_1: float = 0.02) -> Tensor:
    """CE of the task + gamma(t) CE of the text,  log gamma linear from gamma_0 to gamma_1; here at a quarter."""
    rows = tensors["task.labels"] >= 0
    task = torch.nn.functional.cross_entropy(tensors["task.logits"][rows], tensors["task.labels"][rows])
    keep = kept(tensors["lm.labels"], tensors["lm.mask"])
    text = torch.nn.functional.cross_entropy(tensors["lm.logits"][keep], tensors["lm.labels"][keep])
    return task + gamma_0**0.75 * gamma_1**0.25 * text


def with_importance(tensors: Tensors, seed: int) -> Tensors:
    net = network(3, 5)
    importance = {n: uniform(*w.shape, seed=seed + 60 + at) ** 2 for at, (n, w) in enumerate(net.named_parameters())}
    return {"theta": net, "theta_0": initial(net, seed + 50), "Omega": importance}


@oracle("hierarchical", batch=of_setting("tokens", with_importance), params=[{}, {"lambda": 0.1}])
def hierarchical(tensors: Tensors, **others: float) -> Tensor:
    """CE + lambda sum_l gamma_l sum_i Omega_li (theta_li - theta0_li)^2,  gamma_l = |Omega_l| / sum_l |Omega_l|."""
    keep = kept(tensors["labels"], tensors["mask"])
    task = torch.nn.functional.cross_entropy(tensors["logits"][keep], tensors["labels"][keep])
    omega, old = tensors["Omega"], tensors["theta_0"]
    whole = sum(importance.square().sum().sqrt() for importance in omega.values())
    ties = [
        omega[name].square().sum().sqrt() / whole * (omega[name] * (theta - old[name]) ** 2).sum()
        for name, theta in tensors["theta"].named_parameters()
    ]
    return task + others.get("lambda", 1) * sum(ties)
