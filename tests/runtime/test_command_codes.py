"""Each code of E8 has a page, a command that shows it, and a golden message; the three sets are equal.

`LOSSC_GOLDEN=write` writes the messages anew; read the difference.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lossc.grammar.diagnostics.catalogue import codes
from lossc.runtime.cli.boundary import run

from .training_runs import CLASSES, write_pairs

GOLDEN = Path(__file__).parents[1] / "golden" / "commands"
SPEC = "use std.settings.classes\nuse std.ce (ce)\n\nminimize\n  fit : mean[b](ce(logits, labels))\n"
RUN = CLASSES.replace("steps: 8", "steps: 2")
ROW = '{"features": [1, 2], "labels": 0}\n'
DISTILL = "objective: {setting: distill, minimize: distill}\ndata: {source: texts.csv, tokens: 16}\nlength: {steps: 1}\n"
Prepare = Callable[[pytest.MonkeyPatch], None]


def nothing(_: pytest.MonkeyPatch) -> None:
    pass


def files(**texts: str) -> Prepare:
    def write(_: pytest.MonkeyPatch) -> None:
        for name, text in texts.items():
            Path(name.replace("__", ".")).write_text(text, encoding="utf-8")

    return write


def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", refuse)


def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")


def no_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import util

    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "transformers" else find(name))


def no_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import util

    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "pyarrow" else find(name))


def a_run(_: pytest.MonkeyPatch) -> None:
    assert run(["train", "run.yaml", "--output", "one"]) == 0


def a_damaged_run(monkeypatch: pytest.MonkeyPatch) -> None:
    a_run(monkeypatch)
    Path("one/manifest.json").write_text("")


CASES: dict[str, tuple[str, Prepare]] = {
    "E801": ("check spce.loss", nothing),
    "E802": ("check spec.loss --set gamma", nothing),
    "E803": ("show module.loss", files(module__loss="term square(x : real) = x^2\n")),
    "E804": ("compile spec.loss -o loss.py", files(loss__py="")),
    "E805": ("explain E8O1", nothing),
    "E806": ("train", nothing),
    "E807": ("train run.yaml", two_processes),
    "E808": ("bench spec.loss --baselines mine.py --dtype fp32 --allocator default",
             files(mine__py="raise RuntimeError('no')\n")),
    "E811": ("train bad.yaml", files(bad__yaml=RUN + "bach: 3\n")),
    "E812": ("train bad.yaml", files(bad__yaml=RUN + "precision: half\n")),
    "E813": ("train bad.yaml", files(bad__yaml="objective: spec.loss\ndata: {held_out: 0.1}\n")),
    "E814": ("train bad.yaml", files(bad__yaml="objective: z.loss\ndata: sklearn:iris\n",
                                     z__loss="axis b : batch\ninput z : real[b]\n\nminimize\n  a : mean[b](z)\n")),
    "E815": ("train bad.yaml", files(bad__yaml=RUN + "feeds: {logit: average, labels: {kind: samples}}\n")),
    "E820": ("train run.yaml --data sklearn:irs", nothing),
    "E821": ("train run.yaml --data rows.csv", files(rows__csv="x,label\n" + "1,0\n" * 5)),
    "E822": ("train run.yaml --data rows.jsonl", files(rows__jsonl=ROW * 5 + ROW.replace("2", "null"))),
    "E823": ("train bad.yaml", files(bad__yaml=RUN.replace("sklearn:iris", "rows.jsonl, classes: 2"),
                                     rows__jsonl=ROW * 5 + ROW.replace("0}", "2}"))),
    "E824": ("train run.yaml --data rows.jsonl", files(rows__jsonl=ROW)),
    "E830": ("train run.yaml --output spec.loss/run", nothing),
    "E831": ("train run.yaml --output one", full_disk),
    "E832": ("train run.yaml --output one", a_run),
    "E833": ("train run.yaml --output one --resume", nothing),
    "E834": ("train one --resume --seed 3 --steps 9", a_run),
    "E835": ("train one --resume", a_damaged_run),
    "E836": ("train steep.yaml --output one", files(steep__yaml="objective: {setting: regression, minimize: mse}\n"
                                                   "data: sklearn:diabetes\nmodel: linear\nlength: {steps: 4}\n"
                                                   "optimiser: {rate: 1e30, clip: 0}\nevaluate: {every: 4}\n")),
    "E840": ("train distill.yaml --teacher nowhere", nothing),
    "E841": ("train bad.yaml", files(bad__yaml="objective: spec.loss\ndata: sklearn:iris\n"
                                               "model: {kind: python, function: 'net.py:make'}\n")),
    "E842": ("train bad.yaml --allow-python", files(bad__yaml="objective: spec.loss\ndata: sklearn:iris\n"
                                                              "model: {kind: python, function: 'net.py:make'}\n",
                                                    net__py="def make(features, outputs):\n    return features\n")),
    "E843": ("train distill.yaml", nothing),
    "E850": ("train run.yaml", no_transformers),
    "E851": ("train run.yaml --data rows.parquet", no_pyarrow),
}  # fmt: skip


def test_pages_cases_and_messages_are_one_set() -> None:
    pages = {code for code in codes() if code.startswith("E8")}
    assert pages == set(CASES)
    if os.environ.get("LOSSC_GOLDEN") != "write":
        assert {path.stem for path in GOLDEN.glob("*.txt")} == pages


@pytest.mark.parametrize("code", sorted(CASES))
def test_a_command_shows_its_problem(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command, ready = CASES[code]
    monkeypatch.chdir(tmp_path)
    texts = "text\n" + "a few words\n" * 10
    files(spec__loss=SPEC, run__yaml=RUN, distill__yaml=DISTILL, texts__csv=texts)(monkeypatch)
    write_pairs(Path("pairs.jsonl"), 8)
    with monkeypatch.context() as patch:
        ready(patch)
        status = run(command.split())
    captured = capsys.readouterr()
    message = captured.err if f"error[{code}]" in captured.err else captured.out
    found = f"$ lossc {command}\n{message[message.index('error['):]}[{status}]\n"
    golden = GOLDEN / f"{code}.txt"
    if os.environ.get("LOSSC_GOLDEN") == "write":
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(found, encoding="utf-8")
    assert found == golden.read_text(encoding="utf-8")
    assert {line.partition("]")[0] for line in found.splitlines() if line.startswith("error[")} == {f"error[{code}"}
