"""Closed forms of the family `vision` of detectors and of thin structures."""

from __future__ import annotations

import torch
from tests.oracles.batches import integers, uniform
from tests.zoo.harness import Tensors, oracle
from torch import Tensor
from torch.nn import functional


def vessels(seed: int, variant: str) -> Tensors:
    b, h, w = (1, 1, 3) if variant == "odd" else (2, 6, 5)
    return {"logits": 3 * uniform(b, h, w, seed=seed), "g": (uniform(b, h, w, seed=seed + 1) > 0).double()}


def skeleton(image: Tensor) -> Tensor:
    """The union of what an opening takes away from an image, once, twice and three times eroded."""
    found = torch.zeros_like(image)
    for _ in range(4):
        rows = functional.max_pool2d(-image[None], (3, 1), 1, (1, 0))[0]
        columns = functional.max_pool2d(-image[None], (1, 3), 1, (0, 1))[0]
        eroded = -torch.maximum(rows, columns)
        lost = functional.relu(image - functional.max_pool2d(eroded[None], 3, 1, 1)[0])
        found = found + functional.relu(lost - found * lost)
        image = eroded
    return found


@oracle("cl_dice", batch=vessels, params=[{"alpha": 0.7}], variants=("plain", "odd"), steps=3)
def cl_dice(tensors: Tensors, alpha: float = 0.5) -> Tensor:
    """Dice of the masks, and of each mask with the skeleton of the other."""
    losses = []
    for logits, g in zip(tensors["logits"], tensors["g"], strict=True):
        p = logits.sigmoid()
        thin_p, thin_g = skeleton(p), skeleton(g)
        prec = ((thin_p * g).sum() + 1) / (thin_p.sum() + 1)
        sens = ((thin_g * p).sum() + 1) / (thin_g.sum() + 1)
        dice = 1 - (2 * (p * g).sum() + 1) / (p.sum() + g.sum() + 1)
        losses.append((1 - alpha) * dice + alpha * (1 - 2 * prec * sens / (prec + sens)))
    return torch.stack(losses).mean()


def distances(seed: int, variant: str) -> Tensors:
    """Every third anchor is background; masked, its distances are NaN."""
    b, anchor, k, bins = (1, 1, 1, 3) if variant == "odd" else (2, 6, 3, 5)
    c = torch.where(torch.arange(anchor) % 3 == 1, -1, integers(b, anchor, high=k, seed=seed))
    d = (uniform(b, anchor, 4, seed=seed + 1) + 1) / 2 * (bins - 1.01)
    scores = uniform(b, anchor, 4, bins, seed=seed + 2)
    if variant == "masked":
        d[c < 0], scores[c < 0] = torch.nan, torch.nan
    return {"z": 2 * uniform(b, anchor, k, seed=seed + 3), "bins": scores, "c": c, "d": d}


@oracle("generalized_focal", batch=distances, steps=6, params=[{}, {"beta": 1, "lambda_0": 0.5, "lambda_1": 3}])
def generalized_focal(tensors: Tensors, beta: float = 2, lambda_0: float = 2, lambda_1: float = 0.25) -> Tensor:
    """Anchor by anchor, boxes by their corners around the origin."""
    z, c = tensors["z"].flatten(0, 1), tensors["c"].flatten()
    total = torch.zeros((), dtype=z.dtype)
    for at, label in enumerate(c.tolist()):
        q = torch.zeros_like(z[at])
        if label >= 0:
            logp, d = tensors["bins"].flatten(0, 1)[at].log_softmax(-1), tensors["d"].flatten(0, 1)[at]
            found = logp.exp() @ torch.arange(logp.shape[1], dtype=z.dtype)
            (x0, y0, x1, y1), (u0, v0, u1, v1) = ((-e[0], -e[1], e[2], e[3]) for e in (found, d))
            common = (torch.minimum(x1, u1) - torch.maximum(x0, u0)) * (torch.minimum(y1, v1) - torch.maximum(y0, v0))
            union = (x1 - x0) * (y1 - y0) + (u1 - u0) * (v1 - v0) - common
            hull = (torch.maximum(x1, u1) - torch.minimum(x0, u0)) * (torch.maximum(y1, v1) - torch.minimum(y0, v0))
            total = total + lambda_0 * (1 - common / union + (hull - union) / hull)
            q[label] = (common / union).detach()
            for side in range(4):
                n = int(d[side])
                nll = -(n + 1 - d[side]) * logp[side, n] - (d[side] - n) * logp[side, n + 1]
                total = total + lambda_1 * nll / 4
        nll = functional.binary_cross_entropy_with_logits(z[at], q, reduction="none")
        total = total + ((q - z[at].sigmoid()).abs() ** beta * nll).sum()
    return total / max(int((c >= 0).sum()), 1)
