"""The same numbers from libraries that others wrote: torch.nn.functional, optax and TRL 1.16.

Each entry of `third_parties()` computes the loss of one case of tests/specs/cases from that case's batch, and its
gradients. The results are kept in `frozen.json` (written by `freeze.py`), so that tests need none of the libraries.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from tests.oracles.batches import Batch
from tests.oracles.rows import kept
from torch import Tensor

LIBRARIES = ("torch", "optax", "trl")

Evaluated = tuple[float, dict[str, Tensor]]
Evaluate = Callable[[Batch, frozenset[str]], Evaluated]


def by_autograd(loss: Callable[[Batch], Tensor]) -> Evaluate:
    """Value and gradients of a loss written in PyTorch."""

    def evaluate(batch: Batch, inputs: frozenset[str]) -> Evaluated:
        leaves = {k: x.clone().requires_grad_(k in inputs) for k, x in batch.items()}
        value = loss(leaves)
        value.backward()
        gradients = {k: x.grad for k, x in leaves.items() if x.grad is not None}
        return float(value.detach()), gradients

    return evaluate


def _labels(batch: Batch) -> Tensor:
    return batch["labels"].masked_fill(~kept(batch["labels"], batch.get("mask")), -100).flatten()


def _masked(batch: Batch, name: str) -> Tensor:
    return batch[name][batch["mask"]]


def torch_losses() -> dict[str, Callable[[Batch], Tensor]]:
    """Losses of torch.nn.functional by case."""

    def cross_entropy(**options: Any) -> Callable[[Batch], Tensor]:
        return lambda b: F.cross_entropy(b["logits"].flatten(0, -2), _labels(b), **options)

    def kl(p: Tensor, q: Tensor, reduction: str = "batchmean") -> Tensor:
        return F.kl_div(q.log_softmax(-1), p.log_softmax(-1), reduction=reduction, log_target=True)

    def js(b: Batch) -> Tensor:
        m = ((b["p"].softmax(-1) + b["q"].softmax(-1)) / 2).log()
        sides = [F.kl_div(m, b[k].log_softmax(-1), reduction="batchmean", log_target=True) for k in ("p", "q")]
        return (sides[0] + sides[1]) / 2

    def info_nce(b: Batch) -> Tensor:
        scores = F.normalize(b["x"], dim=-1) @ F.normalize(b["y"], dim=-1).T
        return F.cross_entropy(scores / 0.07, torch.arange(scores.shape[0]))

    return {
        "ce(logits, labels)": cross_entropy(),
        "label_smoothing(logits, labels)": cross_entropy(label_smoothing=0.1),
        "label_smoothing(logits, labels, eps = 0.25)": cross_entropy(label_smoothing=0.25),
        "nll of classes": cross_entropy(),
        "soft_ce(logits, q)": lambda b: F.cross_entropy(_masked(b, "logits"), _masked(b, "q")),
        "bce(logits, hits)": lambda b: F.binary_cross_entropy_with_logits(_masked(b, "logits"), _masked(b, "hits")),
        "kl(p, q)": lambda b: kl(b["p"], b["q"]),
        "js(p, q)": js,
        "distill(logits)": lambda b: 4 * kl(_masked(b, "teacher") / 2, _masked(b, "logits") / 2),
        "mse()": lambda b: F.mse_loss(b["pred"], b["target"]),
        "mae()": lambda b: F.l1_loss(b["pred"], b["target"]),
        "huber()": lambda b: F.huber_loss(b["pred"], b["target"]),
        "huber(error, delta = 0.5)": lambda b: F.huber_loss(b["pred"], b["target"], delta=0.5),
        "gaussian_nll(error, variance)": lambda b: F.gaussian_nll_loss(
            b["pred"], b["target"], b["variance"], full=True
        ),
        "poisson_nll(pred, events)": lambda b: F.poisson_nll_loss(b["pred"], b["events"]),
        "info_nce()": info_nce,
        "triplet(x, y, n)": lambda b: F.triplet_margin_loss(b["x"], b["y"], b["n"], eps=0),
        "cosine_distance()": lambda b: (1 - F.cosine_similarity(b["x"], b["y"])).mean(),
        "sigmoid_pairs()": lambda b: (
            F.binary_cross_entropy_with_logits(
                10 * F.normalize(b["x"], dim=-1) @ F.normalize(b["y"], dim=-1).T - 10,
                torch.eye(b["x"].shape[0], dtype=b["x"].dtype),
                reduction="sum",
            )
            / b["x"].shape[0]
        ),
    }


def optax_losses() -> dict[str, Callable[..., Any]]:
    """Losses of optax by case, as functions of a dictionary of jax arrays."""
    import jax.numpy as jnp
    import optax
    from jax.nn import log_softmax

    def rows(b: Mapping[str, Any], name: str) -> Any:
        return b[name][b["mask"]]

    def onehot(b: Mapping[str, Any]) -> Any:
        return jnp.eye(b["logits"].shape[-1])[rows(b, "labels")]

    return {
        "ce(logits, labels)": lambda b: optax.softmax_cross_entropy_with_integer_labels(
            rows(b, "logits"), rows(b, "labels")
        ).mean(),
        "label_smoothing(logits, labels)": lambda b: optax.softmax_cross_entropy(
            rows(b, "logits"), optax.smooth_labels(onehot(b), 0.1)
        ).mean(),
        "poly1(logits, labels)": lambda b: optax.losses.poly_loss_cross_entropy(
            rows(b, "logits"), onehot(b), epsilon=1.0
        ).mean(),
        "kl(p, q)": lambda b: optax.losses.kl_divergence_with_log_targets(
            log_softmax(b["q"]), log_softmax(b["p"])
        ).mean(),
        "kl_prob(p, q)": lambda b: optax.losses.kl_divergence(jnp.log(b["q"]), b["p"]).mean(),
        "log_cosh()": lambda b: optax.losses.log_cosh(b["pred"], b["target"]).mean(),
        "huber()": lambda b: optax.losses.huber_loss(b["pred"], b["target"]).mean(),
        "mse()": lambda b: optax.losses.squared_error(b["pred"], b["target"]).mean(),
        "cosine_distance()": lambda b: optax.losses.cosine_distance(b["x"], b["y"]).mean(),
        "triplet(x, y, n)": lambda b: optax.losses.triplet_margin_loss(b["x"], b["y"], b["n"], eps=0).mean(),
    }


def by_jax(loss: Callable[[Mapping[str, Any]], Any]) -> Evaluate:
    """Value and gradients of a loss written in jax, in fp64."""

    def evaluate(batch: Batch, inputs: frozenset[str]) -> Evaluated:
        import jax

        jax.config.update("jax_enable_x64", True)
        arrays = {k: x.numpy() for k, x in batch.items()}
        leaves = {k: x for k, x in arrays.items() if k in inputs}
        value, gradients = jax.value_and_grad(lambda given: loss({**arrays, **given}))(
            {k: jax.numpy.asarray(x) for k, x in leaves.items()}
        )
        return float(value), {k: torch.tensor(jax.device_get(g)) for k, g in gradients.items()}

    return evaluate


def third_parties(libraries: Collection[str] = LIBRARIES) -> dict[tuple[str, str], Evaluate]:
    """Every evaluation by (library, case)."""
    found: dict[tuple[str, str], Evaluate] = {}
    if "torch" in libraries:
        found |= {("torch", case): by_autograd(loss) for case, loss in torch_losses().items()}
    if "optax" in libraries:
        found |= {("optax", case): by_jax(loss) for case, loss in optax_losses().items()}
    if "trl" in libraries:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from tests.oracles.trl_losses import trl_losses

            found |= {("trl", case): by_autograd(loss) for case, loss in trl_losses().items()}
    return found
