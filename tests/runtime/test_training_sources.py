"""Tables of other programs, the parts of Python's documentation, and readings for TensorBoard."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from lossc.grammar.diagnostics import LosscError
from lossc.runtime.backends import cache
from lossc.runtime.training.planning import plan_run
from lossc.runtime.training.preparation import prepare
from lossc.runtime.training.sources import python_docs, read_rows

from .training_runs import CLASSES, start

ROWS: list[dict[str, Any]] = [{"features": [n, 0.5], "labels": n % 2, "name": f"row {n}"} for n in range(10)]
RUN = "objective: {setting: classes, minimize: ce}\ndata: rows.parquet\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def table(rows: list[dict[str, Any]] = ROWS) -> Any:
    return pyarrow.Table.from_pylist(rows)


def refused(text: str = RUN) -> list[str]:
    Path("run.yaml").write_text(text, encoding="utf-8")
    plan = plan_run("run.yaml", {}, resume=False)
    with pytest.raises(LosscError) as failure:
        prepare(plan.run, plan.spec, plan.base)
    return [f"{problem.code} {problem.span} {problem.message}" for problem in failure.value.diagnostics]


# Parquet


def test_parquet_files_have_the_rows_that_were_written() -> None:
    parquet.write_table(table(), "rows.parquet")
    rows = read_rows("rows.parquet", Path())
    assert [row.values for row in rows.rows] == ROWS
    assert rows.columns == ("features", "labels", "name")
    assert start(RUN + "length: {steps: 1}\n", "one").steps == 1


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("features", [1.0, None], "E822 rows.parquet:1:20 `features` of this row is not a number but `null`"),
        ("features", "red", "E822 rows.parquet:1:15 `features` of this row is not a number but `red`"),
        ("labels", 0.5, "E822 rows.parquet:1:36 `labels` of this row is not a label (a whole number or a name) but `0.5`"),
        ("labels", date(2024, 1, 1), "E822 rows.parquet:1:1 `labels` of this row is not a label (a whole number or a name)"),
        ("label", 1, "E821 rows.parquet:1:1 `rows.parquet` has no column `labels`, which is needed for the class of each row"),
    ],
    ids=str,
)
def test_a_column_that_cannot_be_used_is_named(name: str, value: Any, expected: str) -> None:
    row = {"features": [1.0, 2.0], "labels": 0} if name != "label" else {"features": [1.0, 2.0]}
    parquet.write_table(table([{**row, name: value}] * 5), "rows.parquet")
    assert refused()[0].startswith(expected)


def test_a_file_that_is_no_parquet() -> None:
    Path("rows.parquet").write_text("features,labels\n")
    assert refused()[0].startswith("E820 <given>:1:1 cannot read the data `rows.parquet`")
    Path("rows.parquet").unlink()
    assert "no such file" in refused()[0]


# Datasets


def test_folders_of_datasets() -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    whole = datasets.Dataset.from_list(ROWS)
    whole.shuffle(seed=0).save_to_disk("saved", num_shards=3)
    rows = read_rows("saved", Path())
    assert sorted(row.values["name"] for row in rows.rows) == [row["name"] for row in ROWS]
    datasets.DatasetDict({"train": whole, "test": whole.select([1, 3])}).save_to_disk("split")
    assert [row.values["labels"] for row in read_rows("split:test", Path()).rows] == [1, 1]
    assert refused(RUN.replace("rows.parquet", "split"))[0].startswith("E820")
    with pytest.raises(LosscError) as failure:
        read_rows("split:tset", Path())
    assert failure.value.diagnostics[0].help == ("name one: `split:train`, `split:test`",)
    assert start(RUN.replace("data: rows.parquet", "data: {source: 'split:train', held_out_source: 'split:test'}")
                 + "length: {steps: 1}\n", "one").steps == 1  # fmt: skip


def test_a_folder_of_datasets_that_is_broken() -> None:
    Path("saved").mkdir()
    Path("saved/state.json").write_text("{}")
    assert "cannot read the data" in refused(RUN.replace("rows.parquet", "saved"))[0]
    Path("saved/state.json").write_text(json.dumps({"_data_files": [{"filename": "../run.yaml"}]}))
    Path("saved/run.yaml").write_text("no arrow")
    assert "cannot read the data `saved`" in refused(RUN.replace("rows.parquet", "saved"))[0]


# The documentation of Python


def test_the_parts_of_the_documentation_of_python() -> None:
    judged = read_rows("python-docs:judged", Path())
    pairs = read_rows("python-docs", Path())
    assert [row.values["desirable"] for row in judged.rows[:3]] == [True, False, True]
    assert judged.rows[1].values["completion"] == pairs.rows[1].values["rejected"]
    texts = read_rows("python-docs:text", Path())
    some = read_rows("python-docs:text:asyncio", Path())
    assert 100 < len(some) < len(texts)
    assert {row.values["package"] for row in some.rows} == {"asyncio"}
    with pytest.raises(LosscError, match="did you mean `text`"):
        read_rows("python-docs:texts", Path())


# TensorBoard


def test_readings_are_written_for_tensorboard() -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    outcome = start(CLASSES + "tensorboard: board\n", "one", length={"steps": 4})
    events = EventAccumulator("board").Reload()  # type: ignore[no-untyped-call]
    assert "accuracy/held_out" in events.Tags()["scalars"]  # type: ignore[no-untyped-call]
    losses = [(event.step, event.value) for event in events.Scalars("loss/train")]  # type: ignore[no-untyped-call]
    assert losses == [(r.step, pytest.approx(r.loss, rel=1e-6)) for r in outcome.journal.of("train")]


def test_nothing_optional_is_imported_unless_asked_for() -> None:
    program = (
        "import sys; import lossc.runtime.training.sources, lossc.runtime.training.board\n"
        "print(sorted({'datasets', 'pyarrow', 'tensorboard', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr


def test_docstrings_are_kept_between_processes_and_read_anew_where_the_file_is_damaged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "docstrings.json"

    def kept(_: str, make: Callable[[Path], None]) -> Path:
        if not file.exists():
            make(file)
        return file

    monkeypatch.setattr(cache, "kept", kept)
    monkeypatch.setattr(python_docs, "_parsed", lambda root: iter([("ast", "Nodes — and \ud800.")]))
    read = python_docs._docstrings.__wrapped__
    assert read() == read() == (("ast", "Nodes — and \ud800."),)
    for damage in ("[", "[1]", '{"ast": 3}', ""):
        file.write_text(damage)
        assert read() == (("ast", "Nodes — and \ud800."),)


def damaged(path: Path, table: Any, old: bytes, new: bytes, **options: Any) -> Path:
    """A Parquet file whose pages have other bytes than were written."""
    parquet.write_table(table, path, compression="none", use_dictionary=False, row_group_size=50, **options)
    data = path.read_bytes()
    at = data.index(old)
    path.write_bytes(data[:at] + new + data[at + len(old) :])
    return path


@pytest.mark.parametrize(
    ("old", "new", "options"),
    [
        (b"word 7 ", b"w\xffrd 7 ", {}),  # no UTF-8
        (b"word 7 ", b"\0\0\0\0 7 ", {}),  # before the least
        (b"word 7 ", b"zord 7 ", {}),  # behind the largest
        (b"word 7 ", b"word 8 ", {"write_page_checksum": True}),
        ((70).to_bytes(8, "little"), (2**40).to_bytes(8, "little"), {}),
    ],
)
def test_damaged_pages_of_parquet(tmp_path: Path, old: bytes, new: bytes, options: dict[str, Any]) -> None:
    table = pyarrow.table({"text": [f"word {i} of some" for i in range(100)], "label": list(range(100))})
    path = damaged(tmp_path / "a.parquet", table, old, new, **options)
    with pytest.raises(LosscError, match="E820"):
        read_rows(str(path), tmp_path)


def test_columns_of_every_kind_agree_with_their_footer(tmp_path: Path) -> None:
    columns = {
        "text": ["é", "z", None, ""], "label": [3, None, -1, 0], "x": [float("nan"), 0.0, -0.0, float("inf")],
        "flag": [True, False, None, True], "list": [[1], [], None, [2, 3]], "record": [{"a": 1}, None, {"a": 2}, {"a": 3}],
        "large": [2**63, 2**64 - 1, 0, 1], "nothing": [None] * 4, "bytes": [b"\xff", b"", None, b"a"],
    }  # fmt: skip
    types = {"large": pyarrow.uint64(), "nothing": pyarrow.int32()}
    table = pyarrow.table({name: pyarrow.array(values, types.get(name)) for name, values in columns.items()})
    for size in (1, 3, 4):
        parquet.write_table(table, tmp_path / "a.parquet", row_group_size=size)
        found = read_rows("a.parquet", tmp_path)
        assert [row.values["label"] for row in found.rows] == columns["label"]
