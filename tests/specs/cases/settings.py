"""Cases of the named quantities of the settings, each minimised on its own, and of common combinations."""

from __future__ import annotations

import torch
from tests.oracles import settings
from tests.oracles.batches import Batch
from tests.oracles.ce import ce, focal, label_smoothing
from tests.oracles.divergence import distill
from tests.oracles.preference import npo
from tests.oracles.rows import mean
from tests.specs.cases.model import Case, at_labels, at_tokens
from tests.specs.cases.preference import ratios
from torch import Tensor


def sequence_means(batch: Batch) -> Tensor:
    """mean[b](mean[t where mask](nll)): each sequence that has a token counts once."""
    rows = [
        settings.token_nll(batch["logits"][i], batch["labels"][i], batch["mask"][i])
        for i in range(batch["labels"].shape[0])
    ]
    means = [row.mean() for row in rows if row.numel()]
    return torch.stack(means).mean() if means else 0 * batch["logits"][:0].sum()


def unlearning(batch: Batch) -> Tensor:
    streams = [
        {name.removeprefix(f"{stream}."): x for name, x in batch.items() if name.startswith(stream)}
        for stream in ("forget", "retain")
    ]
    forget, retain = streams
    values = [npo(ratio) for _, ratio in ratios(forget)]
    first = mean(torch.stack(values)) if values else 0 * forget["logits"][:0].sum()
    return first + mean(settings.token_nll(retain["logits"], retain["labels"], retain["mask"]))


def distil_and_ce(batch: Batch) -> Tensor:
    kd, nll = at_tokens(distill, "logits", "teacher")(batch), at_labels(ce, "logits", "labels")(batch)
    return 0.5 * kd + 0.5 * nll


def minus_p_true(z: Tensor, y: Tensor) -> Tensor:
    return -(-ce(z, y)).exp()


def focal_and_smoothing(batch: Batch) -> Tensor:
    return at_labels(focal, "logits", "labels")(batch) + 0.5 * at_labels(label_smoothing, "logits", "labels")(batch)


CASES = (
    Case("nll of classes", "classes", "mean[b](nll)", at_labels(ce, "logits", "labels")),
    Case("p_true of classes", "classes", "mean[b](-p_true)", at_labels(minus_p_true, "logits", "labels")),
    Case("nll of tokens", "tokens", "mean[b, t where mask](nll)", at_labels(ce, "logits", "labels")),
    Case("each sequence once", "tokens", "mean[b](mean[t where mask](nll))", sequence_means),
    Case(
        "distillation and cross-entropy",
        "distill",
        "0.5 * mean[b, t where mask](distill()) + 0.5 * mean[b, t where mask](nll)",
        distil_and_ce,
        uses="distill (distill)",
    ),
    Case(
        "focal and smoothing",
        "classes",
        "mean[b](focal()) + 0.5 * mean[b](label_smoothing())",
        focal_and_smoothing,
        uses="ce (focal, label_smoothing)",
    ),
    Case(
        "forget and retain",
        "forget_retain",
        "mean[forget.b](npo(forget.ratio)) + mean[retain.b, retain.t where retain.mask](retain.nll)",
        unlearning,
        uses="preference (npo)",
    ),
)
