"""The named quantities of the settings, one sequence at a time: what is absent (None) is left out, never multiplied.

`nll` of a token is read at its label; a token without a label is absent. A sum over admitted tokens of which every one
is absent is absent; a sum over no token is 0.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from tests.oracles.ce import ce
from tests.oracles.rows import kept
from torch import Tensor


def token_nll(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """The cross-entropy of the admitted tokens that have a label, as one flat vector."""
    keep = kept(labels, mask)
    return ce(logits[keep], labels[keep])


def sequence_logp(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor | None:
    """log p of one sequence: sum over the admitted tokens; None where admitted tokens exist but none has a label."""
    if bool(mask.any()) and not bool(kept(labels, mask).any()):
        return None
    return -token_nll(logits, labels, mask).sum()


def sequence_length(labels: Tensor, mask: Tensor) -> int:
    """The number of tokens in the log-probability."""
    return int(kept(labels, mask).sum())


def pair_logps(logits: Tensor, labels: Tensor, mask: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(pair, log p chosen, log p rejected) of the pairs in which both are present."""
    for i in range(labels.shape[0]):
        sides = [sequence_logp(logits[i, s], labels[i, s], mask[i, s]) for s in (0, 1)]
        if sides[0] is not None and sides[1] is not None:
            yield i, sides[0], sides[1]


def margins(logits: Tensor, labels: Tensor, mask: Tensor, ref_logp: Tensor) -> Tensor:
    """(log p - log ref) of chosen minus that of rejected, for each pair that is present."""
    rows = [w - ref_logp[i, 0] - (r - ref_logp[i, 1]) for i, w, r in pair_logps(logits, labels, mask)]
    return torch.stack(rows) if rows else logits[:0].flatten()


def averages(logits: Tensor, labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Average log-probabilities a token of chosen and of rejected."""
    chosen, rejected = [], []
    for i, w, r in pair_logps(logits, labels, mask):
        chosen.append(w / max(sequence_length(labels[i, 0], mask[i, 0]), 1))
        rejected.append(r / max(sequence_length(labels[i, 1], mask[i, 1]), 1))
    return (torch.stack(chosen), torch.stack(rejected)) if chosen else (logits[:0].flatten(), logits[:0].flatten())


def sft(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """The mean cross-entropy a chosen token."""
    values = token_nll(logits[:, 0], labels[:, 0], mask[:, 0])
    return values.sum() / max(values.numel(), 1)


def advantages(reward: Tensor) -> Tensor:
    """(r - mean) / (std + 1e-4) within each group of samples, the standard deviation with n - 1 (Shao et al. 2024)."""
    return (reward - reward.mean(-1, keepdim=True)) / (reward.std(-1, keepdim=True) + 1e-4)
