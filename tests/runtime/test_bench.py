"""`lossc bench`: rows, what is left out, processes that end early, the picture."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from lossc.runtime.bench import ALLOCATORS, Note, Row, Task, chart, measured, subjects, worker
from lossc.runtime.bench.memory import peak
from lossc.runtime.bench.subjects import exact, module_of
from lossc.runtime.cli.bench_view import View
from lossc.runtime.cli.boundary import run

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SIZES = {"b": 2, "t": 3, "v": 11, "pair": 2, "q": 2, "sample": 3}
OBJECTIVES = sorted(path.stem for path in BENCHMARKS.glob("o*_*.loss"))
KEYS = {"objective", "path", "variant", "dtype", "allocator", "ms", "floor_ms", "peak_bytes", "grad_error", "compile_s",
        "loss_error"}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _few_objects() -> None:
    """A worker collects garbage before it measures; here it need not go through what earlier tests left in caches."""
    gc.collect()
    gc.freeze()


def task_of(name: str, **changes: object) -> Task:
    settings = {
        "dtype": "fp32",
        "allocator": "default",
        "variants": ("eager", "terms", "torch"),
        "repeats": 1,
        **changes,
    }
    return Task(str(BENCHMARKS / f"{name}.loss"), {}, SIZES, **settings)  # type: ignore[arg-type]


def module_of_baselines() -> ModuleType:
    found = module_of(None)
    assert found is not None
    return found


def precise(row: Row) -> bool:
    assert row.grad_error is not None and row.loss_error is not None
    return row.grad_error < 1e-5 and row.loss_error < 1e-5


def events(capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[str, str]]:
    for line in capsys.readouterr().out.splitlines():
        event = json.loads(line)
        yield event["event"], event["text"]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_sum_of_library_calls_is_the_objective(name: str) -> None:
    rows = list(worker.rows(task_of(name)))
    assert [row.variant for row in rows] == ["eager", "terms", "torch"]
    assert all(precise(row) for row in rows)
    assert all(row.ms > 0 and row.floor_ms > 0 and row.peak_bytes >= 0 and row.compile_s >= 0 for row in rows)
    assert all(set(row.to_record()) == KEYS for row in rows)


@pytest.mark.parametrize("name", ["o1_ce", "o4_ce_distillation", "o8_dpo_nll", "o11_dpo_reference"])
def test_scores_that_a_linear_head_makes(name: str) -> None:
    variants = ("eager", "terms", "torch", "c", "again", "lce")
    rows = list(worker.rows(task_of(name, path="linear", features=5, variants=variants)))
    assert [row.variant for row in rows][:5] == list(variants[:5])
    assert [row.variant for row in rows][5:] == (["lce"] if name == "o1_ce" else [])
    assert all(row.path == "linear" and precise(row) for row in rows)


@pytest.mark.parametrize("name", ["o10_orpo", "o11_dpo_reference"])
@pytest.mark.parametrize("ignored", [0.0, 0.3])
def test_chunked_losses_of_liger_are_the_same_losses(name: str, ignored: float) -> None:
    """Loss, and gradients of hidden states and weight, against ours in double precision."""
    pytest.importorskip("liger_kernel")
    sizes = {"pair": 3, "t": 7, "v": 11}
    task = replace(
        task_of(name, path="linear", features=5, variants=("c", "given", "liger"), ignored=ignored), sizes=sizes
    )
    rows = list(worker.rows(task))
    assert [row.variant for row in rows] == ["c", *(["given"] if name.startswith("o11") else []), "liger"]
    assert all(precise(row) for row in rows)


def test_a_library_that_is_not_there_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = list(subjects.makers(task_of("o10_orpo", path="linear", variants=("liger",)), module_of_baselines()))
    assert found == [("liger", "it needs liger-kernel: `pip install 'lossc[bench]'`")]


def test_what_takes_a_head_says_so() -> None:
    tasks = [
        task_of("o1_ce", variants=("again", "lce")),
        task_of("o2_ce_smoothing_z", path="linear", variants=("liger",)),
    ]
    found = [why for task in tasks for _, why in subjects.makers(task, module_of_baselines())]
    assert found == [subjects.ON_HEADS, subjects.ON_HEADS, "no call is known for this objective"]


def test_without_double_precision_there_are_no_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "exact", None)
    (row,) = worker.rows(task_of("o1_ce", path="linear", features=5, variants=("torch",), exact=False))
    assert row.grad_error is None and row.loss_error is None
    assert row.ms > 0 and row.compile_s > 0


def test_the_gradients_of_learned_parameters_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = tmp_path / "learned.loss"
    text = "objective learned\nuse std.settings.classes\nlearn s : real = 0.3\nminimize\n  f : exp(-s) * mean[b](nll) + s\n"
    spec.write_text(text)
    task = replace(task_of("o1_ce", variants=("eager", "torch")), file=str(spec), sizes={"b": 4, "v": 11})
    assert all(precise(row) for row in worker.rows(task))
    _, found = subjects.exact(task, subjects.drawn(task, None))
    assert set(found) == {"logits", "learn s"}
    monkeypatch.setattr(worker, "learned", lambda loss: {"learn s": torch.zeros(())})
    assert all(row.grad_error == 1.0 for row in worker.rows(task))


def test_half_precision_is_as_far_off_as_half_precision_is() -> None:
    (row,) = worker.rows(task_of("o3_ce_smoothing_z_entropy", dtype="bf16", variants=("torch",)))
    assert row.grad_error is not None and 1e-4 < row.grad_error < 1e-2


def test_the_exact_gradient_is_the_same_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of("o6_js_ce")
    batch = subjects.drawn(task, module_of(None))
    loss, whole = exact(task, batch)
    monkeypatch.setattr(subjects, "PLAIN", 0)
    loss_of_blocks, blocks = exact(task, batch)
    assert torch.allclose(loss, loss_of_blocks, rtol=1e-12)
    assert whole.keys() == blocks.keys() == {"logits"}
    assert torch.allclose(whole["logits"], blocks["logits"], rtol=1e-12, atol=1e-15)


def test_an_objective_without_library_calls_has_no_such_row(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "mine.loss"
    path.write_text("use std.settings.classes\nuse std.ce (ce)\n\nminimize\n  fit : mean[b](ce(logits, labels))\n")
    rows = list(worker.rows(Task(str(path), {}, {"b": 3, "v": 5}, "fp32", "default", ("eager", "terms"), 1)))
    assert [row.variant for row in rows] == ["eager"]
    assert ("left out", "terms: no sum of library calls is known for this objective") in list(events(capsys))


def test_a_variant_that_fails_is_left_out(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(task: Task) -> object:
        raise RuntimeError("cannot\nbe compiled")

    monkeypatch.setattr(worker, "_warm_up_compiler", lambda device: None)
    monkeypatch.setattr("lossc.runtime.bench.subjects._compiled", fails)
    rows = list(worker.rows(task_of("o1_ce", variants=("compile", "eager"))))
    assert [row.variant for row in rows] == ["eager"]
    assert ("left out", "compile: RuntimeError: cannot") in list(events(capsys))


def test_rounds_fill_the_time_that_there_is() -> None:
    task = task_of("o1_ce", repeats=None, seconds=10.0)
    assert worker._rounds(task, 0, 0.0) == worker.FEWEST
    assert worker._rounds(task, 2, 1.0) == 20
    assert worker._rounds(task, 1, 9.0) == worker.FEWEST
    assert worker._rounds(task, 1, 1e-6) == worker.MOST
    assert worker._rounds(task_of("o1_ce", repeats=2), 1, 9.0) == 2


def test_a_quick_step_runs_several_times_in_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cpu")
    for seconds, count in ((0.001, worker.TURN_STEPS), (0.06, 2), (3.0, 1)):
        times = iter([seconds * (1 + place) for place in range(9)])
        monkeypatch.setattr(worker, "_timed", lambda step, device, times=times: next(times))
        assert worker._turn(lambda: None, device) == seconds
        assert next(times) == seconds * (1 + count)


def test_the_floor_reads_every_stream_and_writes_every_gradient() -> None:
    task = task_of("o4_ce_distillation")
    batch = worker.drawn(task, None)
    worker.floor(task, batch)()
    words = worker._words(torch.zeros(3, 5, dtype=torch.bfloat16))
    assert words.dtype == torch.int32 and words.numel() == 7


def test_peak_memory_counts_what_a_step_holds_at_once() -> None:
    size = 1 << 24

    def step() -> None:
        first = torch.ones(size // 4)
        del first
        torch.ones(size // 4)

    assert 0.5 * size < peak(step, torch.device("cpu")) < 4 * size


def test_a_process_that_ends_early_takes_no_other_task_with_it(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('gone')\n", encoding="utf-8")
    tasks = [task_of("o1_ce", baselines=str(broken)), task_of("o1_ce", variants=("eager",), allocator="default")]
    found = list(measured(tasks))
    failed = [event for event in found if isinstance(event, Note) and event.kind == "failed"]
    assert [(note.task, note.text) for note in failed] == [(tasks[0], "gone")]
    assert [event.variant for event in found if isinstance(event, Row)] == ["eager"]


def test_the_rows_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    spec = str(BENCHMARKS / "o1_ce.loss")
    assert run(["bench", spec, "--sizes", "b=2,t=3,v=7", "--dtype", "fp32", "--allocator", "tuned",
                "--variants", "eager,c", "--repeats", "1", "--json"]) == 0  # fmt: skip
    captured = capsys.readouterr()
    rows = json.loads(captured.out)["rows"]
    assert [(row["variant"], row["dtype"], row["allocator"], row["path"]) for row in rows] == [
        ("eager", "fp32", "tuned", "logits"), ("c", "fp32", "tuned", "logits")]  # fmt: skip
    assert all(set(row) == KEYS for row in rows)
    assert captured.err.startswith("[1/1] o1_ce  fp32  tuned allocator: starting\n")


def test_a_word_that_is_no_choice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    spec = str(BENCHMARKS / "o1_ce.loss")
    for option, value in (
        ("--dtype", "fp23"),
        ("--allocator", "jemalloc"),
        ("--variants", "egaer"),
        ("--sizes", "w=3"),
    ):
        assert run(["bench", spec, option, value]) == 2
        assert "E805" in capsys.readouterr().err


def test_the_tuned_allocator_is_set_for_its_process_alone() -> None:
    assert not ALLOCATORS["default"]
    assert all(name.startswith("MALLOC_") and name.endswith("_") for name in ALLOCATORS["tuned"])


def test_a_view_keeps_what_is_to_be_told_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    task = task_of("o1_ce")
    row = Row("o1_ce", "logits", "eager", "fp32", "default", 1.0, 0.5, 1, 0.0, 0.0)
    view = View([task])
    notes = [Note(task, "b=1", "extents"), Note(task, "terms: none", "left out"), row, Note(task, "gone", "failed")]
    assert list(view.rows(notes)) == [row]
    assert view.extents == {"o1_ce": "b=1"} and list(view.left_out) == ["o1_ce: terms: none"]
    assert [note.text for note in view.failed] == ["gone"]
    assert capsys.readouterr().err == ""


def test_the_chart_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [Row(name, "logits", variant, dtype, "default", 2.0, 0.5, 1 << 20, 0.0, 0.0)
            for name in ("o1_ce", "o2") for variant in ("eager", "c") for dtype in ("fp32", "bf16")]  # fmt: skip
    chart.draw(rows[:-1], tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
