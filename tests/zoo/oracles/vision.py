"""Closed forms of the family `vision`, each from the formula of its paper."""

from __future__ import annotations

import math

import torch
from tests.oracles.batches import integers, scores, uniform
from tests.zoo.harness import Tensors, oracle
from torch import Tensor

huber, cross_entropy, relu = torch.nn.functional.huber_loss, torch.nn.functional.cross_entropy, torch.relu


def boxes(seed: int, variant: str) -> Tensors:
    """Pairs of boxes; the first pair lies apart."""
    b = 1 if variant == "odd" else 5
    corners = [(uniform(b, 2, seed=seed + at), 0.5 + (uniform(b, 2, seed=seed + at + 1) + 1) / 2) for at in (0, 2)]
    pred, target = (torch.cat([low, low + extent], 1) for low, extent in corners)
    if variant == "plain":
        pred[0] += 4
    return {"pred": pred, "target": target}


@oracle("ciou", batch=boxes, variants=("plain", "odd"))
def ciou(tensors: Tensors) -> Tensor:
    """1 - IoU + rho^2 / c^2 + alpha v, alpha a constant."""
    losses = []
    for p, t in zip(tensors["pred"], tensors["target"], strict=True):
        overlap = relu(torch.minimum(p[2:], t[2:]) - torch.maximum(p[:2], t[:2])).prod()
        (w, h), (w_t, h_t) = p[2:] - p[:2], t[2:] - t[:2]
        iou = overlap / (w * h + w_t * h_t - overlap)
        diagonal = ((torch.maximum(p[2:], t[2:]) - torch.minimum(p[:2], t[:2])) ** 2).sum()
        rho = (((p[:2] + p[2:]) / 2 - (t[:2] + t[2:]) / 2) ** 2).sum()
        v = 4 / math.pi**2 * (torch.atan(w_t / h_t) - torch.atan(w / h)) ** 2
        losses.append(1 - iou + rho / diagonal + (v / (1 - iou + v)).detach() * v)
    return torch.stack(losses).mean()


def masks(seed: int, variant: str) -> Tensors:
    b, pixel = (1, 3) if variant == "odd" else (3, 8)
    y = uniform(b, pixel, seed=seed + 1) > 0.2
    return {"z": 2 * uniform(b, pixel, seed=seed), "y": y | (torch.arange(pixel) == 1)}


@oracle("lovasz_hinge", batch=masks, variants=("plain", "odd"))
def lovasz_hinge(tensors: Tensors) -> Tensor:
    """The errors, largest first, times the growth of the Jaccard loss of the set of those so far."""
    losses = []
    for z, y in zip(tensors["z"], tensors["y"], strict=True):
        errors, order = (1 - z * torch.where(y, 1.0, -1.0)).sort(descending=True)
        loss, before = torch.zeros((), dtype=z.dtype), 0.0
        for at in range(len(z)):
            wrong = set(order[: at + 1].tolist())
            truth = {pixel for pixel in range(len(z)) if y[pixel]}
            found = (truth - wrong) | (wrong - truth)
            jaccard = 1 - len(truth & found) / len(truth | found)
            loss, before = loss + relu(errors[at]) * (jaccard - before), jaccard
        losses.append(loss)
    return torch.stack(losses).mean()


def instances(seed: int, variant: str) -> Tensors:
    b, pixel, d = (1, 3, 1) if variant == "odd" else (2, 8, 3)
    inst = integers(b, pixel, high=3, seed=seed + 1)
    inst[0, :2] = torch.tensor([0, 2])
    e = 2 * uniform(b, pixel, d, seed=seed)
    if variant == "masked":
        inst[:, 3] = -1
        e[:, 3] = torch.nan
    return {"e": e, "inst": inst}


@oracle("discriminative_instance", batch=instances, params=[{"delta_v": 0.1, "gamma": 0.5}])
def discriminative_instance(
    tensors: Tensors, delta_v: float = 0.5, delta_d: float = 1.5, gamma: float = 0.001
) -> Tensor:
    """Pull to the mean of the instance, push of all pairs of means, size of the means."""
    losses = []
    for e, inst in zip(tensors["e"], tensors["inst"], strict=True):
        members = [e[inst == k] for k in sorted(set(inst[inst >= 0].tolist()))]
        mu = [rows.mean(0) for rows in members]
        pull = [(relu((rows - m).norm(dim=1) - delta_v) ** 2).mean() for rows, m in zip(members, mu, strict=True)]
        push = [relu(2 * delta_d - (m - n).norm()) ** 2 for m in mu for n in mu if m is not n]
        sizes = [m.norm() for m in mu]
        apart = torch.stack(push).mean() if push else torch.zeros(())
        losses.append(torch.stack(pull).mean() + apart + gamma * torch.stack(sizes).mean())
    return torch.stack(losses).mean()


def rays(seed: int, variant: str) -> Tensors:
    ray, i = (1, 1) if variant == "odd" else (3, 5)
    ends = ((uniform(ray, i + 1, seed=seed) + 1) / 2).sort(1).values
    return {"tau": 2 * uniform(ray, i, seed=seed + 1), "colour": uniform(ray, i, 3, seed=seed + 2),
            "near": ends[:, :-1].clone(), "far": ends[:, 1:].clone(), "pixel": uniform(ray, 3, seed=seed + 3)}  # fmt: skip


@oracle("mip_nerf_360", batch=rays, params=[{"lam": 1}], variants=("plain", "odd"))
def mip_nerf_360(tensors: Tensors, lam: float = 0.01) -> Tensor:
    """Charbonnier's error of the rendered pixel and the distortion of the weights, ray by ray."""
    losses = []
    for tau, colour, near, far, pixel in zip(*tensors.values(), strict=True):
        density, through, weights = torch.log1p(tau.exp()), torch.ones((), dtype=tau.dtype), []
        for at in range(len(tau)):
            alpha = 1 - torch.exp(-density[at] * (far - near)[at])
            weights.append(through * alpha)
            through = through * (1 - alpha)
        w, m = torch.stack(weights), (near + far) / 2
        recon = torch.sqrt((w @ colour - pixel) ** 2 + 0.001**2).sum()
        spread = (w[:, None] * w[None] * (m[:, None] - m[None]).abs()).sum()
        losses.append(recon + lam * (spread + (w**2 * (far - near)).sum() / 3))
    return torch.stack(losses).mean()


def anchors(seed: int, variant: str) -> Tensors:
    b, anchor, c = (1, 3, 2) if variant == "odd" else (3, 9, 4)
    labels = torch.where(uniform(b, anchor, seed=seed + 1) > 0.5, 1 + integers(b, anchor, high=c - 1, seed=seed + 2), 0)
    labels[0, 0] = 1
    offset = 2 * uniform(b, anchor, 4, seed=seed + 3)
    if variant == "masked":
        offset[labels == 0] = torch.nan
    return {"logits": scores(b, anchor, c, seed=seed), "offset": offset, "labels": labels,
            "matched": uniform(b, anchor, 4, seed=seed + 4)}  # fmt: skip


@oracle("ssd", batch=anchors, params=[{"ratio": 1}], steps=6)
def ssd(tensors: Tensors, ratio: float = 3) -> Tensor:
    """Cross-entropy of the matched and of the hardest others, Huber's loss of the matched, over the number of these."""
    total, number = torch.zeros((), dtype=torch.float64), 0
    for z, offset, y, matched in zip(*(tensors[n] for n in ("logits", "offset", "labels", "matched")), strict=True):
        nll, pos = cross_entropy(z, y, reduction="none"), y > 0
        hardest = nll[~pos].sort(descending=True).values[: int(ratio * pos.sum())]
        total = total + nll[pos].sum() + hardest.sum() + huber(offset[pos], matched[pos], reduction="sum")
        number += int(pos.sum())
    return total / max(number, 1)
