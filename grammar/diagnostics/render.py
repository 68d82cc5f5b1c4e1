"""How a problem is shown: for people, and as a record for programs."""

from __future__ import annotations

import unicodedata
from typing import Any

from lossc.grammar.diagnostics import Diagnostic, Note
from lossc.grammar.source import Span

_WIDEST = 160
"""Columns of a source line that are shown; a longer one is cut around the place."""

STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of characters that steer a terminal, turn the direction of writing or end a line."""


def render_text(diagnostic: Diagnostic) -> str:
    """The message with its place, the source line, a caret under the span, declarations and help."""
    lines = [f"{diagnostic.severity}[{diagnostic.code}]: {diagnostic.message}"]
    gutter = " "
    if diagnostic.span.source.text:
        at = diagnostic.span.source.position(diagnostic.span.start)
        gutter = " " * len(str(at.line))
        line, caret = _excerpt(diagnostic.span)
        lines += [f"{gutter}--> {diagnostic.span}", f"{gutter} |", f"{at.line} | {line}"]
        lines += [f"{gutter} | {caret} {diagnostic.label}".rstrip(), f"{gutter} |"]
    elif diagnostic.label:
        lines += [f"{gutter} = found: {diagnostic.label}"]
    lines += [f"{gutter} = {note.text}: {note.span}" for note in diagnostic.notes]
    lines += [f"{gutter} = help: {text}" for text in diagnostic.help]
    return "\n".join(visible(line.replace("\n", "\ufffd")) for line in lines)


def _excerpt(span: Span) -> tuple[str, str]:
    """The line where a span begins, and the caret line under it."""
    first, last = span.source.position(span.start), span.source.position(span.end)
    line = visible(span.source.line(first.line).replace("\t", " "))
    start, stop = first.column - 1, last.column - 1 if last.line == first.line else len(line)
    if len(line) > _WIDEST:
        cut = max(0, start - _WIDEST // 4)
        line, start, stop = line[cut : cut + _WIDEST], start - cut, min(stop - cut, _WIDEST)
    return line, " " * _width(line[:start]) + "^" * max(1, _width(line[start:stop].rstrip()))


def visible(text: str) -> str:
    """Control and formatting characters shown as a box: what a file holds must not steer the terminal. Lines stay lines."""
    if text.isprintable():
        return text
    return "".join("\ufffd" if char != "\n" and unicodedata.category(char) in STEERING else char for char in text)


def _width(text: str) -> int:
    """Columns on a terminal: wide characters take two, combining marks none."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) != 0 for char in text)


def to_record(diagnostic: Diagnostic) -> dict[str, Any]:
    """The same problem as plain data, for `--format json` and editors."""
    return {
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "message": diagnostic.message,
        **_place(diagnostic.span),
        "label": diagnostic.label,
        "notes": [_note(note) for note in diagnostic.notes],
        "help": list(diagnostic.help),
    }


def _note(note: Note) -> dict[str, Any]:
    return {"text": note.text, **_place(note.span)}


def _place(span: Span) -> dict[str, Any]:
    start, end = span.source.position(span.start), span.source.position(span.end)
    return {
        "file": span.source.name,
        "line": start.line,
        "column": start.column,
        "end_line": end.line,
        "end_column": end.column,
    }
