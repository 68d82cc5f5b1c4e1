"""What a minimum, a clip or an order statistic does not take has gradient exactly 0, be its own slope infinite."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import lossc

BACKENDS = ("reference", "torch", "c")


def gradients(text: str, backend: str, **tensors: Tensor) -> list[list[float]]:
    """Of the loss by every floating tensor named x, y or z."""
    leaves = {n: x.clone().requires_grad_(n in ("x", "y", "z")) for n, x in tensors.items()}
    lossc.loads(text, backend=backend)(**leaves).loss.backward()
    return [leaf.grad.tolist() for leaf in leaves.values() if leaf.grad is not None]


# ------------------------------------------------------------------------------------------------ numbers of a batch

Slope = Callable[[float], float]
ENTRIES: dict[str, tuple[float, float, float]] = {
    "min(exp(x) * a, clip(exp(x), 0.8, 1.2) * a)": (1e4, 0.1, math.exp(0.1)),
    "clip(exp(x), 0.8, 1.2)": (1e4, 0.1, math.exp(0.1)),
    "max(log(x), -100 * a)": (0.0, 0.5, 2.0),
    "clip(log(x), -10, 3)": (0.0, 0.5, 2.0),
    "relu(log2(x))": (0.0, 4.0, 0.25 / math.log(2)),
    "max(sqrt(x), a)": (0.0, 4.0, 0.25),
    "max(x^0.5, a)": (0.0, 4.0, 0.25),
    "min(1 / x, a)": (0.0, 4.0, -1 / 16),
    "min(a / x^2, a, 7)": (0.0, 4.0, -2 / 64),
    "max(log1p(-x), -a)": (1.0, 0.5, -2.0),
    "max(log1mexp(-x), -a)": (0.0, 1.0, 1 / (math.e - 1)),
    "min(expm1(x), a)": (1e4, 0.5, math.exp(0.5)),
    "min((exp(x) + 1)^2, 9 * a)": (1e4, 0.5, 2 * (math.exp(0.5) + 1) * math.exp(0.5)),
    "min(exp(x) * exp(sin(x)), 9 * a)": (1e4, 0.0, 2.0),
    "max(arcsin(x), 2 * a)": (1.0, 0.5, 0.0),
    "max(erfinv(x), -a)": (-1.0, 0.0, math.sqrt(math.pi) / 2),
    "min(lgamma(x), a)": (0.0, 1.0, -0.5772156649),
}
"""An expression with an x at which what it leaves has an infinite slope, and another with the slope there."""


@pytest.mark.parametrize("expression", ENTRIES)
def test_a_branch_that_is_not_taken(expression: str) -> None:
    extreme, plain, slope = ENTRIES[expression]
    given = "data a : real[b]\n" if " a" in expression or "-a" in expression else ""
    text = f"axis b : batch\ninput x : real[b]\n{given}minimize\n  loss : sum[b]({expression})\n"
    tensors = {"x": torch.tensor([extreme, plain])} | ({"a": torch.ones(2)} if given else {})
    (found,) = gradients(text, "reference", **tensors)
    assert found == pytest.approx([0.0, slope], rel=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_choice_between_masks_is_a_mask(backend: str) -> None:
    """`m` masks a distribution and says where it counts."""
    text = """axis b : batch
axis v
input z : logits[b, v]
input y : logits[b, v]
data m : mask[b, v]
minimize
  loss : sum[b, v](sigmoid(log_softmax[v where m](z)) if m else y)
"""
    z = torch.tensor([[0.5, -1.0, 2.0], [1.0, 3.0, math.inf]], dtype=torch.float64)
    m = torch.tensor([[True, False, True], [False, False, False]])
    y = torch.ones(2, 3, dtype=torch.float64)
    left, right = z[0, 0].item(), z[0, 2].item()
    p = 1 / (1 + math.exp(right - left))
    first, third = p / (1 + p), (1 - p) / (2 - p)  # sigmoid(log p) = p / (1 + p)
    leaf, other = z.clone().requires_grad_(), y.clone().requires_grad_()
    loss = lossc.loads(text, backend=backend)(z=leaf, y=other, m=m).loss
    loss.backward()
    slope = p * (1 - p) * (1 / (1 + p) ** 2 - 1 / (2 - p) ** 2)
    assert loss.item() == pytest.approx(first + third + 4)
    assert leaf.grad is not None and other.grad is not None
    assert leaf.grad.tolist() == [pytest.approx([slope, 0.0, -slope]), [0.0, 0.0, 0.0]]
    assert other.grad.tolist() == [[0.0, 1.0, 0.0], [1.0, 1.0, 1.0]]


def test_a_factor_of_what_is_not_taken() -> None:
    text = "axis b : batch\ninput x : real[b]\ninput y : real[b]\nminimize\n  loss : sum[b](min(exp(x) * y, 2))\n"
    found = gradients(text, "reference", x=torch.tensor([1e4, 0.1]), y=torch.ones(2))
    assert found == [pytest.approx([0.0, math.exp(0.1)]), pytest.approx([0.0, math.exp(0.1)])]


def test_a_parameter_in_what_is_taken_and_in_what_is_not() -> None:
    text = (
        "axis b : batch\ninput x : real[b]\nlearn s : real = 0.5\nminimize\n  loss : sum[b](min(exp(s * x) * s, 2))\n"
    )
    objective = lossc.loads(text)
    objective(x=torch.tensor([1e4, 0.1])).loss.backward()
    assert objective.learn["s"].grad == pytest.approx(math.exp(0.05) * (1 + 0.05))


def test_a_second_derivative_of_what_is_not_taken() -> None:
    """d/dx (d min(exp x, 2) / dx)^2 = 2 exp(2 x) where the exponential is taken."""
    text = "axis b : batch\ninput x : real[b]\nminimize\n  loss : sum[b](grad[x](min(exp(x), 2))^2)\n"
    (found,) = gradients(text, "reference", x=torch.tensor([1e4, 0.1]))
    assert found == pytest.approx([0.0, 2 * math.exp(0.2)])


# ------------------------------------------------------------------------------------------------ over classes

_ROWS = """axis b : batch
axis v
input z : logits[b, v]
data labels : label[b] in v
let nll = -log_softmax[v](z)[v = labels]
let p = softmax[v](z)[v = labels]
minimize
  loss : sum[b]({})
"""
_CLASSES = "axis b : batch\naxis v\ninput z : real[b, v]\nminimize\n  loss : sum[b]({})\n"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("expression", ["min(exp(nll), 2)", "clip(1 / p, 0, 2)", "min(p^-2, 2)"])
def test_of_a_row(expression: str, backend: str) -> None:
    """At logits of +-1e4, where the probability of the label is 0."""
    found = gradients(
        _ROWS.format(expression), backend, z=torch.tensor([[1e4, 0.0, -1e4]]), labels=torch.tensor([2])
    )  # fmt: skip
    assert found == [[[0.0, 0.0, 0.0]]]


OF_CLASSES: dict[str, Callable[[Tensor], Tensor]] = {
    "sum[v](min(exp(z), 2))": lambda z: torch.where(z < math.log(2), z.clamp(max=9).exp(), 2.0).sum(),
    "sum[v](max(log(z^2), -9))": lambda z: torch.where(
        z != 0, 2 * torch.log(torch.where(z != 0, z, 1.0).abs()), 0.0
    ).sum(),
    "sum[v](clip(exp(z), 0, 3) * sigmoid(z))": lambda z: (
        torch.where(z.exp() <= 3, z.clamp(max=9).exp(), 3.0) * torch.sigmoid(z)
    ).sum(),
    "median[v](exp(z))": lambda z: z.median(dim=1).values.exp().sum(),
    "min[v](exp(z))": lambda z: z.amin(dim=1).exp().sum(),
    "sum[v](min(1 / softmax[v](z), 5))": lambda z: _capped(z),
}
"""Expressions over classes with the same in torch, written so that nothing of what is left is read."""


def _capped(z: Tensor) -> Tensor:
    """min(1 / p, 5) in logs, which is read where 1 / p is less."""
    taken = -torch.log_softmax(z, dim=1) < math.log(5)
    return torch.where(taken, torch.exp(torch.where(taken, -torch.log_softmax(z, dim=1), 0.0)), 0.0).sum()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("expression", OF_CLASSES)
def test_over_classes(expression: str, backend: str) -> None:
    z = torch.tensor([[1e4, 0.0, -1e4], [0.3, -0.6, 0.1]])
    (found,) = gradients(_CLASSES.format(expression), backend, z=z)
    exact = z.double().requires_grad_()
    OF_CLASSES[expression](exact).backward()
    assert torch.tensor(found) == pytest.approx(exact.grad, rel=1e-5, abs=1e-6)


# ------------------------------------------------------------------------------------------------ clipped policies

POLICY = """use std.settings.rollouts
use std.policy ({0})
minimize
  loss : mean[q, sample, t where mask]({0}(ratio, advantage))
"""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("term", ["ppo_clip", "grpo"])
def test_a_ratio_that_overflows_and_is_clipped(term: str, backend: str) -> None:
    """A token that was impossible when sampled and is now certain, in a sample that was better than the others."""
    z = torch.tensor([[[[1e4, 0.0, -1e4]], [[0.3, 0.1, 0.2]]]])
    batch = {
        "labels": torch.zeros(1, 2, 1, dtype=torch.int64), "mask": torch.ones(1, 2, 1, dtype=torch.bool),
        "old_logp": torch.tensor([[[-1e4], [-1.0]]]), "reward": torch.tensor([[1.0, 0.0]]),
    }  # fmt: skip
    logits = z.clone().requires_grad_()
    lossc.loads(POLICY.format(term), backend=backend)(logits=logits, **batch).loss.backward()
    assert logits.grad is not None
    row = torch.softmax(z[0, 1, 0].double(), dim=-1)
    ratio, advantage = row[0] * math.e, -0.5 / (math.sqrt(0.5) + 1e-4)
    slope = -(row - torch.tensor([1.0, 0.0, 0.0])) * -ratio * advantage / 2
    assert logits.grad[0, 0, 0].tolist() == [0.0, 0.0, 0.0]
    assert logits.grad[0, 1, 0].tolist() == pytest.approx(slope.tolist(), rel=1e-4)


# ------------------------------------------------------------------------------------------------ 0 times log 0

WEIGHED = (
    "m * (log(m) - log(q))", "(log(m) - log(q)) * m", "m * ((log2(m) - log2(q)) / q)", "m * q * (log2(m) - log2(q))",
    "m * (q * (log(m) - log(q)) + 1)", "m^2 * log(m)", "m * sg(log2(m))", "m / q * log1p(m - 1)",
    "m * (log2(m^2) if q > 0 else 0)",
)  # fmt: skip


@pytest.mark.parametrize("form", WEIGHED)
def test_a_logarithm_of_0_times_0(form: str) -> None:
    """Value and gradient of entries that are 0 are 0, of others those of the other entries alone."""
    text = f"axis b : batch\nlet f = {form}\ninput m : unit[b]\ninput q : positive[b]\nminimize\n  f : sum[b](f)\n"
    m, q = torch.tensor([0.0, 0.25, 0.75]), torch.tensor([0.5, 0.5, 2])
    for backend in BACKENDS:
        found = []
        for rows in ([0, 1, 2], [1, 2]):
            leaves = [x[rows].double().requires_grad_() for x in (m, q)]
            loss = lossc.loads(text, backend=backend).double()(m=leaves[0], q=leaves[1]).loss
            slopes = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
            found.append((loss.detach(), *(slope[-2:] for slope in slopes)))
            assert not slopes[1][:-2].any()
            assert bool(slopes[0].isfinite().all())
        torch.testing.assert_close(*found)
