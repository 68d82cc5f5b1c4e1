"""Runs whose folder was damaged, and data that Python reads without a word: each is an error with a place."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lossc.grammar.diagnostics import LosscError
from lossc.runtime.cli.boundary import run
from lossc.runtime.training.journal import Reading, read_journal
from lossc.runtime.training.sources import read_rows

RUN = """\
objective: {setting: regression, minimize: mse}
data: {source: sklearn:diabetes, limit: 32}
model: linear
length: {steps: 4}
save: {every: 2}
output: one
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    (folder / "run.yaml").write_text(RUN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(["train", "run.yaml"]) == 0
    return folder


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x5A
    path.write_bytes(bytes(data))


def of_other_kind(path: Path) -> None:
    path.write_text("null")


DAMAGES: tuple[tuple[str, Callable[[Path], None]], ...] = (
    ("manifest.json", halved), ("manifest.json", of_other_kind), ("checkpoints/4/model.safetensors", halved),
    ("checkpoints/4/model.safetensors", Path.unlink), ("checkpoints/4/optimizer.pt", flipped),
    ("checkpoints/4/optimizer.pt", Path.unlink), ("checkpoints/4/trainer_state.json", halved),
    ("checkpoints/4/rng_state.pth", of_other_kind),
)  # fmt: skip


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_a_damaged_file_is_named_and_nothing_is_changed(
    name: str, damage: Callable[[Path], None], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    damage(Path("one", name))
    kept = Path("one/checkpoints/2/model.safetensors").read_bytes()
    assert run(["train", "one", "--resume"]) == 1
    message = capsys.readouterr().err
    assert "error[E835]" in message and "is damaged" in message and "Traceback" not in message
    assert Path("one/checkpoints/2/model.safetensors").read_bytes() == kept


def test_the_checkpoint_before_a_damaged_one_continues(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    shutil.rmtree("one/checkpoints/4")
    assert run(["train", "one", "--resume"]) == 0


def test_lines_of_a_journal_that_are_not_whole_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    reading = Reading(1, "train", 2.0, {"mse": 2.0})
    odd = [b"null\n", b'{"step": "x"}\n', b"\xff\n", reading.line().replace("mse", "mze").encode()]
    path.write_bytes(b"".join([reading.line().encode(), *odd, reading.line().encode(), b'{"step": 1, "te']))
    assert read_journal(path) == [reading, reading]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "x,x,y\n1,2,3\n", "names `x` twice"),
        ("a.csv", "x,y\n" + "1" * 200_000 + ",2\n", "cannot be read"),
        ("a.jsonl", '{"x": 1, "x": 2}\n', "`x` is named twice"),
        ("a\0.csv", "", "character 0"),
        ("a" * 5000 + ".csv", "", "too long"),
    ],
)
def test_data_that_say_two_things_or_nothing(name: str, text: str, words: str, tmp_path: Path) -> None:
    if text:
        (tmp_path / name).write_text(text)
    with pytest.raises(LosscError) as raised:
        read_rows(name, tmp_path)
    assert words in raised.value.diagnostics[0].message


def test_a_name_that_no_file_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(RUN)
    assert run(["train", "a\0b"]) == 2
    assert run(["check", "a\0b"]) == 1
    assert run(["train", "run.yaml", "--output", "x" * 300]) == 1
