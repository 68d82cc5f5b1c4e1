"""Under `torch.compile` the backend `c` goes through each row once, and its gradients are those of the reference."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from tests.runtime import fused_cases as cases
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lossc import Objective, loads
from lossc.runtime.backends import operators, probes
from lossc.runtime.backends.early import Expectation, Visit
from lossc.runtime.backends.kernel_calls import KernelCalls, Written
from lossc.runtime.backends.toolchain import ToolchainError, compiler

try:
    compiler()
except ToolchainError:
    pytest.skip("there is no C compiler", allow_module_level=True)

pytestmark = [  # torch's own tracing does so
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*script_method.* is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Skipping serialization:UserWarning"),
]

Call = Callable[..., Any]

TWO = """
minimize
  nll  : mean[b, t where mask](nll)
  size : 0.01 * mean[b, t where mask](z_loss(logits))
"""
UNKNOWN = """
minimize
  known   : mean[b, t where mask](nll)
  unknown : mean[b, t where nll > 1](nll)
"""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The functions of kernels in the order in which they go through the rows; no kernel has learnt anything before."""
    found: list[str] = []
    kept = KernelCalls.call

    def calling(self: KernelCalls, function: Any, given: Any, wants: Any) -> Written:
        found.append(function)
        return kept(self, function, given, wants)

    monkeypatch.setattr(KernelCalls, "call", calling)
    for family in operators._REGISTERED.values():
        family.expectation = Expectation()
    torch.compiler.reset()
    yield found
    torch.compiler.reset()


def pair(text: str, **options: bool) -> tuple[Call, Call, cases.Batch]:
    """An objective in a graph, the reference, and a batch."""

    def call(objective: Objective) -> Call:
        return lambda **tensors: objective(**tensors, **options)

    fused, reference = (cases.objective(text, backend) for backend in ("c", "reference"))
    return traced(call(fused)), call(reference), batch_of(fused)


def traced(call: Call) -> Call:
    return torch.compile(call, fullgraph=True, backend="aot_eager")


def batch_of(objective: Objective) -> cases.Batch:
    return {name: x for name, x in cases.hidden_rows(cases.batch()).items() if name in objective.program.tensors}


def gradients(call: Call, batch: cases.Batch, *values: Call) -> list[Tensor]:
    """The gradients of each of several values of one result, each held while the next is worked out."""
    leaves = {name: x.detach().clone().requires_grad_(name in cases.INPUTS) for name, x in batch.items()}
    inputs = [x for x in leaves.values() if x.requires_grad]
    result, found = call(**leaves), []
    for value in values:
        found += torch.autograd.grad(value(result), inputs, retain_graph=True, materialize_grads=True)
    return found


def times(factor: float) -> Call:
    return lambda result: factor * result.loss


def test_a_row_is_visited_once_for_the_upstream_gradient_that_came_last(calls: list[str]) -> None:
    compiled, reference, batch = pair(TWO)
    asked: list[tuple[list[float], list[str]]] = [
        ([1.0], ["visit"]), ([0.25], ["visit", "gradient"]), ([0.25], ["visit"]),
        ([0.25, 3.0, 0.25], ["visit", "gradient", "gradient"]),
    ]  # fmt: skip
    for factors, expected in asked:
        calls.clear()
        found = gradients(compiled, batch, *map(times, factors))
        assert calls == expected
        torch.testing.assert_close(found, gradients(reference, batch, *map(times, factors)))
    calls.clear()
    with torch.no_grad():
        torch.testing.assert_close(compiled(**batch).loss, reference(**batch).loss)
    compiled(**batch)
    assert calls == ["statistics", "statistics"]


def test_terms_apart_and_together_in_one_graph(calls: list[str]) -> None:
    """Nothing is formed early of terms that are asked for apart."""
    objective, reference = (cases.objective(TWO, backend) for backend in ("c", "reference"))

    def both(each: Objective) -> Call:
        return lambda **tensors: (each(**tensors, per_term=True), each(**tensors))

    def asked(results: Any) -> Tensor:
        found: Tensor = 2 * results[0].terms["nll"] - results[0].terms["size"] + results[1].loss
        return found

    found = gradients(traced(both(objective)), batch_of(objective), asked)
    assert calls == ["statistics", "visit", "gradient"]
    torch.testing.assert_close(found, gradients(both(reference), batch_of(objective), asked))


def test_of_each_row(calls: list[str]) -> None:
    compiled, reference, batch = pair(TWO, values=True)

    def rows(result: Any) -> Tensor:
        value: Tensor = result.values["nll"].value
        return (value * torch.arange(1.0, 1 + value.numel(), dtype=value.dtype).reshape(value.shape)).sum()

    found = gradients(compiled, batch, rows, times(1.0))
    assert calls == ["statistics", "gradient", "gradient"]
    torch.testing.assert_close(found, gradients(reference, batch, rows, times(1.0)))


def test_what_is_no_multiple_of_what_was_expected_is_not_expected_again(calls: list[str]) -> None:
    compiled, reference, batch = pair(UNKNOWN)
    expected = gradients(reference, batch, times(1.0))
    for call in (compiled, cases.objective(UNKNOWN, "c")):
        for functions in (["visit", "gradient"], ["statistics", "gradient"]):
            calls.clear()
            torch.testing.assert_close(gradients(call, batch, times(1.0)), expected)
            assert calls == functions


@pytest.mark.parametrize("inside", [True, False])
def test_under_checkpointing(calls: list[str], *, inside: bool) -> None:
    objective, reference = (cases.objective("columns", backend) for backend in ("c", "reference"))
    batch = batch_of(objective)

    def saving(call: Call) -> Call:
        return lambda **tensors: checkpoint(lambda **x: call(**x).loss, **tensors, use_reentrant=False)

    found = gradients(traced(saving(objective)) if inside else saving(traced(objective)), batch, lambda loss: loss)
    assert calls == ["visit", "visit"]
    torch.testing.assert_close(found, gradients(reference, batch, times(1.0)))


def test_gradients_are_kept_as_long_as_they_can_be_asked_for(calls: list[str]) -> None:
    """In a graph as `torch.compile` makes it by itself."""
    objective = cases.objective("minimize\n  nll : mean[b, t where mask](nll)\n", "c")
    compiled = torch.compile(objective, fullgraph=True)
    batch = {name: x for name, x in cases.batch().items() if name in objective.program.tensors}
    expected = gradients(objective, batch, times(1.0))
    gc.collect()
    before, _ = len(probes._MEMORY), calls.clear()
    result = compiled(**{**batch, "logits": batch["logits"].requires_grad_()})
    assert len(probes._MEMORY) == before + 1
    del result
    gc.collect()
    assert len(probes._MEMORY) == before
    torch.testing.assert_close(gradients(compiled, batch, times(1.0)), expected)
    assert calls == ["visit", "visit"]


def test_a_copy_of_a_probe_has_nothing() -> None:
    visit = Visit({"a": 1.0}, 1.0, {"x": torch.ones(2)})
    probe = probes.probe(visit)
    assert probes.kept(probe) is visit
    assert probes.kept(probe.clone()) is None
    assert probes.kept(torch.empty(0, dtype=torch.float64)) is None


def test_equal_kernels_of_tensors_and_axes_of_other_names() -> None:
    """Each objective is told apart by the names under which its operators find what they read."""
    for z, y, b, v in (("logits", "labels", "b", "v"), ("scores", "answers", "row", "c"), ("labels", "logits", "v", "b")):
        text = f"""
axis {b} : batch
input {z} : logits[{b}, {v}]
data  {y} : label[{b}] in {v}
minimize
  ce : mean[{b}](logsumexp[{v}]({z}) - {z}[{v} = {y}])
"""
        given = {z: torch.randn(6, 9, requires_grad=True), y: torch.randint(0, 9, (6,))}
        loss = torch.compile(loads(text, backend="c"), fullgraph=True, backend="aot_eager")(**given).loss
        wanted = torch.nn.functional.cross_entropy(given[z], given[y])
        torch.testing.assert_close(loss, wanted)
        torch.testing.assert_close(*(torch.autograd.grad(value, given[z])[0] for value in (loss, wanted)))
