"""Closed forms of the family `regularizer`, each from the formula of its paper, one matrix at a time."""

from __future__ import annotations

import torch
from tests.oracles.batches import integers, uniform
from tests.zoo.harness import Tensors, of_setting, oracle
from tests.zoo.oracles.attacks import network
from torch import Tensor, nn


def initial(net: nn.Module, seed: int) -> dict[str, Tensor]:
    """Weights by name from which those of the network have moved."""
    return {
        name: weight.detach() + uniform(*weight.shape, seed=seed + at) / 2
        for at, (name, weight) in enumerate(net.named_parameters())
    }


def with_weights(tensors: Tensors, seed: int) -> Tensors:
    classes = tensors["logits"].shape[-1]
    net = network(3, classes)
    return {"w": net, "w_0": initial(net, seed + 50), "b_0": network(3, classes)}


@oracle(
    "spectral",
    batch=of_setting("classes", with_weights),
    params=[{"lambda": 1}, {"lambda": 0.1, "k": 2}, {"lambda": 0.5, "form": "wasserstein"}],
)
def spectral(tensors: Tensors, k: float = 1, form: str = "spectral", **others: float) -> Tensor:
    """CE + lambda sum_l (sigma_max(W_l)^k - 1)^2 + lambda sum |b|^2, or lambda sum_l sum_i (sort(W)_i - sort(W0)_i)^2."""
    rows = tensors["labels"] >= 0
    loss = torch.nn.functional.cross_entropy(tensors["logits"][rows], tensors["labels"][rows])
    matrices = {name: weight for name, weight in tensors["w"].named_parameters() if name.endswith("weight")}
    if form == "wasserstein":
        apart = [
            (w.flatten().sort()[0] - tensors["w_0"][n].flatten().sort()[0]).square().sum() for n, w in matrices.items()
        ]
        return loss + others["lambda"] * sum(apart)
    largest = [torch.linalg.matrix_norm(w, 2) for w in matrices.values()]
    biases = [b.square().sum() for name, b in tensors["b_0"].named_parameters() if name.endswith("bias")]
    return loss + others["lambda"] * (sum((s**k - 1) ** 2 for s in largest) + sum(biases))


def prompted(seed: int, variant: str) -> Tensors:
    """Features of classes and of images with prompts and without."""
    b, v, d = (1, 11, 5) if variant == "odd" else (4, 7, 3)
    shapes = {"text": (v, d), "image": (b, d), "text_0": (v, d), "image_0": (b, d)}
    batch: Tensors = {name: uniform(*shape, seed=seed + at) for at, (name, shape) in enumerate(shapes.items())}
    labels = integers(b, high=v, seed=seed + 9)
    if variant == "masked":
        labels[1] = -100
    return {**batch, "labels": labels}


@oracle("prompt_src", batch=prompted, params=[{"scale": 5}, {"scale": 1, "l_text": 0, "l_image": 3}])
def prompt_src(tensors: Tensors, scale: float = 100, l_text: float = 25, l_image: float = 10) -> Tensor:
    """CE + l_text mean |g - g_0| + l_image mean |f - f_0| + sum KL(zero-shot, prompted) / numel."""
    g, f, g_0, f_0 = (nn.functional.normalize(tensors[name], dim=-1) for name in ("text", "image", "text_0", "image_0"))
    logits, without = scale * f @ g.T, scale * f_0 @ g_0.T
    apart = without.softmax(-1) * (without.log_softmax(-1) - logits.log_softmax(-1))
    rows = tensors["labels"] >= 0
    loss = nn.functional.cross_entropy(logits[rows], tensors["labels"][rows]) + apart.sum() / logits.numel()
    return loss + l_text * (g - g_0).abs().mean() + l_image * (f - f_0).abs().mean()


def with_noise(tensors: Tensors, seed: int) -> Tensors:
    return {f"noisy_{i}": tensors["logits"] + uniform(*tensors["logits"].shape, seed=seed + 20 + i) for i in (1, 2)}


@oracle(
    "noise_fit",
    batch=of_setting("tokens", with_noise),
    params=[{"lambda": 0.1}, {"alpha": 0.2, "lambda": 1, "tau": 2}, {"alpha": 1, "lambda": 0}],
)
def noise_fit(tensors: Tensors, alpha: float = 0.5, tau: float = 1, **others: float) -> Tensor:
    """alpha CE + (1 - alpha) mean (KL(p, p1) + KL(p, p2)) / 2 + lambda mean KL(p2, p1), a token at a time."""
    keep = tensors["mask"] & (tensors["labels"] >= 0)
    fit, soft, agree = [], [], []
    for clean, one, two, label in zip(
        tensors["logits"][keep],
        tensors["noisy_1"][keep],
        tensors["noisy_2"][keep],
        tensors["labels"][keep],
        strict=True,
    ):
        p, p1, p2 = (clean / tau).softmax(-1), one.softmax(-1), two.softmax(-1)
        fit.append(-clean.log_softmax(-1)[label])
        soft.append(sum((p * (p / q).log()).sum() for q in (p1, p2)) / 2)
        agree.append((p2 * (p2 / p1).log()).sum())
    parts = [torch.stack(part).mean() for part in (fit, soft, agree)]
    return alpha * parts[0] + (1 - alpha) * parts[1] + others["lambda"] * parts[2]
