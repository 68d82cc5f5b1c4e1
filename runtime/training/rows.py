"""Rows of data with the place that each came from, and reading one value out of a row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lossc.grammar.diagnostics import Diagnostic, LosscError, error
from lossc.grammar.source import Source, Span
from lossc.grammar.suggest import did_you_mean
from lossc.runtime.files import value_span

Kind = Literal["text", "texts", "number", "numbers", "label", "flag"]

_SHOWN = 160


@dataclass(frozen=True, slots=True)
class Row:
    """One example as it was read: `values` by column, and the line of the file."""

    values: Mapping[str, Any]
    file: str
    line: int
    text: str = ""

    def span(self, part: str = "", column: str = "") -> Span:
        """The row as a place; `part`, where it is found in the line (behind the name of its column), gets the caret."""
        shown = self.text if len(self.text) <= _SHOWN else self.text[:_SHOWN] + " …"
        source = Source(self.file, "\n" * (self.line - 1) + shown)
        at = shown.find(part, max(shown.find(f'"{column}"'), 0)) if part else -1
        start = self.line - 1 + max(at, 0)
        return Span(source, start, start + (len(part) if at >= 0 else len(shown)))


@dataclass(frozen=True)
class Rows:
    """All rows of a source, in its order."""

    name: str
    columns: tuple[str, ...]
    rows: Sequence[Row]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Column:
    """What a feed reads of a row: a name, what it holds, and whether rows must have it."""

    name: str
    kind: Kind
    about: str
    required: bool = True
    rest: bool = False
    """Where no column has this name: all columns that nothing else reads (a table of numbers)."""


class BadValueError(Exception):
    """A value of a row that cannot be used: why, the part of the line that shows it, and the column where it is known."""

    def __init__(self, reason: str, part: str = "", *, column: str = "", code: str = "E822") -> None:
        super().__init__(reason)
        self.part = part
        self.column = column
        self.code = code

    def of(self, row: Row, column: str = "") -> Diagnostic:
        """The problem of this row."""
        name = self.column or column
        return error(self.code, f"`{name}` of this row {self}", row.span(self.part, name))


def read_value(row: Row, column: Column, source: str | Sequence[str]) -> Any:
    """The value of a column, from one or several columns of the data; BadValueError where it is not what it should be."""
    if isinstance(source, str):
        if source not in row.values:
            raise BadValueError("is missing")
        value = row.values[source]
    else:
        value = [_present(row, name) for name in source]
    return _READERS[column.kind](value)


def _present(row: Row, name: str) -> Any:
    if name not in row.values:
        raise BadValueError(f"is missing (`{name}`)")
    return row.values[name]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadValueError(f"is not a text but {_name(value)}", _written(value))
    return value


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not value:
        raise BadValueError(f"is not a list of texts but {_name(value)}", _written(value))
    return [_text(item) for item in value]


def _number(value: Any) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise BadValueError(f"is not a number but {_name(value)}", _written(value)) from None
    if not math.isfinite(number):
        raise BadValueError(f"is not a finite number but {_name(value)}", _written(value))
    return number


def _numbers(value: Any) -> list[float]:
    values = value if isinstance(value, list | tuple) else [value]
    if not values:
        raise BadValueError("is an empty list")
    return [_number(item) for item in values]


def _label(value: Any) -> int | str:
    """A whole number (negative: none) or the name of a class."""
    if isinstance(value, str):
        if not value.strip():
            raise BadValueError("is empty")
        return int(value) if value.strip().lstrip("-").isdecimal() else value.strip()
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadValueError(f"is not a label (a whole number or a name) but {_name(value)}", _written(value))
    return value


def _flag(value: Any) -> bool:
    written = str(value).strip().lower()
    if written not in ("true", "false", "1", "0"):
        raise BadValueError(f"is not true or false but {_name(value)}", _written(value))
    return written in ("true", "1")


_READERS = {
    "text": _text, "texts": _texts, "number": _number, "numbers": _numbers, "label": _label, "flag": _flag,
}  # fmt: skip


def _name(value: Any) -> str:
    return f"`{(_written(value) or str(value))[:40]}`"


def _written(value: Any) -> str:
    """How the value stands in the line, as far as that is known."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) if isinstance(value, str | float | int) else ""


def column_sources(rows: Rows, columns: Sequence[Column], given: Mapping[str, str | list[str]]) -> dict[str, Any]:
    """Which columns of the data each column of a feed is read from; E821 where one is not there."""
    sources: dict[str, Any] = {}
    problems: list[Diagnostic] = []
    for column in sorted(columns, key=lambda column: column.rest):
        wanted = given.get(column.name, column.name)
        names = [wanted] if isinstance(wanted, str) else list(wanted)
        absent = [name for name in names if name not in rows.columns]
        if not absent:
            sources[column.name] = wanted
        elif column.rest and column.name not in given:
            sources[column.name] = _others(rows, sources)
        elif column.required or column.name in given:
            problems += [_no_column(rows, column, name) for name in absent]
    known = [column.name for column in columns]
    problems += [_unknown_name(rows, name, known) for name in given if name not in known]
    if problems:
        raise LosscError(problems)
    return sources


def _others(rows: Rows, sources: Mapping[str, Any]) -> list[str]:
    read = {name for value in sources.values() for name in ([value] if isinstance(value, str) else value)}
    return [name for name in rows.columns if name not in read]


def _no_column(rows: Rows, column: Column, name: str) -> Diagnostic:
    at = rows.rows[0].span() if rows.rows else Span(Source(rows.name, ""), 0, 0)
    close = did_you_mean(name, rows.columns)
    return error(
        "E821", f"`{rows.name}` has no column `{name}`, which is needed for {column.about}", at,
        help=(*close, f"its columns are {', '.join(rows.columns) or 'none'}",
              f"say which one it is: data: {{columns: {{{column.name}: COLUMN}}}}"),
    )  # fmt: skip


def _unknown_name(rows: Rows, name: str, known: Sequence[str]) -> Diagnostic:
    close = did_you_mean(name, known)
    return error(
        "E821", f"`columns` names `{name}`, which this objective does not read",
        value_span(name), help=close or (f"it reads {', '.join(known)}",),
    )  # fmt: skip
