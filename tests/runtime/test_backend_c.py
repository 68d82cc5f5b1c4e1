"""The backend `c` equals the reference: over the library, at odd sizes, on garbage, in every floating type."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from tests.runtime import fused_cases as cases
from tests.runtime.fused_cases import CHANGES, TEXTS, Outcome, assert_same, outcome
from tests.runtime.process_group import joined
from tests.specs.cases import CASES
from tests.specs.compare import assert_equal, evaluate
from tests.specs.variants import VARIANTS
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import lossc
from lossc import LosscError, Objective
from lossc.runtime.backends.c import Compiled
from lossc.runtime.backends.kernel_calls import Given, KernelCalls
from lossc.runtime.backends.operators import row_operators
from lossc.runtime.backends.toolchain import ToolchainError, compiler

try:
    compiler()
except ToolchainError:
    pytest.skip("there is no C compiler", allow_module_level=True)


@pytest.fixture(autouse=True)
def only_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing falls back to another backend."""

    def gave_up(self: Compiled, reason: Exception) -> None:
        raise AssertionError(f"no kernel: {reason}")

    monkeypatch.setattr(Compiled, "give_up", gave_up)


@cache
def pair(text: str) -> tuple[Objective, Objective]:
    return cases.objective(text, "c"), cases.objective(text, "reference")


@cache
def of_library(name: str, backend: str) -> Objective:
    return lossc.loads(CASES[name].program, backend=backend)


@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference_over_the_library(name: str) -> None:
    case = CASES[name]
    batch = VARIANTS["hidden"](case.batch(seed=3))
    inputs = case.differentiable & batch.keys()
    found, expected = (
        evaluate(lambda tensors, b=b: of_library(name, b)(**tensors).loss, batch, inputs) for b in ("c", "reference")
    )
    assert_equal(found, expected)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("text", TEXTS)
def test_equals_the_reference_on(text: str, change: str) -> None:
    fused, reference = pair(text)
    batch = CHANGES[change](cases.batch())
    assert_same(outcome(fused, batch), outcome(reference, batch), 1e-8)


@pytest.mark.parametrize("change", [cases.forbidden, cases.poisoned])
@pytest.mark.parametrize("text", ["four terms", "two distributions", "several labels", "coupled"])
def test_infinite_and_nan_entries_reach_what_they_reach_in_the_reference(text: str, change: cases.Change) -> None:
    fused, reference = pair(text)
    batch = change(cases.batch())
    found, expected = outcome(fused, batch), outcome(reference, batch)
    if change is cases.forbidden:  # the reference has NaN for d/d heat, where 0 probabilities meet infinite logits
        expected = Outcome(expected.values, {n: g for n, g in expected.gradients.items() if g.isfinite().all()})
        found = Outcome(found.values, {n: g for n, g in found.gradients.items() if n in expected.gradients})
    assert_same(found, expected)


def test_what_a_vocabulary_mask_hides_is_not_seen() -> None:
    fused, reference = pair("masks")
    batch = cases.hidden_classes(cases.batch())
    batch["allowed"] = torch.zeros_like(batch["allowed"])
    assert_same(outcome(fused, batch), outcome(reference, batch))


@pytest.mark.parametrize(("tokens", "classes"), [(1, 1), (1, 1000), (63, 7), (63, 1), (1, 32001)])
@pytest.mark.parametrize("text", ["four terms", "two distributions", "columns"])
def test_odd_sizes(text: str, tokens: int, classes: int) -> None:
    fused, reference = pair(text)
    batch = cases.batch(b=1, t=tokens, v=classes)
    assert_same(outcome(fused, batch), outcome(reference, batch))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("text", ["four terms", "two distributions", "columns", "coupled"])
def test_gradients_are_as_exact_as_those_of_the_reference(text: str, dtype: torch.dtype) -> None:
    fused, reference = pair(text)
    batch = cases.batch(t=9, v=50, dtype=dtype)
    exact = outcome(reference, cases.of_type(batch, torch.float64))
    found, expected = outcome(fused, batch), outcome(reference, batch)
    for name, gradient in exact.gradients.items():
        error, allowed = (
            float((each.gradients[name] - gradient).norm() / gradient.norm()) for each in (found, expected)
        )
        assert error <= max(1e-6, 1.5 * allowed), name


def test_no_offset_costs_accuracy() -> None:
    fused, _ = pair("two distributions")
    batch = cases.batch(dtype=torch.float32)
    moved = {**batch, "logits": (batch["logits"] + 1e4), "teacher": batch["teacher"] + 1e4}
    exact = outcome(pair("two distributions")[1], cases.of_type(moved, torch.float64))
    found = outcome(fused, moved)
    for name, gradient in exact.gradients.items():
        if name in ("logits", "teacher"):
            assert float((found.gradients[name] - gradient).norm() / gradient.norm()) < 2e-6


@pytest.mark.parametrize("text", ["four terms", "columns", "coupled"])
def test_upstream_gradients(text: str) -> None:
    """Of one row each, expanded, not contiguous, negative."""
    found = []
    batch = cases.batch()
    for each in pair(text):
        leaves = {
            n: x.detach().requires_grad_(n in cases.INPUTS) for n, x in batch.items() if n in each.program.tensors
        }
        value = next(iter(each(**leaves, values=True).values.values())).value
        upstream = -torch.arange(1.0, 1 + value.shape[0], dtype=value.dtype).reshape(-1, *[1] * (value.dim() - 1))
        value.backward(upstream.expand_as(value))
        found.append(leaves["logits"].grad)
    torch.testing.assert_close(found[0], found[1])
    batch = cases.batch()
    assert_same(*(outcome(each, batch, scale=-2.5) for each in pair(text)))


def test_a_gradient_is_held_while_the_next_is_computed() -> None:
    fused, _ = pair("four terms")
    leaves = {n: x for n, x in cases.batch().items() if n in fused.program.tensors}
    logits = leaves["logits"].requires_grad_()
    loss = fused(**leaves).loss
    (first,) = torch.autograd.grad(loss, logits, retain_graph=True)
    kept = first.clone()
    (second,) = torch.autograd.grad(2 * loss, logits)
    torch.testing.assert_close(first, kept)
    torch.testing.assert_close(second, 2 * kept)


def test_a_label_out_of_range_is_an_error_or_poisons_its_row() -> None:
    fused, _ = pair("four terms")
    leaves = {n: x for n, x in cases.batch().items() if n in fused.program.tensors}
    leaves["labels"][-1, -1], leaves["mask"][-1, -1] = 7, True
    with pytest.raises(LosscError, match="E706"):
        fused(**leaves)
    unchecked = lossc.loads(cases.HEAD + TEXTS["four terms"], backend="c", check_labels=False)
    logits = leaves["logits"].requires_grad_()
    unchecked(**leaves).loss.backward()
    assert logits.grad is not None
    assert logits.grad[-1, -1].isnan().any()
    assert logits.grad.flatten(0, 1)[:-1].isfinite().all()


def test_second_derivatives_and_transforms_are_refused_by_name() -> None:
    fused, _ = pair("four terms")
    leaves = {n: x for n, x in cases.batch().items() if n in fused.program.tensors}
    logits = leaves.pop("logits").requires_grad_()
    (gradient,) = torch.autograd.grad(fused(logits=logits, **leaves).loss, logits, create_graph=True)
    with pytest.raises(LosscError, match="reference"):
        gradient.square().sum().backward()
    with pytest.raises(LosscError, match="reference"):
        torch.func.grad(lambda x: fused(logits=x, **leaves).loss)(logits.detach())


def test_nothing_is_kept_without_gradient() -> None:
    fused, reference = pair("coupled")
    leaves = {n: x for n, x in cases.batch().items() if n in fused.program.tensors}
    with torch.no_grad():
        assert not fused(**leaves).loss.requires_grad
        torch.testing.assert_close(fused(**leaves).loss, reference(**leaves).loss)


@pytest.mark.parametrize("text", ["four terms", "two distributions", "coupled"])
def test_under_checkpointing_and_autocast(text: str) -> None:
    fused, _ = pair(text)
    leaves = {n: x for n, x in cases.batch(dtype=torch.float32).items() if n in fused.program.tensors}
    logits = leaves.pop("logits").requires_grad_()
    (expected,) = torch.autograd.grad(fused(logits=logits * 2, **leaves).loss, logits)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = checkpoint(lambda x: fused(logits=x * 2, **leaves).loss, logits, use_reentrant=False)
    (found,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own tracing does so
@pytest.mark.parametrize("text", ["four terms", "two distributions"])
def test_under_torch_compile(text: str) -> None:
    """One graph; labels are compared with the index along the classes, so that the gradient fuses into one loop."""
    fused, reference = pair(text)
    torch._dynamo.reset()
    compiled = torch.compile(fused, fullgraph=True, backend="aot_eager")
    batch = {n: x for n, x in cases.hidden_rows(cases.batch()).items() if n in fused.program.tensors}
    found = []
    for each in (compiled, reference):
        leaves = {n: x.detach().clone().requires_grad_(n in cases.INPUTS) for n, x in batch.items()}
        loss = each(**leaves).loss
        loss.backward()
        found.append({"loss": loss.detach(), **{n: x.grad for n, x in leaves.items() if x.grad is not None}})
    torch.testing.assert_close(found[0], found[1])


def test_under_ddp(tmp_path: Path) -> None:
    """A learned parameter of the objective is one of the model's, whose gradients the ranks average."""
    with joined(tmp_path, 0, 1):
        objective = cases.objective("columns", "c")
        model = torch.nn.parallel.DistributedDataParallel(objective)
        leaves = {n: x for n, x in cases.batch().items() if n in objective.program.tensors}
        model(**leaves).loss.backward()
        found = [x.grad for x in objective.learn.values()]
    reference = cases.objective("columns", "reference")
    reference(**leaves).loss.backward()
    torch.testing.assert_close(found, [x.grad for x in reference.learn.values()])


def operators(objective: Objective) -> list[Compiled]:
    return [each for each in objective.variant().run.__self__.operators if isinstance(each, Compiled)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["four terms", "two distributions", "columns", "masks", "several labels", "coupled"])
def test_operators_keep_the_rules_of_torch(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of statistics, and those that form gradients with them."""
    objective = cases.objective(text, "c")
    leaves = {n: x for n, x in cases.batch(dtype=torch.float32).items() if n in objective.program.tensors}
    taken: dict[KernelCalls, Given] = {}
    kept = KernelCalls.given
    monkeypatch.setattr(KernelCalls, "given", lambda calls, known: taken.setdefault(calls, kept(calls, known)))
    with torch.no_grad():
        objective(**leaves)
    objective(**{n: x.clone().requires_grad_(n in cases.INPUTS) for n, x in leaves.items()})
    assert len(taken) == (1 if text in ("several labels", "coupled") else 2)
    for calls, given in taken.items():
        moving = {n: (x.clone().requires_grad_(x.is_floating_point()), axes) for n, (x, axes) in given.streams.items()}
        expected = torch.arange(1.0, 4.0, dtype=torch.float64) if calls.kernel.adjoints else None
        family = row_operators(calls)
        torch.library.opcheck(family.forward, family.given(replace(given, streams=moving), expected))


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time that a gradient is worked out from statistics."""
    calls: list[int] = []
    kept = Compiled.gradients

    def counting(self: Compiled, *arguments: object) -> dict[str, Tensor]:
        calls.append(1)
        return kept(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Compiled, "gradients", counting)
    return calls


def test_a_row_is_visited_once_where_the_upstream_gradient_is_as_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch)
    objective = cases.objective("four terms", "c")
    outcome(objective, cases.batch())
    assert calls == []
    outcome(objective, cases.batch(), scale=0.25)
    assert calls == [1]
    outcome(objective, cases.batch(), scale=0.25)
    assert calls == [1]


def test_two_calls_of_one_step_expect_what_both_got(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch)
    objective = cases.objective("four terms", "c")
    leaves = {n: x for n, x in cases.batch().items() if n in objective.program.tensors}
    logits = leaves.pop("logits").requires_grad_()
    for _ in range(2):
        loss = objective(logits=logits, **leaves).loss + objective(logits=2 * logits, **leaves).loss
        (0.25 * loss).backward()
        assert len(calls) == 2


def test_other_upstream_gradients_than_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one term alone, of terms in other proportions, and of the same graph twice."""
    calls = counted(monkeypatch)
    found: list[list[Tensor]] = []
    for backend in ("c", "reference"):
        each = cases.objective("four terms", backend)
        leaves = {n: x for n, x in cases.batch().items() if n in each.program.tensors}
        logits = leaves.pop("logits").requires_grad_()
        result = each(logits=logits, **leaves, per_term=True)
        alone = torch.autograd.grad(result.terms["h"], logits, retain_graph=True)
        mixed = torch.autograd.grad(2 * result.terms["ce"] - result.terms["size"], logits)
        loss = each(logits=logits, **leaves).loss
        first = torch.autograd.grad(loss, logits, retain_graph=True)
        found.append([*alone, *mixed, *first, *torch.autograd.grad(loss, logits)])
    torch.testing.assert_close(found[0], found[1])
    assert len(calls) == 3


def test_shared_denominators_are_expected_too(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch)
    objective, reference = (cases.objective("four terms", backend) for backend in ("c", "reference"))
    leaves = {n: x for n, x in cases.batch().items() if n in objective.program.tensors}
    shared = objective.denominators(**leaves) + objective.denominators(**leaves)
    found = []
    for each in (objective, reference):
        logits = leaves["logits"].clone().requires_grad_()
        each(**{**leaves, "logits": logits}, denominators=shared).loss.backward()
        found.append(logits.grad)
    torch.testing.assert_close(found[0], found[1])
    assert calls == []
