"""JSON Lines: one object a line; every line that is not one is reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lossc.grammar.diagnostics import Diagnostic, LosscError, error
from lossc.runtime.training.rows import Row, Rows

MAX_REPORTED = 20


def read_jsonl(path: Path) -> Rows:
    """The objects of a file in order; empty lines are passed over. E822 for a line that is not an object."""
    rows: list[Row] = []
    problems: list[Diagnostic] = []
    columns: dict[str, None] = {}
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            text = line.rstrip("\n")
            if not text.strip():
                continue
            row = _row(Row({}, str(path), number, text), problems)
            if row:
                rows.append(row)
                columns.update(dict.fromkeys(row.values))
            if len(problems) >= MAX_REPORTED:
                break
    if problems:
        raise LosscError(problems)
    return Rows(str(path), tuple(columns), rows)


def _row(bare: Row, problems: list[Diagnostic]) -> Row | None:
    try:
        values = json.loads(bare.text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as failure:
        problems.append(error("E822", f"this line is not JSON: {failure}".split(": line 1")[0], bare.span()))
        return None
    if not isinstance(values, dict):
        problems.append(error("E822", "this line is not a JSON object", bare.span()))
        return None
    return Row(values, bare.file, bare.line, bare.text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, in which no name stands twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"`{next(name for name in names if names.count(name) > 1)}` is named twice")
    return found
