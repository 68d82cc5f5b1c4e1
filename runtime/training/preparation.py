"""From a run file to tensors: which rows of which streams, which are held out, one example for each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lossc.grammar.diagnostics import Diagnostic, LosscError, error
from lossc.runtime.files import value_span
from lossc.runtime.training import sections
from lossc.runtime.training.encoding import Encoding, find_classes
from lossc.runtime.training.examples import Example
from lossc.runtime.training.feed_sections import Teacher, View
from lossc.runtime.training.feeds import Feed
from lossc.runtime.training.fresh import Fresh
from lossc.runtime.training.models import Sizes, model_folder, precision_of
from lossc.runtime.training.objective import Spec
from lossc.runtime.training.questions import Assigned, Stream, assign
from lossc.runtime.training.rollouts import make_rollouts
from lossc.runtime.training.rows import BadValueError, Column, Row, Rows, column_sources, read_value
from lossc.runtime.training.runfile import Run
from lossc.runtime.training.sources import read_rows
from lossc.runtime.training.tokenizer import Tokenizer, make_tokenizer

MAX_REPORTED = 20
_EMBEDDING = 32


@dataclass(frozen=True)
class Prepared:
    """The data of a run as tensors, what they ask of the network, and what is drawn at each step."""

    assigned: Assigned
    train: list[Example]
    held_out: list[Example]
    sizes: Sizes
    fresh: Fresh
    rows: int
    """Rows of all streams and splits: the extent of an axis that numbers them."""

    @property
    def feed(self) -> Feed:
        """That of the first stream, which decides on the kind of the network."""
        return self.assigned.streams[0].feed


def prepare(
    run: Run, spec: Spec, folder: Path, tokenizer: Tokenizer | None = None, *, allow_python: bool = False
) -> Prepared:
    """Reads, splits and encodes the rows; everything that is wrong with them is raised at once, before any training.

    `tokenizer` is that of a network that was trained before; otherwise the run file says which, or one is trained here.
    """
    assigned = assign(run, spec)
    joint = sum(stream.own is None for stream in assigned.streams) > 1
    read = [_ReadStream(stream, run, folder, assigned.views, joint=joint) for stream in assigned.streams]
    raise_first([problem for each in read for problem in each.problems])
    encoding = _encoding(run, read, folder, tokenizer)
    for each in read:
        each.encode(encoding, run, assigned)
    raise_first([problem for each in read for problem in each.problems])
    train, held_out = (_combined([each.examples[split] for each in read]) for split in (0, 1))
    sizes = _sizes(run, assigned.streams[0].feed, encoding, train)
    rollouts = make_rollouts(run, assigned, read[0].rows, encoding, folder, allow_python=allow_python)
    views = {f"{stream.prefix}{name}": view for stream in assigned.streams for name, view in assigned.views.items()}
    total = max(sum(len(split.rows) for split in each.split) for each in read)
    return Prepared(assigned, train, held_out, sizes, Fresh(run.seed, views, sizes.statistics, rollouts), total)


def _combined(streams: Sequence[list[Example]]) -> list[Example]:
    """One list of examples with the tensors of all streams: as long as the longest, where shorter ones begin again."""
    if len(streams) == 1 or not all(streams):
        return streams[0] if all(streams) else []
    parts = [[stream[number % len(stream)] for stream in streams] for number in range(max(map(len, streams)))]
    return [
        Example(
            {name: tensor for part in row for name, tensor in part.network.items()},
            {name: tensor for part in row for name, tensor in part.data.items()},
        )
        for row in parts
    ]  # fmt: skip


# Splitting


def _split(source: str, held_out_source: str | None, limit: int | None, run: Run, folder: Path) -> tuple[Rows, Rows]:
    """The rows to train on and those held out, by a permutation of the seed; E824 where nothing is left."""
    rows = read_rows(source, folder)
    rows = replace(rows, rows=rows.rows[:limit])
    if held_out_source is not None:
        held_out = read_rows(held_out_source, folder)
        train = rows
    else:
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(run.seed)).tolist()
        kept = round(len(rows) * run.data.held_out)
        chosen = set(order[:kept])
        held_out = replace(rows, rows=[row for number, row in enumerate(rows.rows) if number in chosen])
        train = replace(rows, rows=[row for number, row in enumerate(rows.rows) if number not in chosen])
    if not train.rows or (not held_out.rows and run.data.held_out > 0):
        help_ = "give more rows, or a smaller share in `data: {held_out: …}`"
        message = f"`{source}` has {len(rows)} rows, too few to train on and to hold some out"
        raise LosscError([error("E824", message, value_span(source), help=help_)])
    return train, held_out


# Reading and encoding


class _ReadStream:
    """The rows of one stream, read and then encoded; what cannot be is collected."""

    def __init__(self, stream: Stream, run: Run, folder: Path, views: dict[str, View], *, joint: bool) -> None:
        self.stream = stream
        self.problems: list[Diagnostic] = []
        data = stream.own or run.data
        self.split = _split(data.source, data.held_out_source, data.limit, run, folder)
        self.names = _column_names(stream) if joint and stream.own is None else {}
        columns = [replace(column, name=self.names.get(column.name, column.name)) for column in stream.feed.columns]
        columns += stream.extra
        sources = column_sources(self.split[0], columns, data.columns | _of_views(self.split[0], columns, views, data.columns))
        reader = _Reader([column for column in columns if column.name in sources], sources)
        back = {new: old for old, new in self.names.items()}
        self.values = [reader.values(rows, back) for rows in self.split]
        self.problems += reader.problems
        self.examples: list[list[Example]] = []

    @property
    def rows(self) -> list[Row]:
        return [row for rows in self.split for row in rows.rows]

    def texts(self) -> Iterator[str]:
        for row in self.values[0]:
            for value in row.values():
                yield from (item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str))

    def encode(self, encoding: Encoding, run: Run, assigned: Assigned) -> None:
        if assigned.samples is not None:
            encoding = replace(encoding, tokens=run.data.tokens - assigned.samples.tokens)
        maker = _Maker(self.stream, encoding)
        self.examples = [maker.examples(rows, values) for rows, values in zip(self.split, self.values, strict=True)]
        self.problems += maker.problems


def _column_names(stream: Stream) -> dict[str, str]:
    """Of a stream that shares its rows with others: its first column has the name of the stream, others stand under it."""
    first, *others = stream.feed.columns
    return {first.name: stream.name} | {column.name: f"{stream.name}.{column.name}" for column in others}


def _of_views(
    rows: Rows, columns: Sequence[Column], views: dict[str, View], given: dict[str, Any]
) -> dict[str, str | list[str]]:
    """What is read for a column that is a view: the column that it is of, or all that nothing else reads."""
    wanted = {str(given.get(column.name, column.name)) for column in columns if column.name not in views}
    rest = [name for name in rows.columns if name not in wanted]
    return {
        name: rest if view.of == "features" and "features" not in rows.columns else given.get(view.of, view.of)
        for name, view in views.items()
    }


class _Reader:
    """Reads columns, and collects what cannot be read."""

    def __init__(self, columns: Sequence[Column], sources: dict[str, Any]) -> None:
        self.columns = columns
        self.sources = sources
        self.widths: dict[str, int] = {}
        self.problems: list[Diagnostic] = []

    def values(self, rows: Rows, names: dict[str, str]) -> list[dict[str, Any]]:
        return [{names.get(c.name, c.name): self._value(row, c) for c in self.columns} for row in rows.rows]

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


class _Maker:
    """Makes examples of values, and collects what cannot be made."""

    def __init__(self, stream: Stream, encoding: Encoding) -> None:
        self.stream = stream
        self.encoding = encoding
        self.made = 0
        self.problems: list[Diagnostic] = []

    def examples(self, rows: Rows, values: list[dict[str, Any]]) -> list[Example]:
        following = [*values[1:], *values[:1]]
        made = [self._example(*each) for each in zip(rows.rows, values, following, strict=True)]
        return [example for example in made if example is not None]

    def _example(self, row: Row, values: dict[str, Any], following: dict[str, Any]) -> Example | None:
        number = self.made
        self.made += 1
        try:
            example = _under(self.stream.prefix, self.stream.feed.example(values, following, self.encoding))
        except BadValueError as failure:
            self.problems.append(failure.of(row))
            return None
        for column in self.stream.extra:
            value = values[column.name]
            numeric = column.kind in ("number", "numbers")
            example.data[column.name] = self.encoding.numbers(value) if numeric else torch.tensor(value)
        example.data |= {name: torch.tensor(number) for name in self.stream.numbers}
        if "prompt" in example.network:
            example.network["row"] = torch.tensor(number)
        return example


def _under(prefix: str, example: Example) -> Example:
    if not prefix:
        return example
    network = {f"{prefix}{name}": tensor for name, tensor in example.network.items()}
    return Example(network, {f"{prefix}{name}": tensor for name, tensor in example.data.items()})


def raise_first(problems: list[Diagnostic]) -> None:
    """Raises the problems, the first of them and the number of the rest."""
    if problems:
        shown = problems[:MAX_REPORTED]
        if len(problems) > MAX_REPORTED:
            last = shown[-1]
            shown[-1] = replace(last, help=(*last.help, f"{len(problems) - MAX_REPORTED} more rows have problems"))
        raise LosscError(shown)


def _encoding(run: Run, read: Sequence[_ReadStream], folder: Path, tokenizer: Tokenizer | None) -> Encoding:
    dtype = precision_of(run.precision)
    feed = read[0].stream.feed
    if feed.network == "language":
        texts = (text for each in read for text in each.texts())
        tokenizer = tokenizer or make_tokenizer(_tokenizer_name(run, folder), texts, run.data.vocabulary, folder)
        return Encoding(run.data.tokens, tokenizer, dtype=dtype)
    if any(column.kind == "label" for column in feed.columns):
        labels = [row["labels"] for each in read for row in each.values[0] if "labels" in row]
        return Encoding(classes=find_classes(labels, run.data.classes), dtype=dtype)
    return Encoding(dtype=dtype)


def _tokenizer_name(run: Run, folder: Path) -> str:
    """The tokenizer that was asked for, otherwise the one that belongs to the model or its teacher."""
    model = run.model.path if isinstance(run.model, sections.Pretrained) else None
    teachers = (section.path for section in run.feeds.values() if isinstance(section, Teacher) and section.path)
    found = run.data.tokenizer or model or next(teachers, None) or "bytes"
    return found if found == run.data.tokenizer or model_folder(folder / found) == folder / found else f"{found}/model"


def _sizes(run: Run, feed: Feed, encoding: Encoding, examples: list[Example]) -> Sizes:
    if feed.network == "language":
        return Sizes(tokenizer=encoding.tokenizer, tokens=run.data.tokens)
    features = torch.stack([tensor for example in examples for tensor in example.network.values()])
    outputs = getattr(run.model, "outputs", None)
    targets = [tensor for name, tensor in examples[0].data.items() if name.rpartition(".")[2] == "target"]
    if encoding.classes is not None:
        outputs = encoding.classes.count
    elif targets:
        outputs = len(targets[0])
    statistics = features.mean(0), features.std(0, correction=0)
    return Sizes(features=features.shape[1], outputs=outputs or _EMBEDDING, statistics=statistics)
