"""Closed forms of the family `other` that sum over structures, one after the other: trees and segmentations."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
from tests.oracles.batches import integers, uniform
from tests.zoo.harness import Tensors, oracle
from torch import Tensor


def reaches_a_root(heads: tuple[int, ...]) -> bool:
    """Whether every word comes to a root when it follows its heads; -1 is a root."""
    for word in range(len(heads)):
        for _ in heads:
            word = heads[word] if word >= 0 else word
        if word >= 0:
            return False
    return True


def dependencies(seed: int, variant: str) -> Tensors:
    lengths = [1] if variant == "odd" else [4, 3, 2]
    b, n = len(lengths), lengths[0]
    words = torch.arange(n) < torch.tensor(lengths)[:, None]
    head = torch.tensor([[-1, 0, 1, 0], [1, -1, -1, -1], [-1, 0, -1, -1]])[:b, :n]
    s, r = uniform(b, n, n, seed=seed), uniform(b, n, seed=seed + 1)
    if variant == "masked":
        words[2] = False
        s = torch.where(words[:, :, None] & words[:, None, :] & ~torch.eye(n, dtype=torch.bool), s, torch.nan)
        r = torch.where(words, r, torch.nan)
    return {"s": s, "r": r, "head": head, "words": words}


@oracle("matrix_tree", batch=dependencies, steps=6)
def matrix_tree(tensors: Tensors) -> Tensor:
    """log of the sum over all choices of heads that are trees, less the score of the true one."""
    losses = []
    for s, r, head, words in zip(*(tensors[name] for name in ("s", "r", "head", "words")), strict=True):
        n = int(words.sum())
        trees = {heads for heads in product(range(-1, n), repeat=n) if reaches_a_root(heads)}
        score = {heads: sum(r[m] if h < 0 else s[h, m] for m, h in enumerate(heads)) for heads in trees}
        if n:
            losses.append(torch.stack(list(score.values())).logsumexp(0) - score[tuple(head[:n].tolist())])
    return torch.stack(losses).mean()


def binary_trees(i: int, j: int) -> Iterator[frozenset[tuple[int, int]]]:
    """The spans of every binary tree over the words i to j."""
    if i == j:
        yield frozenset({(i, j)})
    for k in range(i, j):
        for left, right in product(binary_trees(i, k), binary_trees(k + 1, j)):
            yield left | right | {(i, j)}


def constituents(seed: int, variant: str) -> Tensors:
    """The true tree of each sentence is one of all."""
    lengths = [1] if variant == "odd" else [4, 3, 2]
    b, n = len(lengths), lengths[0]
    words, tree = torch.arange(n) < torch.tensor(lengths)[:, None], torch.zeros(b, n, n, dtype=torch.bool)
    for row, length in enumerate(lengths):
        for i, j in sorted(map(sorted, binary_trees(0, length - 1)))[-1]:
            tree[row, i, j] = True
    s = uniform(b, n, n, seed=seed)
    if variant == "masked":
        words[2], tree[2] = False, False
        s = torch.where(words[:, :, None] & words[:, None, :] & torch.ones(n, n, dtype=torch.bool).triu(), s, torch.nan)
    return {"s": s, "tree": tree, "words": words}


@oracle("span_crf", batch=constituents, load={"sizes": {"width": 4}}, steps=6)
def span_crf(tensors: Tensors) -> Tensor:
    """log of the sum over all binary trees, less the score of the true one."""
    losses = []
    for s, tree, words in zip(tensors["s"], tensors["tree"], tensors["words"], strict=True):
        n = int(words.sum())
        scores = [torch.stack([s[i, j] for i, j in spans]).sum() for spans in binary_trees(0, n - 1)]
        if n:
            losses.append(torch.stack(scores).logsumexp(0) - s[tree].sum())
    return torch.stack(losses).mean()


def compositions(n: int, longest: int) -> Iterator[list[int]]:
    """The lengths of the segments of every way to cut n steps."""
    if n == 0:
        yield []
    for last in range(1, min(n, longest) + 1):
        for first in compositions(n - last, longest):
            yield [*first, last]


def segments(seed: int, variant: str) -> Tensors:
    lengths = [2] if variant == "odd" else [5, 4, 2]
    b, t, longest, k = len(lengths), lengths[0], 3, 1 if variant == "odd" else 2
    steps, true = torch.arange(t) < torch.tensor(lengths)[:, None], torch.zeros(b, t, longest, k, dtype=torch.bool)
    labels = integers(b, t, high=k, seed=seed + 1)
    for row, length in enumerate(lengths):
        end = -1
        for size in list(compositions(length, longest))[-1]:
            end += size
            true[row, end, size - 1, labels[row, end]] = True
    s = uniform(b, t, longest, k, seed=seed)
    if variant == "masked":
        steps[2], true[2] = False, False
        s = torch.where(steps[..., None, None], s, torch.nan)
    return {"s": s, "segments": true, "steps": steps}


@oracle("segmental", batch=segments, steps=6)
def segmental(tensors: Tensors) -> Tensor:
    """log of the sum over all cuts and labels, less the score of the true ones."""
    losses = []
    for s, true, steps in zip(tensors["s"], tensors["segments"], tensors["steps"], strict=True):
        n, scores = int(steps.sum()), []
        for sizes in compositions(n, s.shape[1]):
            ends = torch.tensor(sizes).cumsum(0) - 1
            cut = s[ends, torch.tensor(sizes) - 1] if n else s[:0, 0]
            scores += [
                sum(cut[at, label] for at, label in enumerate(labels))
                for labels in product(range(s.shape[2]), repeat=len(sizes))
            ]
        if n:
            losses.append(torch.stack(scores).logsumexp(0) - s[true].sum())
    return torch.stack(losses).mean()
