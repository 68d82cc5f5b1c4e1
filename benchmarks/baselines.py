"""The objectives O1-O11 as a user writes them today: one library call a term, added up.

`TERMS` has a function of the batch for each objective, and `BATCHES` what makes a drawn batch likely. Logits in half
precision are computed in single precision, as the objectives do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

import lossc

Batch = dict[str, Tensor]


def _mean(x: Tensor, mask: Tensor) -> Tensor:
    return (x * mask).sum() / mask.sum()


def _nll(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    flat = functional.cross_entropy(
        logits.flatten(0, -2), labels.flatten(), reduction="none", label_smoothing=smoothing
    )
    return flat.view_as(labels)


def _z_loss(logits: Tensor) -> Tensor:
    return logits.logsumexp(-1) ** 2


def _entropy(logits: Tensor) -> Tensor:
    return torch.distributions.Categorical(logits=logits, validate_args=False).entropy()


def _kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(softmax p, softmax q) of each row."""
    return functional.kl_div(q.log_softmax(-1), p.log_softmax(-1), log_target=True, reduction="none").sum(-1)


def o1(batch: Batch) -> Tensor:
    return _mean(_nll(batch["logits"].float(), batch["labels"]), batch["mask"])


def o2(batch: Batch) -> Tensor:
    logits, mask = batch["logits"].float(), batch["mask"]
    return _mean(_nll(logits, batch["labels"], 0.1), mask) + 1e-4 * _mean(_z_loss(logits), mask)


def o3(batch: Batch) -> Tensor:
    return o2(batch) - 0.01 * _mean(_entropy(batch["logits"].float()), batch["mask"])


def o4(batch: Batch) -> Tensor:
    logits, teacher, mask = batch["logits"].float(), batch["teacher"].float(), batch["mask"]
    return _mean(_nll(logits, batch["labels"]), mask) + 4 * _mean(_kl(teacher / 2, logits / 2), mask)


def o5(batch: Batch) -> Tensor:
    logits, teacher, mask = batch["logits"].float(), batch["teacher"].float(), batch["mask"]
    both = 0.5 * _mean(_kl(teacher, logits), mask) + 0.5 * _mean(_kl(logits, teacher), mask)
    return both + 1e-4 * _mean(_z_loss(logits), mask)


def o6(batch: Batch) -> Tensor:
    logits, teacher, mask = batch["logits"].float(), batch["teacher"].float(), batch["mask"]
    p, q = teacher.softmax(-1), logits.softmax(-1)
    middle = ((p + q) / 2).log()
    parts = [functional.kl_div(middle, x.log_softmax(-1), log_target=True, reduction="none") for x in (teacher, logits)]
    js = (parts[0].sum(-1) + parts[1].sum(-1)) / 2
    return _mean(js, mask) + _mean(_nll(logits, batch["labels"]), mask)


def o7(batch: Batch) -> Tensor:
    labels, weight = batch["labels"], batch["weight"]
    nll = _nll(batch["logits"].float(), labels)
    focal = (1 - torch.exp(-nll)) ** 2 * nll
    weights = batch["token"] * weight[labels] * batch["mask"]
    return (weights * focal).sum() / weights.sum()


def o8(batch: Batch) -> Tensor:
    mask = batch["mask"]
    nll = _nll(batch["logits"].float(), batch["labels"])
    advantage = -(nll * mask).sum(-1) - batch["ref_logp"]
    preference = -functional.logsigmoid(0.1 * (advantage[:, 0] - advantage[:, 1])).mean()
    return preference + 0.2 * _mean(nll[:, 0], mask[:, 0])


def o10(batch: Batch) -> Tensor:
    mask = batch["mask"]
    nll = _nll(batch["logits"].float(), batch["labels"])
    average = (-(nll * mask).sum(-1) / mask.sum(-1)).clamp(max=-1e-7)
    odds = average - torch.log1p(-torch.exp(average))
    return _mean(nll[:, 0], mask[:, 0]) - 0.1 * functional.logsigmoid(odds[:, 0] - odds[:, 1]).mean()


def o11(batch: Batch) -> Tensor:
    logits, reference = batch["logits"].float(), batch["reference"].float()
    gain = ((_nll(reference, batch["labels"]) - _nll(logits, batch["labels"])) * batch["mask"]).sum(-1)
    return -functional.logsigmoid(0.1 * (gain[:, 0] - gain[:, 1])).mean()


def o9(batch: Batch) -> Tensor:
    logits, mask, reward = batch["logits"].float(), batch["mask"], batch["reward"]
    logp = -_nll(logits, batch["labels"])
    ratio = torch.exp(logp - batch["old_logp"])
    advantage = ((reward - reward.mean(-1, keepdim=True)) / (reward.std(-1, keepdim=True) + 1e-4)).unsqueeze(-1)
    policy = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.28) * advantage)
    distance = batch["ref_logp"] - logp
    k3 = torch.exp(distance) - distance - 1
    return _mean(policy, mask) + 0.04 * _mean(k3, mask) - 0.001 * _mean(_entropy(logits), mask)


def _near(batch: Batch) -> Batch:
    """Policies that differ from the trained one by some per cent."""
    logp = -_nll(batch["logits"].detach().float(), batch["labels"])
    noise = torch.sin(torch.arange(logp.numel(), dtype=logp.dtype)).view_as(logp)
    likely = {name: (logp + 0.1 * noise).to(batch[name].dtype) for name in ("old_logp", "ref_logp")}
    return {**batch, **likely}


def _long(batch: Batch) -> Batch:
    """Log-probabilities of whole sequences."""
    logp = -(_nll(batch["logits"].detach().float(), batch["labels"]) * batch["mask"]).sum(-1)
    return {**batch, "ref_logp": (logp + batch["ref_logp"].float()).to(batch["ref_logp"].dtype)}


TERMS: dict[str, Callable[[Batch], Tensor]] = {
    "o1_ce": o1,
    "o2_ce_smoothing_z": o2,
    "o3_ce_smoothing_z_entropy": o3,
    "o4_ce_distillation": o4,
    "o5_kl_both_ways_z": o5,
    "o6_js_ce": o6,
    "o7_focal_weighted": o7,
    "o8_dpo_nll": o8,
    "o9_grpo_k3_entropy": o9,
    "o10_orpo": o10,
    "o11_dpo_reference": o11,
}
BATCHES: dict[str, Callable[[Batch], Batch]] = {"o8_dpo_nll": _long, "o9_grpo_k3_entropy": _near}


def _linear_cross_entropy(batch: Batch) -> Tensor:
    """`torch.nn.functional.linear_cross_entropy` as it chunks by itself; rows that do not count have the ignored label."""
    target = torch.where(batch["mask"], batch["labels"], -100).flatten()
    options = torch.nn.LinearCrossEntropyOptions()
    return functional.linear_cross_entropy(
        batch["logits.hidden"].flatten(0, -2), batch["logits.weight"], target, ignore_index=-100, options=options
    )


def _stacked(x: Tensor) -> Tensor:
    """[pair, side, t, ...] as Liger takes it: all chosen sequences, then all rejected ones."""
    return x.transpose(0, 1).flatten(0, 1)


def _targets(batch: Batch) -> Tensor:
    return _stacked(torch.where(batch["mask"], batch["labels"], -100))


def _liger_orpo(batch: Batch) -> Tensor:
    """Liger's chunked ORPO, uncompiled."""
    from liger_kernel.chunked_loss import LigerFusedLinearORPOLoss

    found = LigerFusedLinearORPOLoss(compiled=False, beta=0.1)
    loss: Tensor = found(batch["logits.weight"], _stacked(batch["logits.hidden"]), _targets(batch))[0]
    return loss


def _liger_dpo(batch: Batch) -> Tensor:
    """Liger's chunked DPO, uncompiled; it takes the reference as a head, never as log-probabilities."""
    from liger_kernel.chunked_loss import LigerFusedLinearDPOLoss

    found = LigerFusedLinearDPOLoss(compiled=False, beta=0.1)
    reference = {"ref_input": _stacked(batch["reference.hidden"]), "ref_weight": batch["reference.weight"]}
    loss: Tensor = found(batch["logits.weight"], _stacked(batch["logits.hidden"]), _targets(batch), **reference)[0]
    return loss


def _given_reference() -> Callable[[Batch], Tensor]:
    """O11 by lossc, the log-probabilities of the reference worked out once, with the first pass over a batch."""
    file = str(Path(__file__).parent / "o11_dpo_reference.loss")
    objective = cache(lambda: lossc.load(file, backend="c", check_labels=False))
    known: dict[int, Tensor] = {}

    def loss(batch: Batch) -> Tensor:
        key = id(batch["reference.hidden"])
        if key not in known:
            known[key] = _log_likelihood(batch)
        policy = lossc.Linear(batch["logits.hidden"], batch["logits.weight"])
        found = objective()(logits=policy, ref_logp=known[key], labels=batch["labels"], mask=batch["mask"])
        return found.loss

    return loss


def _log_likelihood(batch: Batch) -> Tensor:
    """Of whole sequences under the reference, a few rows at a time: what a pass needs is not to be hidden by it."""
    weight, labels = batch["reference.weight"].detach(), batch["labels"]
    pieces = zip(batch["reference.hidden"].detach().flatten(0, -2).split(32), labels.flatten().split(32), strict=True)
    nll = torch.cat([_nll((hidden @ weight.T).float(), own) for hidden, own in pieces])
    return -(nll.view_as(labels) * batch["mask"]).sum(-1)


LINEAR: dict[str, dict[str, Callable[[Batch], Tensor]]] = {
    "lce": {"o1_ce": _linear_cross_entropy},
    "liger": {"o10_orpo": _liger_orpo, "o11_dpo_reference": _liger_dpo},
    "given": {"o11_dpo_reference": _given_reference()},
}
"""What other libraries have for an objective over a linear head, by variant and objective; `hidden` and `weight` are given."""
