"""What real batches do to a loss: hidden garbage, ignored labels, ties, extremes. Each variant changes a plain batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tests.oracles.batches import Batch
from torch import Tensor

TOKEN_TENSORS = ("logits", "teacher", "q", "hits", "old_logp", "ref_logp")


def _streams(batch: Batch) -> list[str]:
    """The prefixes of the streams of a batch: one empty prefix, or `forget.` and `retain.`."""
    return sorted({name.rpartition(".")[0] + "." for name in batch if "." in name}) or [""]


def hidden(batch: Batch) -> Batch:
    """NaN and infinity wherever the mask admits nothing."""
    changed = dict(batch)
    for stream in _streams(batch):
        mask = batch.get(f"{stream}mask")
        if mask is None:
            continue
        for name in TOKEN_TENSORS:
            x = batch.get(stream + name)
            if x is not None and x.shape[: mask.dim()] == mask.shape:
                outside = ~mask.reshape(*mask.shape, *(1,) * (x.dim() - mask.dim()))
                garbage = torch.where(torch.arange(x.numel()).reshape(x.shape) % 2 == 0, torch.nan, torch.inf)
                changed[stream + name] = torch.where(outside, garbage.to(x.dtype), x)
    return changed


def ignored(batch: Batch) -> Batch:
    """Every third label is none, spelled -1 or -100, and what would be read there is NaN."""
    changed = dict(batch)
    for stream in _streams(batch):
        labels = batch.get(f"{stream}labels")
        if labels is None:
            continue
        position = torch.arange(labels.numel()).reshape(labels.shape)
        changed[f"{stream}labels"] = torch.where(position % 3 == 1, torch.where(position % 2 == 0, -1, -100), labels)
    return changed


def all_ignored(batch: Batch) -> Batch:
    """No label and no admitted token anywhere."""
    changed = dict(batch)
    for stream in _streams(batch):
        for name, nothing in (("labels", -100), ("mask", False)):
            if stream + name in batch:
                changed[stream + name] = torch.full_like(batch[stream + name], nothing)
    return changed


def unlabelled(batch: Batch) -> Batch:
    """Admitted tokens of which none has a label."""
    changed = dict(batch)
    for stream in _streams(batch):
        if f"{stream}labels" in batch:
            changed[f"{stream}labels"] = torch.full_like(batch[f"{stream}labels"], -100)
    return changed


def ties(batch: Batch) -> Batch:
    """Scores rounded to whole numbers, so that many are equal; half of the targets are met exactly."""
    changed = {name: _rounded(name, x) for name, x in batch.items()}
    if "target" in batch:
        met = torch.arange(batch["target"].numel()).reshape(batch["target"].shape) % 2 == 0
        changed["target"] = torch.where(met, changed["pred"], changed["target"])
    return changed


def _rounded(name: str, x: Tensor) -> Tensor:
    whole = ("logits", "teacher", "pred", "target", "p", "q")
    scores = name.rpartition(".")[2] in whole and x.is_floating_point() and not bool((x.sum(-1) - 1).abs().max() < 1e-9)
    return x.round() if scores else x


def nearly_equal(batch: Batch) -> Batch:
    """A teacher that agrees with the student to seven digits, and two distributions that do so with each other."""
    changed = dict(batch)
    for name, other in (("teacher", "logits"), ("q", "p")):
        if name in batch and other in batch:
            changed[name] = batch[other] + 1e-7 * (batch[name] - batch[other])
    return changed


def extreme(batch: Batch) -> Batch:
    """Scores of +-1e4."""
    scores = ("logits", "teacher", "p", "q", "pred")
    return {
        name: x * 3e3 if name.rpartition(".")[2] in scores and float(x.abs().max()) > 1 else x
        for name, x in batch.items()
    }


VARIANTS: dict[str, Callable[[Batch], Batch]] = {
    "plain": lambda batch: batch,
    "hidden": hidden,
    "ignored": ignored,
    "all ignored": all_ignored,
    "unlabelled": unlabelled,
    "ties": ties,
    "nearly equal": nearly_equal,
}
"""The variants under which a loss must equal its closed form."""


def matters(variant: str, batch: Batch) -> bool:
    """Whether a variant changes anything in a batch; the plain one always counts."""
    changed = VARIANTS[variant](batch)
    return variant == "plain" or any(not torch.equal(changed[name], x) for name, x in batch.items())
