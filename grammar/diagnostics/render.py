"""How a problem is shown: for people, and as a record for programs."""

from __future__ import annotations

import unicodedata
from typing import Any

from lossc.grammar.diagnostics import Diagnostic, Note
from lossc.grammar.source import Span


def render_text(diagnostic: Diagnostic) -> str:
    """The message with its place, the source line, a caret under the span, declarations and help."""
    lines = [f"{diagnostic.severity}[{diagnostic.code}]: {diagnostic.message}"]
    gutter = " "
    if diagnostic.span.source.text:
        at = diagnostic.span.source.position(diagnostic.span.start)
        gutter = " " * len(str(at.line))
        lines += [f"{gutter}--> {diagnostic.span}", f"{gutter} |"]
        lines += [f"{at.line} | {diagnostic.span.source.line(at.line).replace(chr(9), ' ')}"]
        lines += [f"{gutter} | {_caret(diagnostic.span)} {diagnostic.label}".rstrip(), f"{gutter} |"]
    elif diagnostic.label:
        lines += [f"{gutter} = found: {diagnostic.label}"]
    lines += [f"{gutter} = {note.text}: {note.span}" for note in diagnostic.notes]
    lines += [f"{gutter} = help: {text}" for text in diagnostic.help]
    return "\n".join(lines)


def _caret(span: Span) -> str:
    first, last = span.source.position(span.start), span.source.position(span.end)
    line = span.source.line(first.line)
    stop = last.column - 1 if last.line == first.line else len(line)
    indent, marked = line[: first.column - 1], line[first.column - 1 : stop]
    return " " * _width(indent) + "^" * max(1, _width(marked.rstrip()))


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
