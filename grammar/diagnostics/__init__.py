"""Errors as values: what is wrong, where, what was expected and what to write instead.

One factory (`error`, `warning`) makes them, one renderer prints them (`render.py`), and each code has one page under
`pages/`, which is the only place where a code is declared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from lossc.grammar.limits import MAX_PROBLEMS
from lossc.grammar.source import Span

__all__ = ["Diagnostic", "Diagnostics", "LosscError", "Note", "error", "warning"]

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Note:
    """A second place that explains the first: `declared here`."""

    text: str
    span: Span


@dataclass(frozen=True)
class Diagnostic:
    """One problem of a program.

    `label` is what the caret line says under the span, `notes` point to declarations, `help` says what to write instead.
    """

    code: str
    message: str
    span: Span
    label: str = ""
    notes: tuple[Note, ...] = ()
    help: tuple[str, ...] = ()

    @property
    def severity(self) -> Severity:
        return "warning" if self.code.startswith("W") else "error"


def error(
    code: str, message: str, span: Span, *, label: str = "", notes: Iterable[Note] = (), help: Iterable[str] | str = ()
) -> Diagnostic:
    """A problem that stops compilation; `code` is `E` and three digits and has a page of that name."""
    return Diagnostic(
        code, message, span, label, tuple(notes), ((help,) if help else ()) if isinstance(help, str) else tuple(help)
    )


warning = error
"""A problem that does not stop compilation: the same record under a code that begins with `W`."""


@dataclass
class Diagnostics:
    """The problems of one file, gathered while it is read and checked."""

    found: list[Diagnostic] = field(default_factory=list)

    def add(self, diagnostic: Diagnostic) -> None:
        """Takes a problem in, once; after `MAX_PROBLEMS` nobody reads on."""
        if not self.is_full and diagnostic not in self.found:
            self.found.append(diagnostic)

    @property
    def is_full(self) -> bool:
        return len(self.found) >= MAX_PROBLEMS and any(d.severity == "error" for d in self.found)

    @property
    def errors(self) -> list[Diagnostic]:
        return [d for d in self.found if d.severity == "error"]

    @property
    def warnings(self) -> list[Diagnostic]:
        return [d for d in self.found if d.severity == "warning"]

    def sorted(self) -> list[Diagnostic]:
        """By file and place, errors before warnings at one place."""
        return sorted(self.found, key=lambda d: (d.span.source.name, d.span.start, d.code))

    def raise_errors(self) -> None:
        if self.errors:
            raise LosscError(self.sorted())


class LosscError(Exception):
    """A program, a batch or a run file is wrong; `diagnostics` holds every problem found."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics: list[Diagnostic] = list(diagnostics)
        super().__init__(self.diagnostics)

    def __str__(self) -> str:
        from lossc.grammar.diagnostics.render import render_text

        return "\n\n".join(render_text(d) for d in self.diagnostics)

    def __reduce__(self) -> tuple[type[LosscError], tuple[list[Diagnostic]]]:
        return type(self), (self.diagnostics,)
