"""Comma-separated values with a heading line."""

from __future__ import annotations

import csv
from pathlib import Path

from lossc.grammar.diagnostics import Diagnostic, LosscError, error
from lossc.runtime.training.rows import Row, Rows
from lossc.runtime.training.sources.jsonl_files import MAX_REPORTED


def read_csv(path: Path) -> Rows:
    """The rows under the heading; E822 for a row with more or fewer fields than the heading has, or two of one name."""
    rows: list[Row] = []
    problems: list[Diagnostic] = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        try:
            heading = next(reader, [])
            problems += _repeated(Row({}, str(path), 1, ",".join(heading)), heading)
            for fields in reader:
                row = Row(dict(zip(heading, fields, strict=False)), str(path), reader.line_num, ",".join(fields))
                if len(fields) == len(heading):
                    rows.append(row)
                elif fields:
                    problems.append(_ragged(row, len(fields), len(heading)))
                if len(problems) >= MAX_REPORTED:
                    break
        except csv.Error as failure:
            bare = Row({}, str(path), max(reader.line_num, 1), "")
            problems.append(error("E822", f"this line cannot be read: {failure}", bare.span()))
    if problems:
        raise LosscError(problems)
    return Rows(str(path), tuple(heading), rows)


def _repeated(row: Row, heading: list[str]) -> list[Diagnostic]:
    twice = sorted({name for name in heading if heading.count(name) > 1})
    return [error("E822", f"the heading names `{name}` twice", row.span()) for name in twice]


def _ragged(row: Row, found: int, expected: int) -> Diagnostic:
    return error("E822", f"this row has {found} fields, the heading has {expected}", row.span())
