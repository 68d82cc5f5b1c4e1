"""Whole programs, random ones among them, are the same on every backend, in value and gradient."""

from __future__ import annotations

import pytest
import torch
from tests.runtime import whole_programs
from torch import Tensor

import lossc

FOUND = (
    "mean[b, t, v where m](min(1 / softmax[v](z), 5))",
    "mean[b](std[t where m](sum[v where softmax[v](exp(log_softmax[v](z / tau) * gamma)) > 0.02](q)))",
    "mean[b](mean[t where m](min(exp(s * logsumexp[v](z)), 2 + a^2)))",
    "mean[b, t where m](a * median[v](z))",
    "sum[b, t, v where keep](w * z - median[v](z / tau))",
    "mean[b, t where m](a * logsumexp[v](index[v] / 7))",
    "mean[b, t where m](relu(w - 1)[v = argmax[v](index[v] / 7)])",
    "mean[b](mean[t where m](1) * mean[b, t](z[v = 2]))",
    "mean[b](pair[side = left] * mean[b, t](logsumexp[v](z)))",
    "mean[b, t where m](logsumexp[v where own](q) * (sum[b by g](a[t = 0]))[group = g])",
    "mean[b, t, v where m and own](xlogy(softmax[v](softmax[v](index[v] / 7)), softmax[v](relu(u * a + z[v = y]))))",
    "mean[b](logsumexp[v](sg(z / tau))[t = 0]) + tau",
    "sum[b, t, v where keep](sqrt(softmax[v](z / (z[v = y]^2 + 1))))",
    "sum[b, t](logsumexp[v](u * max[v](u * z[v = y]))) + sum[b, t, v](softmax[v](z) * tanh(u * z[v = y]))",
    "mean[b](softplus(mean[t where m](sum[v](z * (index[v] == y))))) + mean[b, t, v where m](sqrt(softmax[v](z + u))^2)",
    "max[b](mean[t where m](logsumexp[k](log_softmax[v where keep or own](z / tau)[v = ys])))",
)
"""Terms that went wrong once."""


def outcome(text: str, backend: str, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The loss, and the gradients of tensors and learned parameters."""
    objective = lossc.loads(text, backend=backend)
    own = {name: batch[name] for name in batch if name in objective.program.tensors}
    given = {name: x.clone().requires_grad_(name in ("z", "u", "a")) for name, x in own.items()}
    loss = objective(given).loss
    if loss.requires_grad:
        loss.backward()
    learned = {f"learn {name}": parameter.grad for name, parameter in objective.learn.items()}
    gradients = {name: x.grad for name, x in given.items()} | learned
    return {"loss": loss.detach(), **{name: g for name, g in gradients.items() if g is not None}}


def assert_same(text: str, seed: int) -> None:
    assert_equal_on(text, whole_programs.batch(seed))


def assert_equal_on(text: str, batch: dict[str, Tensor]) -> None:
    expected = outcome(text, "reference", batch)
    for backend in ("torch", "c"):
        found = outcome(text, backend, batch)
        for name in {*expected, *found}:
            zero = torch.zeros_like(expected.get(name, found.get(name)))  # type: ignore[arg-type]
            one, other = found.get(name, zero), expected.get(name, zero)
            scale = max(1.0, float(other[other.isfinite()].abs().max()) if other.isfinite().any() else 1.0)
            torch.testing.assert_close(
                one, other, rtol=1e-7, atol=1e-8 * scale, equal_nan=True, msg=f"{backend} {name}"
            )


@pytest.mark.parametrize("term", FOUND)
def test_what_went_wrong_once(term: str) -> None:
    assert_same(f"{whole_programs.HEAD}minimize\n  f : {term}\n", seed=5)


def test_the_logarithm_of_nothing_where_nothing_is_seen() -> None:
    """A row without a label, whose logsumexp is over absent values: -inf there, and hidden."""
    term = "mean[b, t where m](logsumexp[v](u + log_softmax[v](z)[v = y]) * (mean[b by g](a[t = 0]))[group = g])"
    text = f"{whole_programs.HEAD}minimize\n  f : {term}\n"
    batch = whole_programs.batch(1296)
    assert all(gradient.isfinite().all() for gradient in outcome(text, "reference", batch).values())
    assert_same(text, seed=1296)


@pytest.mark.parametrize(
    "term",
    [
        "sum[b, t](sum[v](softmax[v where own](z) * u))", "mean[b, t, v](softmax[v where own](z)^2)",
        "sum[b, t](sum[v](softmax[v where own](z)))", "sum[b, t](sum[v where own](exp(log_softmax[v where own](z)) * u))",
    ],
)  # fmt: skip
def test_rows_without_any_class(term: str) -> None:
    """A softmax over nothing is 0, as sums over nothing are."""
    batch = whole_programs.batch(5)
    batch["own"][0] = False
    assert_equal_on(f"{whole_programs.HEAD}minimize\n  f : {term}\n", batch)


@pytest.mark.parametrize("backend", ["reference", "torch", "c"])
def test_an_extent_that_a_model_alone_tells(backend: str) -> None:
    text = "axis b : batch\naxis t\naxis v\ninput x : real[b, d]\ninput net : model(real[b, d]) -> logits[b, v]\n"
    text += "data g : label[b] in group\ndata m : mask[b, t]\ndata y : label[b] in v\nminimize\n"
    text += "  f : mean[group](mean[b by g](mean[t where m](sum[v](softplus(index[v] / 7)))))\n  h : mean[b](net(x)[v = y]^2)\n"
    y = torch.tensor([0, 4, 2])
    batch = {"x": torch.ones(3, 2), "net": torch.nn.Linear(2, 5), "g": y // 2, "m": torch.ones(3, 4) > 0, "y": y}
    terms = lossc.loads(text, backend=backend)(batch).terms
    torch.testing.assert_close(terms["f"], torch.nn.functional.softplus(torch.arange(5) / 7).sum())


@pytest.mark.parametrize("seed", [*range(17), *range(18, 24)])
def test_random_programs(seed: int) -> None:
    """The 17th reduces an axis that nothing in it has."""
    assert_same(whole_programs.program(seed, depth=1 + seed % 3), seed)


EXTREMES = (
    "exp(z) * u",
    "softmax[v](z) * u",
    "u * tau * z + s * u",
    "tanh(z) * u + z * u",
    "log_softmax[v](z) * tau + u * s",
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("body", EXTREMES)
def test_each_loop_agrees_on_where_a_computed_value_is_largest(body: str, dtype: torch.dtype) -> None:
    """Entries are compared with the largest bit by bit, in loops that are compiled on their own."""
    text = "axis b : batch\naxis v\ninput z : logits[b, v]\ninput u : real[b, v]\nlearn tau : positive = 1.3\n"
    text += f"learn s : real = 0.7\nminimize\n  f : sum[b](max[v]({body}))\n"
    source = torch.Generator().manual_seed(0)
    z, u = (torch.randn(40, 300, generator=source).to(dtype).requires_grad_() for _ in range(2))
    lossc.loads(text, backend="c")(z=z, u=u).loss.backward()
    assert u.grad is not None
    assert (u.grad != 0).sum(dim=1).eq(1).all()


COMPUTED = ("z * a", "z + bias", "(z - a) * tau", "2 * z - bias")


@pytest.mark.parametrize("backend", ["torch", "c"])
@pytest.mark.parametrize("scores", COMPUTED)
def test_no_root_is_taken_of_a_probability_rounded_to_more_than_one(scores: str, backend: str) -> None:
    """(1 - p)^gamma of rows that are all but sure, where scores are computed in each loop anew."""
    text = "axis b : batch\naxis v\ninput z : logits[b, v]\ninput a : real[b]\ninput bias : real[v]\ndata y : label[b] in v\n"
    text += f"param gamma : nonneg = 1.5\nlearn tau : real = 1.3\nlet p = softmax[v]({scores})\n"
    text += "minimize\n  f : mean[b]((1 - p[v = y])^gamma * (1 - log(p)[v = y])) + mean[b](sum[v]((1 - p)^gamma * p))\n"
    source = torch.Generator().manual_seed(0)
    z, a, bias = (torch.randn(shape, generator=source) for shape in ((64, 7), (64,), (7,)))
    batch = {"z": 40 * z, "a": a, "bias": bias, "y": z.argmax(1)}
    objective = lossc.loads(text, backend=backend)
    own = {name: x for name, x in batch.items() if name in objective.program.tensors}
    loss = objective(own | {"z": own["z"].requires_grad_()}).loss
    loss.backward()
    assert loss.isfinite()
    assert own["z"].grad is not None
    assert own["z"].grad.isfinite().all()
