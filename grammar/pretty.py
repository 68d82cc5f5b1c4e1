"""Laying out text within a width: documents of text, possible line breaks, indentation and groups.

A group is printed on one line where it fits; otherwise each of its own breaks becomes a line (Wadler, "A prettier
printer", 2003).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias


@dataclass(frozen=True)
class Break:
    """A line end, or `flat` where its group fits on one line."""

    flat: str


@dataclass(frozen=True)
class Nest:
    """A part whose lines are indented deeper by `by`."""

    by: int
    part: Doc


@dataclass(frozen=True)
class Group:
    """A part that is printed on one line if it fits."""

    part: Doc


Doc: TypeAlias = str | Break | Nest | Group | tuple["Doc", ...]

LINE: Final = Break(" ")
SOFT: Final = Break("")

_Piece: TypeAlias = tuple[int, bool, Doc]
"""Indentation, whether breaks are flat, and what to print."""


def join(separator: Doc, parts: Iterable[Doc]) -> Doc:
    joined: list[Doc] = []
    for part in parts:
        joined += [separator, part] if joined else [part]
    return tuple(joined)


def enclosed(opening: str, parts: Iterable[Doc], closing: str) -> Doc:
    """`opening part, part closing`, one part a line where that is too long."""
    return Group((opening, Nest(2, (SOFT, join((",", LINE), parts))), SOFT, closing))


def flat(doc: Doc) -> str:
    """The document on one line."""
    return "".join(_flat(doc))


def _flat(doc: Doc) -> Iterable[str]:
    match doc:
        case str():
            yield doc
        case Break(flat=text):
            yield text
        case Nest(part=part) | Group(part=part):
            yield from _flat(part)
        case _:
            for part in doc:
                yield from _flat(part)


def render(doc: Doc, width: int, indent: int = 0) -> str:
    """The document within `width` columns where its breaks allow; its first line begins at column `indent`."""
    pieces: list[_Piece] = [(indent, False, doc)]
    written: list[str] = []
    column = indent
    while pieces:
        margin, is_flat, part = pieces.pop()
        match part:
            case str():
                written.append(part)
                column += len(part)
            case Break(flat=text):
                written.append(text if is_flat else "\n" + " " * margin)
                column = column + len(text) if is_flat else margin
            case Nest(by=by, part=inner):
                pieces.append((margin + by, is_flat, inner))
            case Group(part=inner):
                pieces.append((margin, is_flat or _fits(width - column, (margin, True, inner), pieces), inner))
            case _:
                pieces += [(margin, is_flat, inner) for inner in reversed(part)]
    return "".join(written)


def _fits(room: int, first: _Piece, rest: list[_Piece]) -> bool:
    """Whether all up to the next line end has room."""
    pieces, following = [first], len(rest)
    while room >= 0:
        if not pieces:
            if following == 0:
                return True
            following -= 1
            pieces.append(rest[following])
        margin, is_flat, part = pieces.pop()
        match part:
            case str():
                room -= len(part)
            case Break(flat=text):
                if not is_flat:
                    return True
                room -= len(text)
            case Nest(part=inner) | Group(part=inner):
                pieces.append((margin, is_flat, inner))
            case _:
                pieces += [(margin, is_flat, inner) for inner in reversed(part)]
    return False
