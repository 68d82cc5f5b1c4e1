"""Batches for every setting, the same on every machine: an integer generator in Python, no torch random state."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Batch = dict[str, Tensor]

_MULTIPLIER, _INCREMENT, _MODULUS = 6364136223846793005, 1442695040888963407, 1 << 64


def uniform(*shape: int, seed: int) -> Tensor:
    """Numbers in (-1, 1), fp64, from a 64-bit linear congruential generator."""
    state, values = (seed * 2654435761 + 97) % _MODULUS, []
    for _ in range(math.prod(shape) + 3):
        state = (state * _MULTIPLIER + _INCREMENT) % _MODULUS
        values.append((state >> 11) / float(1 << 52) - 1)
    return torch.tensor(values[3:], dtype=torch.float64).reshape(shape)


def scores(*shape: int, seed: int) -> Tensor:
    """Logits between -3 and 3."""
    return 3 * uniform(*shape, seed=seed)


def integers(*shape: int, high: int, seed: int) -> Tensor:
    """Labels in [0, high)."""
    return ((uniform(*shape, seed=seed) + 1) / 2 * high).long().clamp(0, high - 1)


def lengths_mask(*shape: int, seed: int) -> Tensor:
    """A mask that admits a first part of at least one entry along the last dimension."""
    extent = shape[-1]
    lengths = 1 + integers(*shape[:-1], high=extent, seed=seed)
    return torch.arange(extent) < lengths.unsqueeze(-1)


def logps(*shape: int, seed: int, size: float = 1.0) -> Tensor:
    """Log-probabilities around `-2 size`."""
    return size * (uniform(*shape, seed=seed) - 2)


def tokens(seed: int = 0, b: int = 3, t: int = 5, v: int = 7) -> Batch:
    return {
        "logits": scores(b, t, v, seed=seed),
        "labels": integers(b, t, high=v, seed=seed + 1),
        "mask": lengths_mask(b, t, seed=seed + 2),
    }


def pairs(seed: int = 0, pair: int = 3, t: int = 5, v: int = 7) -> Batch:
    return {
        "logits": scores(pair, 2, t, v, seed=seed),
        "labels": integers(pair, 2, t, high=v, seed=seed + 1),
        "mask": lengths_mask(pair, 2, t, seed=seed + 2),
        "ref_logp": logps(pair, 2, seed=seed + 3, size=t),
    }


def unpaired(seed: int = 0, b: int = 5, t: int = 4, v: int = 7) -> Batch:
    return {
        **tokens(seed, b, t, v),
        "ref_logp": logps(b, seed=seed + 3, size=t),
        "desirable": uniform(b, seed=seed + 4) > 0,
        "kl_logp": logps(b, seed=seed + 5, size=t),
        "kl_ref_logp": logps(b, seed=seed + 6, size=t),
    }


def rollouts(seed: int = 0, q: int = 2, sample: int = 3, t: int = 4, v: int = 5) -> Batch:
    logits = scores(q, sample, t, v, seed=seed)
    labels = integers(q, sample, t, high=v, seed=seed + 1)
    logp = logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return {
        "logits": logits,
        "labels": labels,
        "mask": lengths_mask(q, sample, t, seed=seed + 2),
        "old_logp": logp + 0.4 * uniform(q, sample, t, seed=seed + 3),
        "ref_logp": logp + uniform(q, sample, t, seed=seed + 4),
        "reward": uniform(q, sample, seed=seed + 5),
    }


def distill(seed: int = 0, b: int = 3, t: int = 5, v: int = 7) -> Batch:
    return {**tokens(seed, b, t, v), "teacher": scores(b, t, v, seed=seed + 3)}


def classes(seed: int = 0, b: int = 5, v: int = 7) -> Batch:
    return {"logits": scores(b, v, seed=seed), "labels": integers(b, high=v, seed=seed + 1)}


def regression(seed: int = 0, b: int = 5, k: int = 3) -> Batch:
    return {"pred": 2 * uniform(b, k, seed=seed), "target": 2 * uniform(b, k, seed=seed + 1)}


def embeddings(seed: int = 0, b: int = 5, d: int = 3) -> Batch:
    return {"x": uniform(b, d, seed=seed), "y": uniform(b, d, seed=seed + 1)}


def forget_retain(seed: int = 0, b: int = 3, t: int = 4, v: int = 7) -> Batch:
    streams = {"forget": tokens(seed, b, t, v), "retain": tokens(seed + 10, b + 1, t + 1, v)}
    batch = {f"{stream}.{name}": x for stream, inner in streams.items() for name, x in inner.items()}
    batch["forget.ref_logp"] = logps(b, seed=seed + 20, size=t)
    batch["retain.ref_logp"] = logps(b + 1, seed=seed + 21, size=t)
    return batch


SETTINGS: dict[str, Callable[..., Batch]] = {
    "tokens": tokens,
    "pairs": pairs,
    "unpaired": unpaired,
    "rollouts": rollouts,
    "distill": distill,
    "classes": classes,
    "regression": regression,
    "embeddings": embeddings,
    "forget_retain": forget_retain,
}

INPUTS = {"logits", "forget.logits", "retain.logits", "pred", "x", "y"}
"""The tensors that carry gradient; every other one is data."""
