"""Rows, columns, tokens and batches: what is made of data, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lossc.grammar.diagnostics import LosscError
from lossc.runtime.training.examples import Example, collate
from lossc.runtime.training.planning import plan_run
from lossc.runtime.training.preparation import Prepared, prepare
from lossc.runtime.training.sequences import encode, sequence_logp, token_logp
from lossc.runtime.training.sources import read_rows
from lossc.runtime.training.tokenizer import make_tokenizer

CLASSES = "objective: {setting: classes, minimize: ce}\n"
PAIRS = "objective: {setting: pairs, minimize: dpo}\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def prepared(run: str, **files: str) -> Prepared:
    for name, text in files.items():
        Path(name.replace("_", ".")).write_text(text, encoding="utf-8")
    Path("run.yaml").write_text(run, encoding="utf-8")
    plan = plan_run("run.yaml", {}, resume=False)
    return prepare(plan.run, plan.spec, plan.base)


def refused(run: str, **files: str) -> list[str]:
    """`code file:line:column message` of each problem."""
    with pytest.raises(LosscError) as failure:
        prepared(run, **files)
    return [f"{problem.code} {problem.span} {problem.message}" for problem in failure.value.diagnostics]


# Files


def test_jsonl_lines_that_are_no_objects_are_all_reported() -> None:
    found = refused(CLASSES + "data: rows.jsonl\n", rows_jsonl='{"x": 1, "labels": 0}\n\n{"x": \n[1]\n')
    assert [line.split(" ", 2)[:2] for line in found] == [["E822", "rows.jsonl:3:1"], ["E822", "rows.jsonl:4:1"]]


def test_ragged_csv_rows_are_reported() -> None:
    assert refused(CLASSES + "data: rows.csv\n", rows_csv="x,labels\n1,0\n2,1,7\n") == [
        "E822 rows.csv:3:1 this row has 3 fields, the heading has 2"
    ]


@pytest.mark.parametrize("source", ["rows.xlsx", "missing.csv", "sklearn:digit", "https://example.org/rows.csv"])
def test_a_source_that_is_none(source: str) -> None:
    assert refused(f"{CLASSES}data: {{source: '{source}'}}\n")[0].startswith("E820")


def test_many_bad_rows_are_counted() -> None:
    rows = "".join(f'{{"features": [{number}], "labels": null}}\n' for number in range(50))
    with pytest.raises(LosscError) as failure:
        prepared(CLASSES + "data: rows.jsonl\n", rows_jsonl=rows)
    assert len(failure.value.diagnostics) == 20
    assert failure.value.diagnostics[-1].help == ("30 more rows have problems",)


# Columns and values


def test_all_other_columns_are_features() -> None:
    rows = "width,labels,height\n1,0,5\n2,1,6\n3,0,7\n4,1,8\n5,0,9\n"
    ready = prepared(CLASSES + "data: rows.csv\n", rows_csv=rows)
    assert ready.sizes.features == 2
    assert ready.sizes.outputs == 2
    assert ready.train[0].network["features"].tolist() in ([1, 5], [2, 6])


def test_columns_can_be_named() -> None:
    rows = "w,kind,h\n1,cat,5\n2,dog,6\n3,cat,7\n4,dog,8\n5,ape,9\n"
    run = CLASSES + "data: {source: rows.csv, columns: {labels: kind, features: [w]}, held_out: 0}\n"
    ready = prepared(run, rows_csv=rows)
    assert [example.data["labels"].item() for example in ready.train] == [1, 2, 1, 2, 0]
    assert ready.sizes.features == 1


def test_a_missing_column_is_named_with_what_there_is() -> None:
    with pytest.raises(LosscError) as failure:
        prepared(PAIRS + "data: rows.jsonl\n", rows_jsonl='{"prompt": "a", "chose": "b", "rejected": "c"}\n' * 5)
    problem = failure.value.diagnostics[0]
    assert problem.code == "E821"
    assert "did you mean `chose`?" in problem.help


def test_a_column_that_nothing_reads_is_refused() -> None:
    found = refused(CLASSES + "data: {source: sklearn:iris, columns: {label: labels}}\n")
    assert found[0].startswith("E821")
    assert "`label`" in found[0]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ('{"features": [1, NaN], "labels": 0}', "`features` of this row is not a finite number but `nan`"),
        ('{"features": [1, 1e999], "labels": 0}', "`features` of this row is not a finite number but `inf`"),
        ('{"features": [1], "labels": 0}', "`features` of this row has 1 numbers where the first row has 2"),
        ('{"features": ["red", 1], "labels": 0}', "`features` of this row is not a number but `red`"),
        ('{"features": [true, 1], "labels": 0}', "`features` of this row is not a number but `true`"),
        ('{"features": [], "labels": 0}', "`features` of this row is an empty list"),
        ('{"labels": 0}', "`features` of this row is missing"),
        ('{"features": [1, 2], "labels": 0.5}', "`labels` of this row is not a label (a whole number or a name) but `0.5`"),
        ('{"features": [1, 2], "labels": 3}', "`labels` of this row is 3, but there are 3 classes, 0 to 2"),
    ],
)
def test_a_bad_value_is_reported_with_its_line(row: str, expected: str) -> None:
    good = '{"features": [1, 2], "labels": 0}\n'
    found = refused(CLASSES + "data: {source: rows.jsonl, classes: 3}\n", rows_jsonl=good * 4 + row + "\n" + good)
    assert len(found) == 1
    assert "rows.jsonl:5:" in found[0]
    assert found[0].endswith(expected)


def test_a_negative_label_is_none() -> None:
    rows = '{"features": [1, 2], "labels": -1}\n' * 5
    assert prepared(CLASSES + "data: {source: rows.jsonl, classes: 3}\n", rows_jsonl=rows).train[0].data["labels"] == -1


def test_labels_of_held_out_rows_must_be_known() -> None:
    rows = "".join(f'{{"x": {n}, "labels": "{"ab"[n % 2]}"}}\n' for n in range(10))
    run = CLASSES + "data: {source: rows.jsonl, held_out_source: other.jsonl, columns: {features: x}}\n"
    found = refused(run, rows_jsonl=rows, other_jsonl='{"x": 1, "labels": "c"}\n')
    assert found == ["E823 other.jsonl:1:21 `labels` of this row is `c`, which is no class of the training rows"]


def test_a_column_fills_a_tensor_of_the_file() -> None:
    objective = (
        "objective: |\n  use std.settings.classes\n  use std.ce (ce)\n  data weight : real[b]\n"
        "  minimize\n    fit : mean[b](ce(logits, labels), weight = weight)\n"
    )
    rows = "".join(f'{{"features": [{n}], "labels": {n % 2}, "weight": {n / 2}}}\n' for n in range(10))
    ready = prepared(objective + "data: {source: rows.jsonl, held_out: 0}\n", rows_jsonl=rows)
    assert [example.data["weight"].item() for example in ready.train] == [n / 2 for n in range(10)]


def test_a_tensor_that_no_feed_makes_is_refused() -> None:
    objective = (
        "objective: |\n  use std.settings.classes\n  input extra : real[b, v]\n"
        "  minimize\n    fit : mean[b, v](logits - extra)\n"
    )
    assert refused(objective + "data: sklearn:iris\n")[0].startswith("E814")


def test_an_objective_without_a_setting_needs_a_feed() -> None:
    objective = "objective: |\n  axis b : batch\n  input z : real[b]\n  minimize\n    fit : mean[b](z)\n"
    assert "uses no setting" in refused(objective + "data: sklearn:iris\n")[0]


# Splitting


def test_the_split_follows_the_seed() -> None:
    first, second = (prepared(f"{CLASSES}data: {{source: sklearn:iris, held_out: 0.2}}\nseed: {seed}\n") for seed in (0, 1))
    again = prepared(CLASSES + "data: {source: sklearn:iris, held_out: 0.2}\nseed: 0\n")
    assert (len(first.train), len(first.held_out)) == (120, 30)
    stacked = [torch.stack([e.network["features"] for e in ready.held_out]) for ready in (first, second, again)]
    assert torch.equal(stacked[0], stacked[2])
    assert not torch.equal(stacked[0], stacked[1])


def test_too_few_rows() -> None:
    row = '{"features": [1, 2], "labels": 0}\n'
    assert refused(CLASSES + "data: {source: rows.jsonl, held_out: 0.1}\n", rows_jsonl=row)[0].startswith("E824")


# Text


def test_labels_are_what_follows_the_tokens_that_are_read() -> None:
    tokenizer = make_tokenizer("bytes", (), 0, Path())
    made = encode(tokenizer, "ab", "cd", 64)
    start, a, b, c, d, end = [*tokenizer.start, *tokenizer.encode("abcd"), *tokenizer.end]
    assert made["ids"].tolist() == [start, a, b, c, d]
    assert made["labels"].tolist() == [a, b, c, d, end]
    assert made["mask"].tolist() == [False, False, True, True, True]


def test_a_prompt_that_fills_the_sequence_is_refused() -> None:
    rows = '{"prompt": "a long prompt", "chosen": "b", "rejected": "c"}\n' * 5
    found = refused(PAIRS + "data: {source: rows.jsonl, tokens: 8}\n", rows_jsonl=rows)
    assert "has nothing within the first 8 tokens" in found[0]


def test_bytes_and_pairs_of_bytes_spell_the_same_text() -> None:
    text = "Grüße, Welt — 12 × 3"
    learned = make_tokenizer("bpe", [text] * 20, 300, Path())
    for tokenizer in (make_tokenizer("bytes", (), 0, Path()), learned):
        assert tokenizer.inner.decode(tokenizer.encode(text)) == text
    assert len(learned.encode(text)) < len(text.encode())
    assert make_tokenizer("bytes", (), 0, Path()).vocabulary == 259


def test_batches_are_padded_with_nothing_to_score() -> None:
    examples = [
        Example({"ids": torch.arange(n)}, {"labels": torch.arange(n), "mask": torch.ones(n, dtype=torch.bool)}) for n in (2, 3)
    ]
    batch = collate(examples)
    assert batch["network"]["ids"].tolist() == [[0, 1, 0], [0, 1, 2]]
    assert batch["data"]["labels"].tolist() == [[0, 1, -1], [0, 1, 2]]
    assert batch["data"]["mask"].tolist() == [[True, True, False], [True, True, True]]


def test_log_probabilities_skip_what_is_not_scored() -> None:
    logits = torch.randn(2, 3, 5, dtype=torch.float64)
    labels = torch.tensor([[1, 2, -1], [0, 4, 3]])
    mask = torch.tensor([[True, True, True], [False, True, True]])
    expected = logits.log_softmax(-1)
    assert token_logp(logits, labels, mask)[0, 2] == 0
    torch.testing.assert_close(sequence_logp(logits, labels, mask)[0], expected[0, 0, 1] + expected[0, 1, 2])
    torch.testing.assert_close(sequence_logp(logits, labels, mask)[1], expected[1, 1, 4] + expected[1, 2, 3])


def test_the_documentation_of_python_is_a_corpus() -> None:
    rows = read_rows("python-docs", Path())
    assert len(rows) > 1000
    first = rows.rows[0].values
    assert sorted(first["chosen"].split()) != []
    assert sorted(first["chosen"].strip(" .").split()) == sorted(first["rejected"].strip(" .").split())
    assert first["chosen"] != first["rejected"]
    assert len(read_rows("python-docs:text", Path())) > 4000
