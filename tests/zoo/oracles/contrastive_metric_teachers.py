"""Closed forms of the family `contrastive_metric` that learn from a teacher instead of from negatives."""

from __future__ import annotations

import torch
from tests.oracles.batches import uniform
from tests.zoo.harness import Tensors, oracle
from torch import Tensor


def views(seed: int, variant: str) -> Tensors:
    """The centres are somewhere on their way; masked, one view has no masked patch."""
    b, patch, k = (1, 1, 2) if variant == "odd" else (3, 4, 5)
    masked = uniform(b, 2, patch, seed=seed) > 0
    masked[..., 0] = True
    z = 2 * uniform(b, 2, patch, k, seed=seed + 1)
    if variant == "masked":
        masked[1, 0] = False
        z = torch.where(masked[..., None], z, torch.nan)
    return {"z": z, "summary": 2 * uniform(b, 2, k, seed=seed + 2), "teacher_z": uniform(b, 2, patch, k, seed=seed + 3),
            "teacher_summary": uniform(b, 2, k, seed=seed + 4), "masked": masked, "centre": uniform(k, seed=seed + 5) / 4,
            "summary_centre": uniform(k, seed=seed + 6) / 4}  # fmt: skip


@oracle("ibot", batch=views, load={"sizes": {"k": 5}}, params=[{}], variants=("plain", "masked"), steps=6)
def ibot(tensors: Tensors, tau_s: float = 0.1, tau_t: float = 0.04) -> Tensor:
    """-sum P' log P at each masked patch, and of the summary of each view with that of the other."""

    def entropy(scores: Tensor, teacher: Tensor, centre: Tensor) -> Tensor:
        return -(((teacher - centre) / tau_t).softmax(-1) * (scores / tau_s).log_softmax(-1)).sum(-1)

    patches, summaries = [], []
    for row in range(len(tensors["masked"])):
        for view in range(2):
            at = tensors["masked"][row, view]
            if at.any():
                z, teacher_z = (tensors[name][row, view][at] for name in ("z", "teacher_z"))
                patches.append(entropy(z, teacher_z, tensors["centre"]).mean())
            other = tensors["teacher_summary"][row, 1 - view]
            summaries.append(entropy(tensors["summary"][row, view], other, tensors["summary_centre"]))
    return torch.stack(patches).mean() + torch.stack(summaries).mean()
