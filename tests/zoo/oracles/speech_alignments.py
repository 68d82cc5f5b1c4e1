"""Closed forms of the family `speech` that sum over alignments, path by path, and of self-supervised speech."""

from __future__ import annotations

from itertools import combinations, combinations_with_replacement

import torch
from tests.oracles.batches import integers, uniform
from tests.zoo.harness import Tensors, oracle
from torch import Tensor

cosine_similarity = torch.nn.functional.cosine_similarity


def lattices(seed: int, variant: str) -> Tensors:
    """Utterances of several lengths, one that says nothing; masked, one without frames too."""
    lengths, words = ([2], [1]) if variant == "odd" else ([3, 2, 3, 1], [2, 3, 0, 1])
    b, t, u, v = len(words), 3, 4, 4
    z, frames = 2 * uniform(b, t, u, v, seed=seed), torch.arange(t) < torch.tensor(lengths)[:, None]
    y = torch.where(torch.arange(u) < torch.tensor(words)[:, None], 1 + integers(b, u, high=v - 1, seed=seed + 1), -1)
    if variant == "masked":
        frames[1] = False
        z = torch.where(frames[..., None, None], z, torch.nan)
        z[0, :, 3] = torch.nan
    return {"z": z, "y": y, "frames": frames}


@oracle("transducer", batch=lattices, steps=6)
def transducer(tensors: Tensors) -> Tensor:
    """-log of the sum over all orders of the labels and the blanks, of which the last is a blank."""
    losses = []
    for z, y, frames in zip(tensors["z"], tensors["y"], tensors["frames"], strict=True):
        last, labels = int(frames.sum()), y[y >= 0].tolist()
        paths = []
        for places in combinations(range(last - 1 + len(labels)), len(labels)):
            t = u = 0
            logp = torch.zeros((), dtype=z.dtype)
            for step in range(last + len(labels)):
                emitted = labels[u] if step in places else 0
                logp = logp + z[t, u].log_softmax(-1)[emitted]
                t, u = (t, u + 1) if step in places else (t + 1, u)
            paths.append(logp)
        if last:
            losses.append(-torch.stack(paths).logsumexp(0))
    return torch.stack(losses).mean()


def spoken(seed: int, variant: str) -> Tensors:
    lengths, words = ([3], [1]) if variant == "odd" else ([5, 4, 3], [3, 4, 1])
    b, t, n = len(words), 5, 4
    frames, tokens = (torch.arange(size) < torch.tensor(x)[:, None] for size, x in ((t, lengths), (n, words)))
    z = 2 * uniform(b, t, n, seed=seed)
    if variant == "masked":
        frames[2] = False
        z = torch.where(frames[:, :, None] & tokens[:, None, :], z, torch.nan)
    return {"z": z, "frames": frames, "tokens": tokens}


@oracle("forward_sum", batch=spoken, steps=6)
def forward_sum(tensors: Tensors) -> Tensor:
    """-log of the sum over all monotonic alignments, each given by the frames at which a token begins."""
    losses = []
    for z, frames, tokens in zip(tensors["z"], tensors["frames"], tensors["tokens"], strict=True):
        t, n = int(frames.sum()), int(tokens.sum())
        if not t:
            continue
        p = z[:t, :n].log_softmax(-1)
        aligned = [path for path in combinations_with_replacement(range(n), t) if set(path) == set(range(n))]
        losses.append(-torch.stack([p[torch.arange(t), list(path)].sum() for path in aligned]).logsumexp(0))
    return torch.stack(losses).mean()


def quantised(seed: int, variant: str) -> Tensors:
    """The distractors are other masked frames, for some fewer or none; masked, NaN where nothing is asked."""
    b, t, k, g, code, d = (1, 3, 1, 1, 2, 1) if variant == "odd" else (2, 5, 3, 2, 3, 4)
    masked = torch.arange(t) % 5 != 2
    neighbours = torch.stack([(torch.arange(t) + 1 + at) % t for at in range(k)], -1)
    distractors = torch.where(masked[neighbours] & masked[:, None], neighbours, -1).expand(b, t, k).clone()
    c, q, z = (uniform(b, t, *more, seed=seed + at) for at, more in enumerate(((d,), (d,), (g, code))))
    frames = torch.ones(b, t, dtype=torch.bool)
    if variant == "masked":
        frames[1, 4] = False
        c[:, 2], z[1, 4] = torch.nan, torch.nan
    return {"c": c, "q": q, "z": z, "frames": frames, "masked": masked.expand(b, t) & frames, "distractors": distractors}


@oracle("wav2vec2", batch=quantised, params=[{}, {"kappa": 1, "alpha": 2}], steps=6)
def wav2vec2(tensors: Tensors, kappa: float = 0.1, alpha: float = 0.1) -> Tensor:
    """-log softmax of the own frame among the distractors, and sum p log p of the mean codes over G V."""
    c, q, masked = tensors["c"], tensors["q"], tensors["masked"]
    losses = []
    for row, step in masked.nonzero().tolist():
        candidates = [step, *(other for other in tensors["distractors"][row, step].tolist() if other >= 0)]
        similar = [cosine_similarity(c[row, step], q[row, other], dim=0) / kappa for other in candidates]
        if len(similar) > 1:
            losses.append(-torch.stack(similar).log_softmax(0)[0])
    p = tensors["z"][tensors["frames"]].softmax(-1).mean(0)
    return torch.stack(losses).mean() + alpha * (p * p.log()).sum() / p.numel()
