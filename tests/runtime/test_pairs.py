"""Matrices of all pairs that never exist, whichever of their axes an objective runs along."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

import lossc
from lossc.runtime.backends import both_ways, heads, passage
from lossc.runtime.backends.projection import Projection

HEAD = """objective o
use std.settings.embeddings
use std.contrastive (info_nce, symmetric_nce, sigmoid_pairs, sup_con)
data w : nonneg[b]
data m : mask[b]
data same : mask[b, j]
data g : label[b] in c
learn tau : positive = 0.2
"""

TEXTS = {
    "one direction": "minimize\n  a : mean[b](info_nce(s, tau = tau))\n",
    "both": "minimize\n  a : mean[b](symmetric_nce(s, tau = tau))\n",
    "both, weighed and masked": "minimize\n  a : mean[b where m](w * symmetric_nce(s, tau = tau))\n",
    "two means": "minimize\n  a : (mean[b](info_nce(s)) + mean[j](logsumexp[b](s / tau) - s[b = index[j]])) / 2\n",
    "two terms": "minimize\n  rows : mean[b](info_nce(s))\n  columns : mean[j](logsumexp[b](s / tau) - max[b](s))\n",
    "every pair": "minimize\n  a : mean[b](sigmoid_pairs(s, bias = -1))\n",
    "every pair at once": "minimize\n  a : mean[b, j](softplus((s - tau) * (1 if g[b -> j] == g else -1)))\n",
    "positives by label": "minimize\n  a : mean[b](sup_con(s, g, tau = tau))\n",
    "positives by mask": "minimize\n  a : mean[b](logsumexp[j](s / tau) - logsumexp[j where same](s / tau)) + "
    "mean[j](logsumexp[b](s / tau) - logsumexp[b where same](s / tau))\n",
    "hardest": "minimize\n  a : mean[b](relu(0.2 + max[j where index[j] != index[b]](s) - s[j = index[b]])"
    " + relu(0.2 + max[b where index[j] != index[b]](s) - s[b = index[j]])[j -> b])\n",
    "one axis in the exponent of the other": "minimize\n  a : mean[b](logsumexp[j](s / tau - logsumexp[b](s / tau)))\n",
    "softmax along both": "minimize\n  a : -mean[b](log((softmax[j](s / tau) * softmax[b](s / tau))[j = index[b]]))\n",
    "a function of both": "minimize\n  a : mean[b](symmetric_nce(s, tau = tau)^2)\nmonitor\n"
    "  x : mean[b](argmax[j](s) == index[b])\n  y : mean[j](argmax[b](s) == index[j])\n",
    "marginal": "minimize\n  a : sum[j](xlogy(mean[b](softmax[j](s / tau)), mean[b](softmax[j](s / tau))))\n",
    "an order along columns": "minimize\n  a : mean[b](info_nce(s)) + mean[j](sum[k](topk[b -> k](s, 2)))\n",
}  # fmt: skip


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rows in a block, and a block in several slices."""
    monkeypatch.setattr(heads, "CPU_BYTES", 1)
    monkeypatch.setattr(heads, "CPU_ROWS", 3)
    monkeypatch.setattr(passage, "SLICE_BYTES", 1)
    monkeypatch.setattr(both_ways, "LEAST_FEATURES", 1)


def batch(rows: int = 7) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    same = torch.rand(rows, rows, generator=generator) < 0.3
    return {
        "w": torch.rand(rows, generator=generator, dtype=torch.float64), "m": torch.rand(rows, generator=generator) < 0.7,
        "g": torch.randint(3, (rows,), generator=generator), "same": same | torch.eye(rows, dtype=torch.bool),
    }  # fmt: skip


def embeddings(rows: int = 7, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(rows, 4, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for _ in range(2)]


def assert_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def outcome(text: str, backend: str, s: Any, leaves: list[Tensor], **options: bool) -> list[Tensor]:
    """The loss, the monitors and the gradients of the leaves and of what is learned."""
    objective = lossc.loads(HEAD + text, backend=backend).double()
    needed = objective.variant("s", *batch()).required
    result = objective(s=s, **{name: x for name, x in batch().items() if name in needed}, **options)
    found = torch.autograd.grad(result.loss, [*leaves, *objective.parameters()], allow_unused=True)
    return [result.loss, *result.monitors.values(), *(x for x in found if x is not None)]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The rows of each block of scores; no matrix is formed."""
    blocks: list[int] = []
    kept = Projection.scores

    def counting(self: Projection, hidden: Tensor, rows: Tensor | None) -> Tensor:
        blocks.append(hidden.shape[0])
        return kept(self, hidden, rows)

    def refusing(self: lossc.Linear) -> Tensor:
        raise AssertionError("the matrix is formed")

    with monkeypatch.context() as patches:
        patches.setattr(Projection, "scores", counting)
        patches.setattr(lossc.Linear, "logits", refusing)
        yield blocks


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("backend", ["torch", "c"])
def test_no_matrix_along_either_axis(text: str, backend: str, made: list[int]) -> None:
    x, y = embeddings()
    found = outcome(text, backend, lossc.Pairs(x, y), [x, y])
    unit = [functional.normalize(each, dim=-1) for each in (x, y)]
    assert_equal(found, outcome(text, "reference", unit[0] @ unit[1].T, [x, y]))
    assert made and max(made) == 3


@pytest.mark.parametrize(("text", "times"), [("one direction", 1), ("both", 2), ("both, weighed and masked", 2),
                                             ("two means", 2), ("every pair", 1), ("positives by label", 1)])  # fmt: skip
def test_gradients_come_with_the_block(text: str, times: int, made: list[int]) -> None:
    """Each direction makes its scores once, though the objective is a mean."""
    x, y = embeddings()
    outcome(TEXTS[text], "c", lossc.Pairs(x, y), [x, y])
    assert sum(made) == 7 * times


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each block whose gradients are taken to the vectors on either side."""
    blocks: list[int] = []
    kept = Projection.add

    def counting(self: Projection, total: Mapping[str, Tensor], hidden: Tensor, *rest: Any) -> None:
        blocks.append(hidden.shape[0])
        kept(self, total, hidden, *rest)

    monkeypatch.setattr(Projection, "add", counting)
    return blocks


@pytest.mark.parametrize(("text", "times"), [("both", 1), ("two means", 1), ("two terms", 1), ("positives by mask", 1),
                                             ("hardest", 2), ("both, weighed and masked", 2)])  # fmt: skip
def test_both_directions_share_their_gradient(text: str, times: int, made: list[int], taken: list[int]) -> None:
    """Four products for a symmetric loss: scores twice, and each of the two of one gradient once.

    The largest entry is found again where it was found, and rows that do not count are not multiplied: those go apart.
    """
    x, y = embeddings()
    outcome(TEXTS[text], "torch", lossc.Pairs(x, y), [x, y])
    assert (sum(made), sum(taken)) == (14, 7 * times)


def test_few_features_are_multiplied_rather_than_turned(
    monkeypatch: pytest.MonkeyPatch, made: list[int], taken: list[int]
) -> None:
    monkeypatch.setattr(both_ways, "LEAST_FEATURES", 5)
    x, y = embeddings()
    outcome(TEXTS["both"], "c", lossc.Pairs(x, y), [x, y])
    assert sum(taken) == 14


@pytest.mark.parametrize("frozen", ["none", "x", "y", "scale"])
def test_both_directions_of_a_head_with_all_parts(frozen: str, made: list[int], taken: list[int]) -> None:
    """A bias for each column, a learned scale, a cap; and without the gradient of one part."""
    text = "minimize\n  a : mean[b](info_nce(s)) + mean[j](logsumexp[b](s) - s[b = index[j]])\n"
    found = []
    for backend in ("c", "reference"):
        x, y = embeddings()
        bias = torch.linspace(-1, 1, 7, dtype=torch.float64, requires_grad=True)
        scale = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
        parts = {"x": x, "y": y, "bias": bias, "scale": scale}
        leaves = [part for name, part in parts.items() if name != frozen]
        for name, part in parts.items():
            part.requires_grad_(name != frozen)
        head = lossc.Linear(x, y, bias, scale=scale, softcap=3.0)
        s = head if backend == "c" else 3 * torch.tanh(scale * (x @ y.T + bias) / 3)
        loss = lossc.loads(HEAD + text, backend=backend).double()(s=s).loss
        found.append([loss, *torch.autograd.grad(5 * loss, leaves)])
    assert_equal(*found)
    assert sum(taken) == 7


def test_both_directions_again(made: list[int], taken: list[int]) -> None:
    """A second backward pass over the same graph, whose gradients are gone with the first."""
    x, y = embeddings()
    loss = lossc.loads(HEAD + TEXTS["both"], backend="c").double()(s=lossc.Pairs(x, y)).loss
    first = torch.autograd.grad(loss, [x, y], retain_graph=True)
    assert sum(taken) == 7
    assert_equal(list(torch.autograd.grad(loss, [x, y])), list(first))
    assert sum(taken) == 21


def test_both_directions_in_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients as near to the exact ones as those of the matrix."""
    monkeypatch.setattr(heads, "CPU_ROWS", 32)
    exact = embeddings(96)
    objective = lossc.loads(HEAD + TEXTS["both"], backend="reference")
    truth = torch.autograd.grad(objective.double()(s=lossc.Pairs(*exact).logits()).loss, exact)
    errors = []
    for backend in ("c", "reference"):
        x, y = embeddings(96, torch.bfloat16)
        pairs = lossc.Pairs(x, y)
        loss = lossc.loads(HEAD + TEXTS["both"], backend=backend)(s=pairs if backend == "c" else pairs.logits()).loss
        found = torch.autograd.grad(loss, [x, y])
        errors.append(max(float((g.double() - t).norm() / t.norm()) for g, t in zip(found, truth, strict=True)))
    assert errors[0] <= 1.5 * errors[1]


def test_terms_apart_and_other_gradients_than_expected(made: list[int]) -> None:
    x, y = embeddings()
    unit = [functional.normalize(each, dim=-1) for each in (x, y)]
    found = []
    for backend, s in (("c", lossc.Pairs(x, y)), ("reference", unit[0] @ unit[1].T)):
        objective = lossc.loads(HEAD + TEXTS["two terms"], backend=backend).double()
        result = objective(s=s, per_term=True)
        leaves = [x, y, *objective.parameters()]
        both = torch.autograd.grad(3 * result.loss + result.terms["columns"], leaves, retain_graph=True)
        rows = torch.autograd.grad(result.terms["rows"], leaves, allow_unused=True)
        found.append([result.loss, *both, *(x for x in rows if x is not None)])
    assert_equal(*found)


def test_the_same_vectors_on_both_sides(made: list[int]) -> None:
    x, _ = embeddings()
    found = outcome(TEXTS["both"], "c", lossc.Pairs(x, x), [x])
    unit = functional.normalize(x, dim=-1)
    assert_equal(found, outcome(TEXTS["both"], "reference", unit @ unit.T, [x]))


def test_a_matrix_that_is_an_input_of_a_head_with_a_bias(made: list[int]) -> None:
    """The mean over rows of a distribution over classes, as of a batch's predictions."""
    batch = "mean[b](softmax[v](logits))"
    text = f"minimize\n  a : mean[b](ce(logits, labels)) + sum[v](xlogy({batch}, {batch}))"
    generator = torch.Generator().manual_seed(6)
    shapes = ((5, 3), (9, 3), (9,))
    leaves = [torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]
    labels = torch.tensor([0, 3, -1, 8, 2])
    hidden, weight, bias = leaves
    head = lossc.Linear(hidden, weight, bias, scale=1.3, softcap=4.0)
    scores = 4.0 * torch.tanh(1.3 * (hidden @ weight.T + bias) / 4.0)
    found = []
    for backend, logits in (("c", head), ("reference", scores)):
        objective = lossc.loads(f"objective o\nuse std.settings.classes\nuse std.ce (ce)\n{text}\n", backend=backend)
        loss = objective(logits=logits, labels=labels).loss
        found.append([loss, *torch.autograd.grad(loss, leaves)])
    assert_equal(*found)


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation makes."""

    entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for made in result if isinstance(result, tuple | list) else (result,):
            if isinstance(made, Tensor):
                self.entries = max(self.entries, made.untyped_storage().nbytes() // made.element_size())
        return result


@pytest.mark.parametrize("text", ["both", "every pair", "positives by label", "one axis in the exponent of the other"])
def test_nothing_is_as_large_as_the_matrix(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "CPU_ROWS", 16)
    monkeypatch.setattr(passage, "SLICE_BYTES", 1 << 20)
    x, y = embeddings(256, torch.float32)
    objective = lossc.loads(HEAD + TEXTS[text], backend="c")
    labels = {"g": torch.arange(256) % 100} if text == "positives by label" else {}
    with Largest() as largest:
        objective(s=lossc.Pairs(x, y), **labels).loss.backward()
    assert largest.entries <= 16 * 256
    assert x.grad is not None and y.grad is not None


def test_what_needs_the_matrix_forms_it() -> None:
    """An order along rows within a softmax along columns."""
    text = "minimize\n  a : mean[b](max[j](cumsum[b](s) * s))\n"
    x, y = embeddings()
    found = outcome(text, "c", lossc.Pairs(x, y), [x, y])
    assert_equal(found, outcome(text, "reference", lossc.Pairs(x, y).logits(), [x, y]))
