"""`auto`: what it runs at which size, and that nothing but speed depends on it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tests.runtime import fused_cases as cases
from tests.runtime.fused_cases import assert_same, outcome
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.autograd import forward_ad

import lossc
from lossc import LosscError, LosscWarning
from lossc.compiler.simplify import simplify
from lossc.compiler.table import tables
from lossc.runtime.backends import choose
from lossc.runtime.backends.choose import Threshold, choice
from lossc.runtime.backends.toolchain import ToolchainError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SUMS = {"o1_ce": 1, "o3_ce_smoothing_z_entropy": 3, "o4_ce_distillation": 4, "o8_dpo_nll": 1}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    choose._is_available.cache_clear()
    yield
    choose._is_available.cache_clear()


def small(monkeypatch: pytest.MonkeyPatch, *backends: str) -> None:
    """A table whose backends serve from the first entry on."""
    table = dict.fromkeys(choose.DEVICES, tuple(Threshold(backend, 1, 1) for backend in backends))
    monkeypatch.setattr(choose, "thresholds", lambda: table)


@pytest.mark.parametrize(("device", "measured"), [("cpu", "points_us"), ("compiled", "compiled_points_us")])
def test_the_committed_table_says_when_and_where_it_was_measured(device: str, measured: str) -> None:
    record = json.loads(choose.FILE.read_text(encoding="utf-8"))
    assert {"date", "machine", "versions", "other", device, measured} <= set(record)
    for threshold in record[device]:
        beyond = [p for p in record[measured]
                  if p["entries"] >= threshold["entries"] and p["classes"] >= threshold["classes"]
                  and SUMS[p["objective"]] >= threshold["sums"]]  # fmt: skip
        assert beyond
        assert all(p[threshold["backend"]] <= 1.02 * p["reference"] for p in beyond)


def test_the_sums_of_a_table_are_those_over_its_classes() -> None:
    for name, count in SUMS.items():
        program = simplify(lossc.load(BENCHMARKS / f"{name}.loss").program).program
        assert max(choose.sums(table) for table in tables(program)) == count


def test_more_sums_are_worth_a_kernel_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    table = [("c", 50_000, 8, 2), ("c", 200_000, 8, 1), ("torch", 400_000, 8, 2)]
    monkeypatch.setattr(choose, "candidates", lambda _: table)
    assert choice("cpu", 100_000, 1000, sums=1) == "reference"
    assert choice("cpu", 100_000, 1000, sums=3) == "c"
    assert choice("cpu", 100_000, 1000, sums=3, kernels=False) == "reference"
    assert choice("cpu", 500_000, 1000, sums=1, kernels=False) == "reference"
    assert choice("cpu", 500_000, 1000, sums=3, kernels=False) == "torch"


def test_few_classes_are_told_apart_from_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """`c` is slower at 16 classes up to 64k entries, and faster at all others."""
    spec = importlib.util.spec_from_file_location("benchmarks_thresholds", BENCHMARKS / "thresholds.py")
    assert spec is not None
    assert spec.loader is not None
    measure = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(measure)
    monkeypatch.setattr(measure, "sums_of", SUMS.__getitem__)
    points = [
        {"objective": name, "entries": entries, "classes": classes, "reference": 100.0, "torch": 200.0,
         "c": 120.0 if (name, classes, entries) == ("o1_ce", 16, 65_536) else 60.0}
        for name in SUMS for classes, entries in ((1000, 64_000), (16, 65_536), (1000, 128_000), (16, 262_144))
    ]  # fmt: skip
    assert measure.thresholds(points) == [
        {"backend": "c", "entries": 64_000, "classes": 64, "sums": 1},
        {"backend": "c", "entries": 64_000, "classes": 8, "sums": 2},
        {"backend": "c", "entries": 128_000, "classes": 8, "sums": 1},
    ]


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own tracing does so
@pytest.mark.parametrize("backend", ["c", "torch", "reference"])
def test_a_compiled_step_is_one_graph(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    small(monkeypatch, backend)
    torch.compiler.reset()
    batch = cases.batch()
    compiled = torch.compile(cases.objective("four terms", "auto"), fullgraph=True, backend="aot_eager")
    assert_same(outcome(compiled, batch), outcome(cases.objective("four terms", "reference"), batch), 1e-5)


def test_small_batches_run_as_the_reference() -> None:
    assert choice("cpu", 64 * 10, 10) == "reference"
    assert choice("cpu", 1 << 24, 2) == "reference"


def test_large_batches_run_on_the_first_backend_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "compiler", lambda: None)
    assert choice("cpu", 1 << 25, 32000) == "c"
    assert choice("cuda", 1 << 25, 32000) == "torch"

    def missing() -> None:
        raise ToolchainError("no C compiler was found")

    choose._is_available.cache_clear()
    monkeypatch.setattr(choose, "compiler", missing)
    with pytest.warns(LosscWarning, match="no C compiler"):
        choice("cpu", 1 << 25, 32000)
    assert choice("cpu", 1 << 25, 32000) == "torch"  # without another warning, which would be an error here


@pytest.mark.parametrize("backend", ["c", "torch"])
@pytest.mark.parametrize("text", ["four terms", "coupled"])
def test_the_result_is_that_of_the_reference(monkeypatch: pytest.MonkeyPatch, text: str, backend: str) -> None:
    small(monkeypatch, backend)
    batch = cases.batch(dtype=torch.bfloat16)
    assert_same(outcome(cases.objective(text, "auto"), batch), outcome(cases.objective(text, "reference"), batch), 1e-2)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own tracing does so
@pytest.mark.parametrize("backend", ["c", "torch", "reference"])
def test_batches_of_other_lengths_recompile_once(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    small(monkeypatch, backend)
    torch.compiler.reset()
    counter = CompileCounterWithBackend("aot_eager")
    objective = lossc.loads("label_smoothing + 0.01 * z_loss", setting="tokens")
    compiled = torch.compile(objective, fullgraph=True, backend=counter)
    for length in (5, 6, 8, 11):
        compiled(**lossc.example_inputs(objective, {"b": 2, "t": length, "v": 13})).loss.backward()
    assert counter.frame_count <= 2


def test_what_feeds_on_vocabulary_sized_values_is_fused_for_its_memory_alone() -> None:
    text = "use std.settings.classes\nuse std.ce (ce)\n\nminimize\n  fit : mean[b](ce(logits, labels))\n"
    chosen = {}
    for name, more in (("alone", ""), ("fed", "  far : mean[b](median[v](logits)^2)\n")):
        run = lossc.loads(text + more).variant().run.__self__  # type: ignore[attr-defined]
        (operator,) = run._fused.operators
        chosen[name] = [operator.choice({"b": rows, "v": 1000}, "cpu") for rows in (8, 1 << 10, 1 << 14)]
    assert chosen == {"alone": ["reference", "c", "c"], "fed": ["reference", "reference", "c"]}


def test_transforms_run_on_the_reference_at_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, "torch")
    objective = lossc.loads("nll", setting="classes")
    labels = torch.tensor([0, 2])
    slope = torch.func.grad(lambda x: objective(logits=x, labels=labels).loss)
    curvature = torch.func.grad(lambda x: slope(x)[0, 0])(torch.zeros(2, 3))
    assert curvature.abs().max() > 0


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own forward mode does so
@pytest.mark.parametrize("backend", ["reference", "auto", "torch", "c"])
def test_under_vmap_and_in_forward_mode(backend: str) -> None:
    """The reference and what chooses it work; the others say that they do not."""
    objective, y = lossc.loads("nll", setting="classes", backend=backend), torch.tensor([[0, 2, -1], [1, 1, 0]])
    z, v = (torch.randn(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(at)) for at in (0, 1))

    def loss(z: Tensor, y: Tensor) -> Tensor:
        return objective(logits=z, labels=y).loss

    asked = {
        "vmap": lambda: torch.func.vmap(torch.func.grad(loss))(z, y),
        "jvp": lambda: torch.func.jvp(lambda z: loss(z, y[0]), (z[0],), (v[0],))[1],
        "forward": lambda: _tangent(z[0], v[0], lambda z: loss(z, y[0])),
    }
    if backend in ("torch", "c"):
        for ask in asked.values():
            with pytest.raises(LosscError, match="E720"):
                ask()
        return
    slopes = torch.stack([torch.autograd.grad(loss(x, y), x)[0] for x, y in zip(z.requires_grad_().unbind(), y, strict=True)])
    torch.testing.assert_close(asked["vmap"](), slopes)
    for way in ("jvp", "forward"):
        torch.testing.assert_close(asked[way](), (slopes[0] * v[0]).sum())


def _tangent(x: Tensor, direction: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    with forward_ad.dual_level():
        found: Tensor = forward_ad.unpack_dual(function(forward_ad.make_dual(x, direction))).tangent
    return found
