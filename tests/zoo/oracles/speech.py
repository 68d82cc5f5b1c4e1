"""Closed forms of the family `speech`, each from the formula of its paper."""

from __future__ import annotations

from itertools import groupby, permutations, product

import torch
from tests.oracles.batches import integers, uniform
from tests.zoo.harness import Tensors, oracle
from torch import Tensor

cosine_similarity = torch.nn.functional.cosine_similarity


def mixtures(seed: int, variant: str) -> Tensors:
    b, t = (1, 3) if variant == "odd" else (3, 8)
    return {"estimate": uniform(b, 2, t, seed=seed), "clean": uniform(b, 2, t, seed=seed + 1)}


def si_sdr(estimate: Tensor, clean: Tensor) -> Tensor:
    """10 log10 of the power of the projection on the clean source over that of the rest."""
    u, w = estimate - estimate.mean(), clean - clean.mean()
    part = (u @ w) / (w @ w + 1e-8) * w
    return 10 * torch.log10((part @ part + 1e-8) / ((u - part) @ (u - part) + 1e-8))


@oracle("pit_si_sdr", batch=mixtures, variants=("plain", "odd"))
def pit_si_sdr(tensors: Tensors) -> Tensor:
    """The negative ratio under the better permutation."""
    losses = []
    for estimate, clean in zip(tensors["estimate"], tensors["clean"], strict=True):
        ratios = [sum(si_sdr(estimate[at], clean[to]) for at, to in enumerate(order)) / 2 for order in permutations(range(2))]
        losses.append(-torch.stack(ratios).max())
    return torch.stack(losses).mean()


def utterances(seed: int, variant: str) -> Tensors:
    speaker, u, d = (2, 2, 1) if variant == "odd" else (3, 4, 5)
    values = {"w": torch.tensor(5.0, dtype=torch.float64), "c": torch.tensor(-1.0, dtype=torch.float64)}
    return {"e": uniform(speaker, u, d, seed=seed), **values}


@oracle("ge2e", batch=utterances, variants=("plain", "odd"), steps=6)
def ge2e(tensors: Tensors) -> Tensor:
    """-S_ji,j + log sum_k exp S_ji,k,  S = w cos(e_ji, c_k) + b, the own centroid without e_ji."""
    e = tensors["e"] / tensors["e"].norm(dim=-1, keepdim=True)
    speakers, utterances, _ = e.shape
    loss = torch.zeros((), dtype=e.dtype)
    for j in range(speakers):
        for i in range(utterances):
            centres = [e[k].mean(0) if k != j else (e[j].sum(0) - e[j, i]) / (utterances - 1) for k in range(speakers)]
            s = torch.stack([tensors["w"] * cosine_similarity(e[j, i], centre, dim=0) + tensors["c"] for centre in centres])
            loss = loss - s.log_softmax(0)[j]
    return loss


def spectra(seed: int, variant: str) -> Tensors:
    b, n, d = (1, 2, 1) if variant == "odd" else (2, 7, 3)
    e, y = uniform(b, n, d, seed=seed), integers(b, n, high=2, seed=seed + 1)
    if variant == "masked":
        y[:, 1] = -1
        e[:, 1] = torch.nan
    return {"e": e, "y": y}


@oracle("deep_clustering", batch=spectra)
def deep_clustering(tensors: Tensors) -> Tensor:
    """|V V' - Y Y'|^2 of the bins that have a speaker."""
    losses = []
    for e, y in zip(tensors["e"], tensors["y"], strict=True):
        v, one_hot = e[y >= 0], torch.nn.functional.one_hot(y[y >= 0], 2).to(e.dtype)
        v = v / v.norm(dim=1, keepdim=True)
        losses.append(((v @ v.T - one_hot @ one_hot.T) ** 2).sum())
    return torch.stack(losses).mean()


def labelled_frames(seed: int, variant: str) -> Tensors:
    """A repeated label, an unlabelled utterance of silence, and one of another length; masked, one without frames too."""
    words = [[1]] if variant == "odd" else [[1, 1], [2], [], [1, 2]]
    b, t, v = len(words), 2 if variant == "odd" else 5, 3
    ext = torch.full((b, 5), -1)
    for at, word in enumerate(words):
        ext[at, : 2 * len(word) + 1] = torch.tensor([0, *(part for label in word for part in (label, 0))])
    frames = torch.arange(t) < torch.tensor([t, 3, 2, 4][:b]).unsqueeze(1)
    z = uniform(b, t, v, seed=seed)
    if variant == "masked":
        z[~frames] = torch.nan
        ext[3] = -1
        z[3] = torch.inf
    return {"z": z, "ext": ext, "frames": frames}


@oracle("ctc", batch=labelled_frames)
def ctc(tensors: Tensors) -> Tensor:
    """-log of the sum of the probabilities of all paths that become the labelling."""
    losses = []
    for z, ext, frames in zip(tensors["z"], tensors["ext"], tensors["frames"], strict=True):
        if not bool((ext >= 0).any()):
            continue
        word = [int(label) for label in ext if label > 0]
        log_p = z[frames].log_softmax(-1)
        paths = product(range(z.shape[-1]), repeat=len(log_p))
        fitting = [path for path in paths if [label for label, _ in groupby(path) if label] == word]
        scores = [sum(row[label] for row, label in zip(log_p, path, strict=True)) for path in fitting]
        losses.append(-torch.stack(scores).logsumexp(0))
    return torch.stack(losses).mean()
