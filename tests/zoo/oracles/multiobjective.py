"""Closed forms of the family `multiobjective`, each from the formula of its paper."""

from __future__ import annotations

import torch
from tests.oracles.batches import integers, scores, uniform
from tests.specs.variants import ignored
from tests.zoo.harness import Tensors, oracle
from torch import Tensor, nn


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


def heads(seed: int, variant: str) -> Tensors:
    """A shared representation with channels and places, and two heads that are not linear in it."""
    b, c, place, v = (1, 2, 3, 11) if variant == "odd" else (3, 3, 4, 5)

    def head(out: int, at: int) -> nn.Module:
        net = nn.Sequential(nn.Flatten(), nn.Linear(c * place, 6), nn.Tanh(), nn.Linear(6, out)).double()
        with torch.no_grad():
            for k, weight in enumerate(net.parameters()):
                weight.copy_(uniform(*weight.shape, seed=at + k))
        return net

    labels = integers(b, high=v, seed=seed + 1)
    return {
        "Z": uniform(b, c, place, seed=seed), "labels": labels, "target": uniform(b, seed=seed + 2),
        "classify": head(v, 90), "regress": nn.Sequential(head(1, 95), nn.Flatten(0)),
    }  # fmt: skip


@oracle(
    "rep_mtl", batch=heads, params=[{}, {"l_tsr": 1, "l_csa": 0}, {"l_tsr": 0, "l_csa": 2, "tau": 0.5}],
    variants=("plain", "odd"), steps=8, rate=0.02,
)  # fmt: skip
def rep_mtl(tensors: Tensors, l_tsr: float = 0.1, l_csa: float = 0.1, tau: float = 0.1) -> Tensor:
    """sum_t L_t + l_tsr mean entropy of |mean_c S_t| over tasks + l_csa InfoNCE(A A^T, S_t S_t^T), S_t = dL_t / dZ."""
    at = tensors["Z"] if tensors["Z"].requires_grad else tensors["Z"].clone().requires_grad_()
    first = nn.functional.cross_entropy(tensors["classify"](at), tensors["labels"], reduction="none")
    second = (tensors["regress"](at) - tensors["target"]) ** 2
    S = [torch.autograd.grad(u.sum(), at, create_graph=True)[0] for u in (first, second)]  # noqa: N806
    seen = torch.stack([s.mean(1).abs() for s in S])
    P = seen / (seen.sum(0) + 1e-12)  # noqa: N806
    tsr = -(P * P.log()).sum(0).mean()
    A = torch.stack(S).mean((0, 3))  # noqa: N806
    anchors = torch.stack([torch.outer(a, a).flatten() for a in A])
    anchors = anchors / anchors.norm(dim=-1, keepdim=True)
    csa = torch.zeros(())
    for s in S:
        grams = torch.stack([(x @ x.T).flatten() for x in s])
        sim = anchors @ (grams / grams.norm(dim=-1, keepdim=True)).T / tau
        csa = csa + nn.functional.cross_entropy(sim, torch.arange(len(sim))) / 2
    return first.mean() + second.mean() + l_tsr * tsr + l_csa * csa
