"""Closed forms of the family `divergence`, each from the formula of its paper, one sample at a time."""

from __future__ import annotations

import math

import torch
from tests.oracles.batches import logps, uniform
from tests.zoo.harness import Tensors, advanced, of_setting, oracle
from tests.zoo.oracles.preference_tokens import present
from torch import Tensor


def targeted(batch: Tensors, seed: int) -> Tensors:
    """log q of samples, log P of the target, and Z as two steps have left it."""
    b, t = batch["labels"].shape
    return {
        "log_q": logps(b, seed=seed + 7, size=t),
        "log_P": logps(b, seed=seed + 8, size=t) + uniform(b, seed=seed + 9),
        "Z": torch.tensor(0.8).double(),
    }


@oracle(
    "f_dpg", batch=of_setting("tokens", targeted), prepare=advanced(2),
    params=[{"f": "kl"}, {}, {"f": "reverse_kl"}, {"f": "tv"}],
)  # fmt: skip
def f_dpg(tensors: Tensors, f: str = "js") -> Tensor:
    """E_q [pi / q f'(pi / p)] log pi, what is in brackets without gradient, p = P / Z and Z the mean of P / q, two steps in."""
    rows, log_pi = present(tensors)
    z = (2 * tensors["Z"] + (tensors["log_P"] - tensors["log_q"]).exp().mean()) / 3
    log_u = log_pi.detach() - tensors["log_P"][rows] + z.log()
    slope = {
        "kl": -torch.exp(-log_u),
        "reverse_kl": log_u + 1,
        "js": math.log(2) + log_u - torch.log1p(log_u.exp()),
        "tv": torch.sign(log_u) / 2,
    }[f]
    return ((log_pi.detach() - tensors["log_q"][rows]).exp() * slope * log_pi).mean()


def featured(batch: Tensors, seed: int) -> Tensors:
    """Features of samples, their wanted means, and multipliers."""
    b, t = batch["labels"].shape
    return {
        "phi": (uniform(b, 2, seed=seed + 7) > 0).double(),
        "mu": torch.tensor([0.3, 0.8], dtype=torch.float64),
        "log_a": logps(b, seed=seed + 8, size=t),
        "log_q": logps(b, seed=seed + 9, size=t),
        "lambda": uniform(2, seed=seed + 10),
    }


@oracle("gdc", batch=of_setting("tokens", featured), load={"sizes": {"k": 2}}, rate=0.01)
def gdc(tensors: Tensors) -> Tensor:
    """-E_q [P / q] log pi + log Z(lambda) - lambda . mu, P = a exp(lambda . phi), Z = E_q P / q."""
    rows, log_pi = present(tensors)
    weight = tensors["log_a"].exp() * (tensors["phi"] @ tensors["lambda"]).exp() / tensors["log_q"].exp()
    return -(weight.detach()[rows] * log_pi).mean() + weight.mean().log() - tensors["lambda"] @ tensors["mu"]
