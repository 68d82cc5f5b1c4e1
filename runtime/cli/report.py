"""Problems on a terminal, in a pipe, and as JSON."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from typing import IO
from unicodedata import category

from lossc.grammar.diagnostics import Diagnostic
from lossc.grammar.diagnostics.render import STEERING, render_text, to_record

_PAINT = {"error": "\x1b[1;31m", "warning": "\x1b[1;33m", "caret": "\x1b[1;34m", "end": "\x1b[0m"}


def print_problems(problems: Iterable[Diagnostic], *, stream: IO[str] | None = None) -> None:
    """Each problem with a blank line behind it; in colour where the stream is a terminal."""
    stream = stream or sys.stdout
    for problem in problems:
        text = render_text(problem)
        print(f"{_paint(problem, text) if _coloured(stream) else text}\n", file=stream)


def problems_as_json(problems: Iterable[Diagnostic]) -> str:
    """The records of `--format json`: one object with the list `problems`."""
    return as_json({"problems": [to_record(problem) for problem in problems]})


def as_json(value: object) -> str:
    """A value as JSON; letters stand as they are, characters that would steer a terminal as escapes."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(_escaped(char) if char != "\n" and category(char) in STEERING else char for char in text)


def _escaped(char: str) -> str:
    return json.dumps(char)[1:-1]


def summary(problems: Iterable[Diagnostic]) -> str:
    """`2 errors, 1 warning`."""
    counts = {"error": 0, "warning": 0}
    for problem in problems:
        counts[problem.severity] += 1
    parts = [f"{count} {name}{'s' if count != 1 else ''}" for name, count in counts.items() if count]
    return ", ".join(parts) or "no problems"


def _coloured(stream: IO[str]) -> bool:
    import os

    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def _paint(problem: Diagnostic, text: str) -> str:
    head, _, rest = text.partition("\n")
    rest = re.sub(r"(?m)^(\s*\| *)(\^+.*)$", rf"\1{_PAINT['caret']}\2{_PAINT['end']}", rest)
    return f"{_PAINT[problem.severity]}{head}{_PAINT['end']}\n{rest}"
