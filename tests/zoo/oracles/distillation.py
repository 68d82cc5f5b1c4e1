"""Closed forms of the family `distillation`, each from the formula of its paper, row by row."""

from __future__ import annotations

import torch
from tests.oracles.batches import scores, uniform
from tests.oracles.rows import mean
from tests.zoo.harness import Objective, Tensors, of_setting, oracle
from torch import Tensor


def with_teacher(tensors: Tensors, seed: int) -> Tensors:
    return {"teacher": scores(*tensors["logits"].shape, seed=seed + 5)}


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL of two softmaxes, of each row."""
    return (p.softmax(-1) * (p.log_softmax(-1) - q.log_softmax(-1))).sum(-1)


def entropy(z: Tensor) -> Tensor:
    return -(z.softmax(-1) * z.log_softmax(-1)).sum(-1)


@oracle("pld", batch=of_setting("classes", with_teacher), params=[{}, {"T": 3}], stays="sort")
def pld(tensors: Tensors, T: float = 1) -> Tensor:  # noqa: N803
    """sum_k q_T[pi_k] (logsumexp_{j >= k} s[pi_j] - s[pi_k]), pi = the label and then the others as the teacher ranks."""
    losses = []
    for s, t, y in zip(tensors["logits"], tensors["teacher"], tensors["labels"].tolist(), strict=True):
        if y < 0:
            continue
        q = (t / T).softmax(-1)
        others = [k for k in t.argsort(descending=True).tolist() if k != y]
        ranking = [y, *others]
        losses.append(sum(q[k] * (s[ranking[i:]].logsumexp(-1) - s[k]) for i, k in enumerate(ranking)))
    return torch.stack(losses).mean()


@oracle("bd_kd", batch=of_setting("classes", with_teacher), params=[{}, {"weak": 0, "tau": 2, "b_tie": 0.5}])
def bd_kd(tensors: Tensors, strong: float = 2, weak: float = 1, b_tie: float = 1, tau: float = 1) -> Tensor:
    """CE + tau^2 (a1 KL(t, s) + a2 KL(s, t)) of the student, CE + b tau^2 KL(t, s) of the teacher."""
    rows = tensors["labels"] >= 0
    s, t, y = tensors["logits"] / tau, tensors["teacher"] / tau, tensors["labels"][rows]
    uncertain = (entropy(t) > entropy(s)).detach()
    forward = torch.where(uncertain, weak, strong)
    reverse = torch.where(uncertain, strong, weak)
    student = forward * kl(t.detach(), s) + reverse * kl(s, t.detach())
    teacher = b_tie * kl(t, s.detach())
    hard = [torch.nn.functional.cross_entropy(tensors[name][rows], y) for name in ("logits", "teacher")]
    return sum(hard) + tau**2 * (student.mean() + teacher.mean())


def with_vectors(tensors: Tensors, seed: int) -> Tensors:
    b, v = tensors["logits"].shape
    vectors = {"s": uniform(b, 4, seed=seed + 6), "t": uniform(b, 4, seed=seed + 7)}
    return {**with_teacher(tensors, seed), **vectors, "centre": uniform(v, 4, seed=seed + 8)}


def quarter(objective: Objective, tensors: Tensors) -> None:
    """Brings the run to a quarter of the warm-up."""
    for _ in range(250 - objective.step):
        objective.advance()


@oracle("nd", batch=of_setting("classes", with_vectors), params=[{}, {"T": 2, "lambda": 0.5}], prepare=quarter)
def nd(tensors: Tensors, T: float = 4, **others: float) -> Tensor:  # noqa: N803
    """CE + 0.25 T^2 KL(teacher, student) + lambda (1 - <s, e_y> / max(|s|, |t|)),  e_c = c / |c|."""
    rows = tensors["labels"] >= 0
    y = tensors["labels"][rows]
    hard = torch.nn.functional.cross_entropy(tensors["logits"][rows], y)
    soft = 0.25 * T**2 * kl(tensors["teacher"] / T, tensors["logits"] / T).mean()
    s, t, c = tensors["s"][rows], tensors["t"][rows], tensors["centre"][y]
    along = (s * c / c.norm(dim=-1, keepdim=True)).sum(-1)
    longer = torch.maximum(s.norm(dim=-1), t.norm(dim=-1))
    return hard + soft + others.get("lambda", 2) * mean(1 - along / longer)
