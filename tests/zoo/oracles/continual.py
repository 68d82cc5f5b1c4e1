"""Closed forms of the family `continual`, each from the formula of its paper."""

from __future__ import annotations

import math

import torch
from tests.oracles.batches import classes, integers, scores, tokens, uniform
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


def discovered(seed: int, variant: str) -> Tensors:
    """Two views of images, some without a label; some of those are predicted surely, as a known class or as a new one."""
    b, v, d = (2, 7, 5) if variant == "odd" else (6, 7, 4)
    labels = integers(b, high=5, seed=seed + 2)
    labels[1::2] = -1
    cosines = uniform(b, 2, v, seed=seed) / 5
    cosines[1, 0, 2] = 0.95
    cosines[-1, 1, 6] = 0.95
    labels[2:3] = labels[0]
    moved = (1 + uniform(v, seed=seed + 3) / 2) / v
    return {"logits": cosines, "z": uniform(b, 2, d, seed=seed + 1), "labels": labels, "q": moved / moved.sum()}


@oracle(
    "lego_gcd", batch=discovered, params=[{}, {"lambda": 0.5, "epsilon": 1, "threshold": 0.2}],
    variants=("plain", "odd"), load={"sizes": {"v": 7}},
)  # fmt: skip
def lego_gcd(tensors: Tensors, epsilon: float = 2, threshold: float = 0.7, **others: float) -> Tensor:
    """(1 - l) (distil + KL + eps (log K - H) + InfoNCE) + l (CE + SupCon) + 2 LER, at the first step."""
    weight, z, y = others.get("lambda", 0.35), tensors["logits"], tensors["labels"]
    one, two = z[:, 0] / 0.1, z[:, 1] / 0.1
    sharp = (z / 0.07).softmax(-1).detach()
    distil = -(sharp[:, 1] * one.log_softmax(-1) + sharp[:, 0] * two.log_softmax(-1)).sum(-1).mean() / 2
    dkl = (one.softmax(-1) * (one.log_softmax(-1) - two.log_softmax(-1))).sum(-1).mean()
    average = torch.cat([one, two]).softmax(-1).mean(0)
    spread = math.log(7) + (average * average.log()).sum()
    x = torch.nn.functional.normalize(torch.cat([tensors["z"][:, 0], tensors["z"][:, 1]]), dim=-1)
    sim, n = x @ x.T, len(y)
    nce = [sim[i, [j for j in range(2 * n) if j != i]].logsumexp(-1) - sim[i, (i + n) % (2 * n)] for i in range(2 * n)]
    there = [i for i in range(2 * n) if int(y[i % n]) >= 0]
    contrast = []
    for i in there:
        others_ = [j for j in there if j != i]
        kin = [j for j in others_ if int(y[j % n]) == int(y[i % n])]
        contrast.append((sim[i, others_] / 0.07).logsumexp(-1) - (sim[i, kin] / 0.07).mean())
    rows = y >= 0
    hard = torch.nn.functional.cross_entropy(torch.cat([one[rows], two[rows]]), torch.cat([y[rows], y[rows]]))
    ler = []
    for view in (one, two):
        for row, label in zip(view, y.tolist(), strict=True):
            p = row.softmax(-1)
            if label < 0 and float(p.detach().max()) >= threshold and int(p.argmax()) < 5:
                adjusted = 2 * row + 0.4 * tensors["q"].log()
                ler.append(-((2 * row).softmax(-1) * adjusted.log_softmax(-1)).sum())
    free = distil + dkl + epsilon * spread + torch.stack(nce).mean()
    return (1 - weight) * free + weight * (hard + torch.stack(contrast).mean()) + 2 * sum(ler) / (2 * n)


def with_old_classes(tensors: Tensors, seed: int) -> Tensors:
    """The scores of the old classifier, which has none for new classes, and the weights of the last layer."""
    b, v = tensors["logits"].shape
    teacher = scores(b, v, seed=seed + 3)
    teacher[:, 5:] = torch.nan
    return {"teacher": teacher, "W": uniform(v, 4, seed=seed + 4)}


@oracle("wa", batch=of_setting("classes", with_old_classes), params=[{}, {"T": 1}])
def wa(tensors: Tensors, T: float = 2) -> Tensor:  # noqa: N803
    """lambda KD over the old classes + (1 - lambda) CE over all,  lambda = old / (old + new)."""
    z, rows = tensors["logits"], tensors["labels"] >= 0
    keep = -((tensors["teacher"][:, :5] / T).softmax(-1) * (z[:, :5] / T).log_softmax(-1)).sum(-1).mean()
    learn = torch.nn.functional.cross_entropy(z[rows], tensors["labels"][rows])
    share = 5 / z.shape[-1]
    return share * keep + (1 - share) * learn
