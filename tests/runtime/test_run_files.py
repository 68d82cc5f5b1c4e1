"""Run files: what is read, and every mistake with its place in the YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossc.grammar.diagnostics import LosscError
from lossc.runtime.training.planning import embedded_runs, plan_run
from lossc.runtime.training.runfile import Run
from lossc.runtime.training.sections import Llama, Mlp

OBJECTIVE = """\
objective: |
  objective small
  use std.settings.classes
  use std.ce (ce)
  param scale : positive = 1
  minimize
    fit : scale * mean[b](ce(logits, labels))
"""
DATA = "data: sklearn:iris\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(text: str, **changes: object) -> Run:
    Path("run.yaml").write_text(text, encoding="utf-8")
    return plan_run("run.yaml", changes, resume=False).run


def problems(text: str) -> list[str]:
    """`code line:column` of each problem of a run file."""
    with pytest.raises(LosscError) as failure:
        read(text)
    places = []
    for problem in failure.value.diagnostics:
        at = problem.span.source.position(problem.span.start)
        places.append(f"{problem.code} {at.line}:{at.column}")
    return places


def test_short_forms_and_texts_as_written() -> None:
    run = read(OBJECTIVE + DATA + "model: mlp\nbatch: 8\noptimiser: {rate: 1e-4}\nlength: {steps: 010}\nschedule: cosine\n")
    assert isinstance(run.model, Mlp)
    assert (run.data.source, run.batch.size, run.optimiser.rate, run.length.steps) == ("sklearn:iris", 8, 1e-4, 10)
    assert run.schedule.name == "cosine"


def test_an_expression_over_a_setting() -> None:
    run = read("objective: {setting: classes, minimize: focal + 0.1 * z_loss, monitor: nll}\n" + DATA)
    assert run.objective.minimize == "focal + 0.1 * z_loss"


def test_the_command_line_changes_sections_in_any_form() -> None:
    run = read(OBJECTIVE + DATA, **{"data.source": "sklearn:wine", "batch.accumulate": 4, "set": {"scale": "2"}})
    assert (run.data.source, run.batch.accumulate, run.set) == ("sklearn:wine", 4, {"scale": "2"})


def test_a_spec_beside_the_run_file() -> None:
    Path("deep").mkdir()
    Path("deep/small.loss").write_text("axis b : batch\ninput z : real[b]\n\nminimize\n  a : mean[b](z)\n", encoding="utf-8")
    Path("deep/run.yaml").write_text("objective: small.loss\n" + DATA, encoding="utf-8")
    plan = plan_run("deep/run.yaml", {}, resume=False)
    assert [term.name for term in plan.spec.program.terms] == ["a"]


@pytest.mark.parametrize("name", embedded_runs())
def test_the_runs_of_the_library_are_sound(name: str) -> None:
    plan = plan_run(name, {}, resume=False)
    assert not plan.spec.warnings
    assert str(plan.folder.path) == f"runs/{name}"


def test_a_new_folder_each_time() -> None:
    Path("runs/classes").mkdir(parents=True)
    assert str(plan_run("classes", {}, resume=False).folder.path) == "runs/classes-2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["E812 1:1"]),
        ("- 1\n", ["E812 1:1"]),
        ("objective: a.loss\nobjective: b.loss\n", ["E022 2:1"]),
        ("data: &x sklearn:iris\n", ["E021 1:7"]),
        (OBJECTIVE, ["E813 1:1"]),
        (DATA + "objective: nowhere.loss\n", ["E801 1:1"]),
        (OBJECTIVE + "data: {sorce: iris}\n", ["E813 8:1", "E811 8:8"]),
        (OBJECTIVE + DATA + "batch: {size: 0}\n", ["E812 9:15"]),
        (OBJECTIVE + DATA + "batch: {size: many, acumulate: 2}\n", ["E812 9:15", "E811 9:21"]),
        (OBJECTIVE + DATA + "precision: half\n", ["E812 9:12"]),
        (OBJECTIVE + DATA + "model: {kind: mpl}\n", ["E812 9:8"]),
        (OBJECTIVE + DATA + "model: {kind: mlp, hidden: [8, x]}\n", ["E812 9:32"]),
        (OBJECTIVE + DATA + "model: {hidden: 8}\n", ["E813 9:1"]),
        (OBJECTIVE + DATA + "model: {kind: llama, hidden: 30, heads: 4}\n", ["E812 9:8"]),
        (OBJECTIVE + DATA + "length: {}\n", ["E812 9:9"]),
        (OBJECTIVE + DATA + "length: {epochs: 1, steps: 2}\n", ["E812 9:9"]),
        (OBJECTIVE + DATA + "optimiser: {rate: nan}\n", ["E812 9:19"]),
        (OBJECTIVE + DATA + "seed: -1\n", ["E812 9:7"]),
        (OBJECTIVE + DATA + "set: [1]\n", ["E812 9:6"]),
        (OBJECTIVE + DATA + "set: {scal: 2}\n", ["E406 1:1"]),
        ("objective: {setting: classes}\n" + DATA, ["E812 1:12"]),
        (OBJECTIVE.replace("ce(logits", "ce(logts") + DATA, ["E101 7:30"]),
        (OBJECTIVE.replace("minimize\n", "monitor\n") + DATA, ["E501 2:13"]),
        ("objective: {setting: nope, minimize: z}\n" + DATA, ["E104 3:5", "E101 6:7"]),
    ],
)  # fmt: skip
def test_every_mistake_has_its_place(text: str, expected: list[str]) -> None:
    assert problems(text) == expected


def test_an_unknown_key_is_corrected() -> None:
    with pytest.raises(LosscError) as failure:
        read(OBJECTIVE + DATA + "model: {kind: mlp, hiden: 8}\n")
    assert failure.value.diagnostics[0].help == ("did you mean `hidden`?",)


def test_a_wrong_choice_is_corrected() -> None:
    with pytest.raises(LosscError) as failure:
        read(OBJECTIVE + DATA + "optimiser: {name: adamww}\n")
    assert failure.value.diagnostics[0].help == ("did you mean `adamw`?",)


def test_defaults_are_documented() -> None:
    assert Llama(kind="llama").layers == 2
    assert Run.model_json_schema()["properties"]["seed"]["default"] == 0
