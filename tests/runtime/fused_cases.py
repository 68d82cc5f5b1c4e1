"""Objectives and batches on which a fused backend must equal the reference, in value and in every gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

import lossc
from lossc import Objective

Batch = dict[str, Tensor]

HEAD = """
objective o
axis b : batch
axis t
axis k
axis v
input logits  : logits[b, t, v]
input teacher : logits[b, t, v]
input targets : prob[b, t, v]
input bias    : real[v]
input weight  : nonneg[v]
data  labels  : label[b, t] in v
data  several : label[b, t, k] in v
data  mask    : mask[b, t]
data  keep    : mask[b, t, v]
data  allowed : mask[v]
data  token   : nonneg[b, t]
learn heat    : positive = 1.3
learn gain    : real = 0.4
param eps     : unit = 0.1
use std.ce (ce, label_smoothing, z_loss, entropy, focal, soft_ce)
use std.divergence (kl, js, tv)
let nll = ce(logits, labels)
let logp = -sum[t where mask](nll)
"""

TEXTS = {
    "four terms": """
minimize
  ce   : mean[b, t where mask](label_smoothing(logits, labels))
  size : 0.001 * mean[b, t where mask](z_loss(logits))
  h    : -0.1 * mean[b, t where mask](entropy(logits))
monitor
  accuracy : mean[b, t where mask](argmax[v](logits) == labels)
  spread   : mean[b, t where mask](entropy(logits))
""",
    "two distributions": """
minimize
  forward : heat^2 * mean[b, t where mask](kl(teacher / heat, logits / heat))
  reverse : 0.5 * mean[b, t where mask](kl(logits, teacher))
  mixed   : mean[b, t where mask](js(logits, teacher)) + mean[b, t where mask](tv(logits, teacher))
""",
    "columns": """
minimize
  biased   : mean[b, t where mask](ce(logits + bias, labels), weight = token)
  balanced : mean[b, t where mask](weight[v = labels] * focal(logits, labels, gamma = 2))
  soft     : gain * mean[b, t where mask](soft_ce(logits * heat, targets))
""",
    "masks": """
minimize
  kept    : mean[b, t where mask and keep[v = labels]](logsumexp[v where keep](logits) - logits[v = labels])
  allowed : mean[b, t where mask](logsumexp[v where allowed](logits + bias)^2)
  margin  : mean[b, t where mask](max(0, 1 + max[v where keep](logits) - logits[v = labels]))
""",
    "several labels": """
minimize
  any : mean[b, t where mask](logsumexp[v](logits) - logsumexp[k](logits[v = several]))
  all : mean[b, t, k where mask](ce(logits, several))
""",
    "coupled": """
minimize
  pairs : mean[b](softplus(-heat * (logp - mean[b](logp))))
  tie   : 0.1 * mean[b, t where mask](nll)
  group : mean[b](mean[t where mask](entropy(logits)) * sg(logp))
""",
    "what is computed": """
minimize
  sorted  : mean[b, t where mask](sum[r](sort[v -> r](logits) * index[r])) * 0.01
  running : mean[b, t where mask](max[v](cumsum[v](softmax[v](logits)) * targets))
  nll     : mean[b, t where mask](nll)
""",
}  # fmt: skip

INPUTS = ("logits", "teacher", "targets", "bias", "weight")


def batch(b: int = 2, t: int = 3, v: int = 7, k: int = 2, seed: int = 0, dtype: torch.dtype = torch.float64) -> Batch:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    labels = torch.randint(v, (b, t), generator=generator)
    labels[0, 0] = -1 if b * t > 1 else labels[0, 0]
    keep = torch.rand(b, t, v, generator=generator) < 0.6
    keep.scatter_(-1, labels.clamp(min=0).unsqueeze(-1), True)
    allowed = torch.rand(v, generator=generator) < 0.6
    allowed[0] = True
    numbers = {
        "logits": 2 * normal(b, t, v), "teacher": 2 * normal(b, t, v), "targets": normal(b, t, v).softmax(-1),
        "bias": normal(v), "weight": normal(v).exp(), "token": normal(b, t).abs(),
    }  # fmt: skip
    several = torch.randint(v, (b, t, k), generator=generator)
    several[..., -1] = several[..., 0]
    mask = torch.rand(b, t, generator=generator) < 0.8
    mask[0, -1] = True
    given = {"labels": labels, "several": several, "mask": mask, "keep": keep, "allowed": allowed}
    return {**{name: x.to(dtype) for name, x in numbers.items()}, **given}


def of_type(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Batch:
    """The same, its numbers in another type."""
    return {name: x.to(dtype) if x.is_floating_point() else x for name, x in tensors.items()}


@dataclass(frozen=True)
class Outcome:
    """A loss, its terms and monitors, and its gradients to tensors and learned parameters."""

    values: dict[str, Tensor]
    gradients: dict[str, Tensor]


def outcome(objective: Objective, tensors: Mapping[str, Tensor], scale: float = 1.0) -> Outcome:
    """One call and one backward pass under an upstream gradient `scale`."""
    objective.zero_grad()
    wanted = {name for name, info in objective.program.tensors.items()}
    leaves = {name: x.detach().clone().requires_grad_(name in INPUTS) for name, x in tensors.items() if name in wanted}
    result = objective(**leaves)
    (scale * result.loss).backward()
    found = {name: x.grad for name, x in [*leaves.items(), *objective.learn.items()] if x.grad is not None}
    values = {"loss": result.loss.detach(), **result.terms, **result.monitors}
    return Outcome({name: x.double() for name, x in values.items()}, {name: x.double() for name, x in found.items()})


def objective(text: str, backend: str) -> Objective:
    return lossc.loads(HEAD + TEXTS.get(text, text), backend=backend)


def assert_same(found: Outcome, expected: Outcome, tolerance: float = 1e-9) -> None:
    """Equal values; equal gradients relative to their largest entry, with NaN and infinities in the same places."""
    for name, value in expected.values.items():
        torch.testing.assert_close(found.values[name], value, rtol=tolerance, atol=tolerance, equal_nan=True, msg=name)
    assert found.gradients.keys() == expected.gradients.keys()
    for name, gradient in expected.gradients.items():
        finite = gradient[gradient.isfinite()].abs()
        scale = max(1e-3, float(finite.max()) if finite.numel() else 0.0)
        near = tolerance * scale
        torch.testing.assert_close(found.gradients[name], gradient, rtol=0.0, atol=near, equal_nan=True, msg=name)


Change = Callable[[Batch], Batch]


def _where(batch: Batch, name: str, place: Tensor, value: float) -> Batch:
    return {**batch, name: torch.where(place, value, batch[name])}


def hidden_rows(batch: Batch) -> Batch:
    """NaN in the logits and infinity in the teacher wherever a token is masked."""
    outside = ~batch["mask"].unsqueeze(-1)
    return _where(_where(batch, "logits", outside, torch.nan), "teacher", outside, torch.inf)


def hidden_classes(batch: Batch) -> Batch:
    """What a vocabulary mask hides is the largest, infinite or NaN."""
    number = torch.arange(batch["keep"].numel()).reshape(batch["keep"].shape) % 3
    garbage = torch.tensor([1e6, torch.inf, torch.nan], dtype=batch["logits"].dtype)[number]
    return {**batch, "logits": torch.where(batch["keep"], batch["logits"], garbage)}


def nothing(batch: Batch) -> Batch:
    """No label anywhere."""
    return {**batch, "labels": torch.full_like(batch["labels"], -100)}


def no_token(batch: Batch) -> Batch:
    return {**batch, "mask": torch.zeros_like(batch["mask"])}


def large(batch: Batch) -> Batch:
    """Logits of +-1e4."""
    return {**batch, "logits": batch["logits"] * 4e3, "teacher": batch["teacher"] * 4e3}


def shifted(batch: Batch) -> Batch:
    """Logits near 2^24."""
    return {**batch, "logits": batch["logits"].round() + 2.0**24, "teacher": batch["teacher"].round() + 2.0**24}


def forbidden(batch: Batch) -> Batch:
    """Some classes at -inf, in student and teacher alike, none of them a label."""
    out = torch.rand(batch["keep"].shape, generator=torch.Generator().manual_seed(5)) < 0.3
    for name in ("labels", "several"):
        at = batch[name].clamp(min=0)
        out = out.scatter(-1, at if at.dim() == 3 else at.unsqueeze(-1), False)
    return _where(_where(batch, "logits", out, -torch.inf), "teacher", out, -torch.inf)


def poisoned(batch: Batch) -> Batch:
    """One NaN."""
    place = torch.zeros_like(batch["keep"])
    place[-1, -1, 0] = True
    mask = batch["mask"].clone()
    mask[-1, -1] = True
    return {**_where(batch, "logits", place, torch.nan), "mask": mask}


def agreeing(batch: Batch) -> Batch:
    """A teacher that differs in the seventh digit, in half precision not at all: where single entries do, `tv` has a kink."""
    logits = batch["logits"].bfloat16().to(batch["logits"])
    return {**batch, "logits": logits, "teacher": logits + 1e-7 * batch["teacher"]}


def strided(batch: Batch) -> Batch:
    """Logits that are not contiguous, a teacher that is one row repeated."""
    logits = batch["logits"].transpose(0, 1).contiguous().transpose(0, 1)
    return {**batch, "logits": logits, "teacher": batch["teacher"][:1, :1].expand_as(batch["teacher"])}


CHANGES: dict[str, Change] = {
    "plain": lambda batch: batch, "hidden rows": hidden_rows, "nothing": nothing, "no token": no_token, "large": large,
    "shifted": shifted, "agreeing": agreeing, "strided": strided,
}  # fmt: skip
"""Changes under which every objective must equal the reference."""
