"""Closed forms of the family `multiobjective`, each from the formula of its paper."""

from __future__ import annotations

import torch
from tests.oracles.batches import integers, scores, uniform
from tests.specs.variants import ignored
from tests.zoo.harness import Tensors, oracle
from torch import Tensor


def tasks(seed: int, variant: str) -> Tensors:
    b, d, k = (1, 2, 1) if variant == "odd" else (4, 3, 2)
    return {"x": uniform(b, d, seed=seed), "y": uniform(b, 2, k, seed=seed + 1), "W": uniform(d, k, seed=seed + 2),
            "first": 1.5 + uniform(2, seed=seed + 3), "w": 1.5 + uniform(2, seed=seed + 4)}  # fmt: skip


@oracle("gradnorm", batch=tasks, params=[{}, {"alpha": 0.5}], variants=("plain", "odd"), steps=8, rate=0.01)
def gradnorm(tensors: Tensors, alpha: float = 1.5) -> Tensor:
    """sum_i |G_i - mean G r_i^alpha|, G_i the norm of the gradient of w_i L_i to W, the target a constant."""
    at = tensors["W"].clone().requires_grad_()
    shared, y = tensors["x"] @ at, tensors["y"]
    losses = [((shared - y[:, 0]) ** 2).mean(), (shared - y[:, 1]).abs().mean()]
    slopes = [torch.autograd.grad(loss, at, retain_graph=True)[0].norm() for loss in losses]
    sizes = torch.stack([w * slope for w, slope in zip(tensors["w"], slopes, strict=True)])
    pace = torch.stack(losses).detach() / tensors["first"]
    return (sizes - (sizes.mean() * (pace / pace.mean()) ** alpha).detach()).abs().sum()


def dictionary(seed: int, variant: str) -> Tensors:
    """A word and its definition: shared vectors, embeddings and definitions generated from both."""
    b, t, v, d, k = (1, 3, 11, 5, 2) if variant == "odd" else (3, 4, 7, 3, 4)
    logits = scores(b, 2, t, v, seed=seed + 4)
    labels = integers(b, t, high=v, seed=seed + 5)
    if variant == "masked":
        labels = ignored({"labels": labels})["labels"]
        logits = torch.where((labels < 0)[:, None, :, None], torch.nan, logits)
    return {
        "word": uniform(b, d, seed=seed), "gloss": uniform(b, d, seed=seed + 1),
        "embedding": uniform(b, 2, k, seed=seed + 2), "target": uniform(b, k, seed=seed + 3),
        "logits": logits, "labels": labels,
    }  # fmt: skip


@oracle("revdic", batch=dictionary, params=[{}, {"distance": "cosine", "eps": 0}])
def revdic(tensors: Tensors, distance: str = "mse", eps: float = 0.1) -> Tensor:
    """d(z_word, z_def) + d(e_recon, e) + d(e_conv, e) + CE(recon) + CE(conv), labels smoothed."""

    def apart(x: Tensor, y: Tensor) -> Tensor:
        if distance == "mse":
            return ((x - y) ** 2).mean()
        return (1 - (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1))).mean()

    rows = tensors["labels"] >= 0
    loss = apart(tensors["word"], tensors["gloss"])
    for way in (0, 1):
        logp = tensors["logits"][:, way][rows].log_softmax(-1)
        own = logp.gather(-1, tensors["labels"][rows].unsqueeze(-1)).squeeze(-1)
        loss = loss + apart(tensors["embedding"][:, way], tensors["target"])
        loss = loss - ((1 - eps) * own + eps * logp.mean(-1)).mean()
    return loss
