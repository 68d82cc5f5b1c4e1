"""Comma-separated values with a heading line."""

from __future__ import annotations

import csv
from pathlib import Path

from lossc.grammar.diagnostics import Diagnostic, LosscError, error
from lossc.runtime.training.rows import Row, Rows
from lossc.runtime.training.sources.jsonl_files import MAX_REPORTED


def read_csv(path: Path) -> Rows:
    """The rows under the heading; E822 for a row with more or fewer fields than the heading has."""
    rows: list[Row] = []
    problems: list[Diagnostic] = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        heading = next(reader, [])
        for fields in reader:
            row = Row(dict(zip(heading, fields, strict=False)), str(path), reader.line_num, ",".join(fields))
            if len(fields) == len(heading):
                rows.append(row)
            elif fields:
                problems.append(_ragged(row, len(fields), len(heading)))
            if len(problems) >= MAX_REPORTED:
                break
    if problems:
        raise LosscError(problems)
    return Rows(str(path), tuple(heading), rows)


def _ragged(row: Row, found: int, expected: int) -> Diagnostic:
    return error("E822", f"this row has {found} fields, the heading has {expected}", row.span())
