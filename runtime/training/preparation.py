"""From a run file to tensors: which feed, which columns, which rows are held out, one example for each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lossc.compiler.program import Program, TensorInfo
from lossc.grammar.diagnostics import Diagnostic, LosscError, error
from lossc.runtime.files import value_span
from lossc.runtime.training import runfile
from lossc.runtime.training.encoding import Encoding, find_classes
from lossc.runtime.training.examples import Example
from lossc.runtime.training.feeds import FEEDS, Feed
from lossc.runtime.training.models import Sizes, precision_of
from lossc.runtime.training.objective import Spec, tensors_used
from lossc.runtime.training.rows import BadValueError, Column, Kind, Row, Rows, column_sources, read_value
from lossc.runtime.training.runfile import Run
from lossc.runtime.training.sources import read_rows
from lossc.runtime.training.tokenizer import make_tokenizer

MAX_REPORTED = 20
_EMBEDDING = 32


@dataclass(frozen=True)
class Prepared:
    """The data of a run as tensors, and what they ask of the network."""

    feed: Feed
    train: list[Example]
    held_out: list[Example]
    sizes: Sizes


def prepare(run: Run, spec: Spec, folder: Path) -> Prepared:
    """Reads, splits and encodes the rows; everything that is wrong with them is raised at once, before any training."""
    feed = find_feed(spec)
    extra = _extra_columns(feed, spec.program)
    train, held_out = _split(run, folder)
    columns = (*feed.columns, *extra)
    read = _Reader(columns, column_sources(train, columns, run.data.columns))
    values, held_out_values = read.values(train), read.values(held_out)
    read.raise_problems()
    encoding = _encoding(run, feed, values, folder)
    maker = _Maker(feed, extra, encoding)
    examples = maker.examples(train, values), maker.examples(held_out, held_out_values)
    maker.raise_problems()
    return Prepared(feed, *examples, _sizes(run, feed, encoding, examples[0]))


def find_feed(spec: Spec) -> Feed:
    """The feed of the objective's setting; E814 where it has none."""
    feed = FEEDS.get(spec.setting or "")
    if feed is None:
        known = ", ".join(FEEDS)
        found = f"the setting `{spec.setting}`" if spec.setting else "this objective, which uses no setting,"
        raise LosscError([
            error(
                "E814", f"there is no feed for {found}", value_span(spec.source.text.partition('\n')[0]),
                help=(f"feeds exist for {known}", "`use std.settings.…`, or name one in `data: {feed: …}`"),
            )
        ])  # fmt: skip
    return feed


def _extra_columns(feed: Feed, program: Program) -> tuple[Column, ...]:
    """A column for each `data` tensor that the file adds to its setting, one value for each row."""
    used = tensors_used(program)
    made = {*feed.tensors, *feed.frozen}
    added = [tensor for name, tensor in program.tensors.items() if name in used and name not in made]
    wrong = [tensor for tensor in added if tensor.role != "data" or tensor.order != (feed.axis,)]
    if wrong:
        raise LosscError([_unfed(tensor, feed) for tensor in wrong])
    return tuple(Column(tensor.name, _column_kind(tensor), f"the tensor `{tensor.name}`") for tensor in added)


def _column_kind(tensor: TensorInfo) -> Kind:
    return {"label": "label", "mask": "flag"}.get(tensor.kind.name, "number")  # type: ignore[return-value]


def _unfed(tensor: TensorInfo, feed: Feed) -> Diagnostic:
    return error(
        "E814", f"training with the feed of `{feed.setting}` does not make the tensor `{tensor.name}`", tensor.span,
        help=f"a column of the data can fill `data {tensor.name} : real[{feed.axis}]`, one value for each row",
    )  # fmt: skip


# Splitting


def _split(run: Run, folder: Path) -> tuple[Rows, Rows]:
    """The rows to train on and those held out, by a permutation of the seed; E824 where nothing is left."""
    rows = read_rows(run.data.source, folder)
    rows = replace(rows, rows=rows.rows[: run.data.limit])
    if run.data.held_out_source is not None:
        held_out = read_rows(run.data.held_out_source, folder)
        train = rows
    else:
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(run.seed)).tolist()
        kept = round(len(rows) * run.data.held_out)
        chosen = set(order[:kept])
        held_out = replace(rows, rows=[row for number, row in enumerate(rows.rows) if number in chosen])
        train = replace(rows, rows=[row for number, row in enumerate(rows.rows) if number not in chosen])
    if not train.rows or (not held_out.rows and run.data.held_out > 0):
        help_ = "give more rows, or a smaller share in `data: {held_out: …}`"
        message = f"`{run.data.source}` has {len(rows)} rows, too few to train on and to hold some out"
        raise LosscError([error("E824", message, value_span(run.data.source), help=help_)])
    return train, held_out


# Reading and encoding


class _Reader:
    """Reads columns, and collects what cannot be read."""

    def __init__(self, columns: Sequence[Column], sources: dict[str, Any]) -> None:
        self.columns = [column for column in columns if column.name in sources]
        self.sources = sources
        self.widths: dict[str, int] = {}
        self.problems: list[Diagnostic] = []

    def values(self, rows: Rows) -> list[dict[str, Any]]:
        return [{column.name: self._value(row, column) for column in self.columns} for row in rows.rows]

    def _value(self, row: Row, column: Column) -> Any:
        try:
            value = read_value(row, column, self.sources[column.name])
            if column.kind == "numbers":
                self._check_width(column.name, value)
            return value
        except BadValueError as failure:
            self.problems.append(failure.of(row, column.name))
            return None

    def _check_width(self, name: str, value: list[float]) -> None:
        width = self.widths.setdefault(name, len(value))
        if len(value) != width:
            raise BadValueError(f"has {len(value)} numbers where the first row has {width}")

    def raise_problems(self) -> None:
        raise_first(self.problems)


class _Maker:
    """Makes examples of values, and collects what cannot be made."""

    def __init__(self, feed: Feed, extra: tuple[Column, ...], encoding: Encoding) -> None:
        self.feed = feed
        self.extra = extra
        self.encoding = encoding
        self.problems: list[Diagnostic] = []

    def examples(self, rows: Rows, values: list[dict[str, Any]]) -> list[Example]:
        following = [*values[1:], *values[:1]]
        made = (self._example(*each) for each in zip(rows.rows, values, following, strict=True))
        return [example for example in made if example is not None]

    def _example(self, row: Row, values: dict[str, Any], following: dict[str, Any]) -> Example | None:
        try:
            example = self.feed.example(values, following, self.encoding)
        except BadValueError as failure:
            self.problems.append(failure.of(row))
            return None
        for column in self.extra:
            value = values[column.name]
            example.data[column.name] = self.encoding.numbers(value) if column.kind == "number" else torch.tensor(value)
        return example

    def raise_problems(self) -> None:
        raise_first(self.problems)


def raise_first(problems: list[Diagnostic]) -> None:
    """Raises the problems, the first of them and the number of the rest."""
    if problems:
        shown = problems[:MAX_REPORTED]
        if len(problems) > MAX_REPORTED:
            last = shown[-1]
            shown[-1] = replace(last, help=(*last.help, f"{len(problems) - MAX_REPORTED} more rows have problems"))
        raise LosscError(shown)


def _encoding(run: Run, feed: Feed, values: list[dict[str, Any]], folder: Path) -> Encoding:
    dtype = precision_of(run.precision)
    if feed.network == "language":
        texts = _texts(values)
        tokenizer = make_tokenizer(_tokenizer_name(run), texts, run.data.vocabulary, folder)
        return Encoding(run.data.tokens, tokenizer, dtype=dtype)
    if any(column.kind == "label" for column in feed.columns):
        labels = [row["labels"] for row in values]
        return Encoding(classes=find_classes(labels, run.data.classes), dtype=dtype)
    return Encoding(dtype=dtype)


def _tokenizer_name(run: Run) -> str:
    """The tokenizer that was asked for, otherwise the one that belongs to the model or its teacher."""
    model_folder = run.model.path if isinstance(run.model, runfile.Pretrained) else None
    return run.data.tokenizer or model_folder or run.teacher or "bytes"


def _texts(values: list[dict[str, Any]]) -> Iterator[str]:
    for row in values:
        for value in row.values():
            yield from (item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str))


def _sizes(run: Run, feed: Feed, encoding: Encoding, examples: list[Example]) -> Sizes:
    if feed.network == "language":
        return Sizes(tokenizer=encoding.tokenizer, tokens=encoding.tokens)
    features = torch.stack([tensor for example in examples for tensor in example.network.values()])
    outputs = getattr(run.model, "outputs", None)
    if encoding.classes is not None:
        outputs = encoding.classes.count
    elif "target" in examples[0].data:
        outputs = len(examples[0].data["target"])
    statistics = features.mean(0), features.std(0, correction=0)
    return Sizes(features=features.shape[1], outputs=outputs or _EMBEDDING, statistics=statistics)
