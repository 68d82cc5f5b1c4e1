"""Where each character of a YAML scalar stands in the file, for plain, quoted and block scalars on any number of lines.

PyYAML gives the text of a scalar and its first and last place; an error inside an embedded expression points to a
character in between. The scalar is decoded once more here, this time with places.
"""

from __future__ import annotations

import re
from typing import Any, Final

from lossc.grammar.source import Source
from lossc.grammar.tokens import Fragment

_FOLD: Final = re.compile(r"[ \t]*(?:\r\n|\n|\r)[ \t]*(?:(?:\r\n|\n|\r)[ \t]*)*")
_BREAK: Final = re.compile(r"\r\n|\n|\r")
_ESCAPE: Final = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(?:\r\n|\n|\r)[ \t]*|(.))", re.DOTALL
)
_MEANT: Final = {
    "0": "\0", "a": "\x07", "b": "\x08", "t": "\t", "\t": "\t", "n": "\n", "v": "\x0b", "f": "\x0c", "r": "\r",
    "e": "\x1b", " ": " ", '"': '"', "\\": "\\", "/": "/", "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029",
}  # fmt: skip


def scalar_fragment(source: Source, event: Any) -> Fragment:
    """The text of a scalar event with its places; all at its start in the rare case that it is decoded otherwise."""
    start, end = event.start_mark.index, event.end_mark.index
    decode = {"'": _single, '"': _double, "|": _block, ">": _block}.get(event.style or "", _plain)
    text, offsets = decode(source.text, start, end)
    if event.style in ("|", ">"):
        text, offsets = text[: len(event.value)], offsets[: len(event.value) + 1]
    if text != event.value:
        return Fragment(event.value, source, [start] * len(event.value) + [end])
    return Fragment(text, source, offsets)


_Decoded = tuple[str, list[int]]


class _Places:
    """Decoded text that grows with the places of its characters."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.offsets: list[int] = []

    def add(self, text: str, start: int, step: int = 1) -> None:
        self.text.append(text)
        self.offsets += [start + step * index for index in range(len(text))]

    def done(self, end: int) -> _Decoded:
        return "".join(self.text), [*self.offsets, end]


def _folded(fold: str) -> str:
    """What line ends between two lines of a flow scalar stand for."""
    breaks = len(_BREAK.findall(fold))
    return " " if breaks == 1 else "\n" * (breaks - 1)


def _plain(file: str, start: int, end: int) -> _Decoded:
    places, at = _Places(), start
    for fold in _FOLD.finditer(file, start, end):
        places.add(file[at : fold.start()], at)
        places.add(_folded(fold.group()), fold.start())
        at = fold.end()
    places.add(file[at:end], at)
    return places.done(end)


def _single(file: str, start: int, end: int) -> _Decoded:
    places, at = _Places(), start + 1
    for match in re.compile(rf"''|{_FOLD.pattern}").finditer(file, start + 1, end - 1):
        places.add(file[at : match.start()], at)
        places.add("'" if match.group() == "''" else _folded(match.group()), match.start())
        at = match.end()
    places.add(file[at : end - 1], at)
    return places.done(end - 1)


def _double(file: str, start: int, end: int) -> _Decoded:
    places, at = _Places(), start + 1
    escaped_break = False
    for match in re.compile(rf"{_ESCAPE.pattern}|{_FOLD.pattern}", re.DOTALL).finditer(file, start + 1, end - 1):
        places.add(file[at : match.start()], at)
        continues = escaped_break and match.start() == at
        escaped_break = False
        code = match[1] or match[2] or match[3]
        if code is not None:
            places.add(chr(int(code, 16)), match.start())
        elif match[4] is not None:
            places.add(_MEANT.get(match[4], match[4]), match.start())
        elif match.group().startswith("\\"):
            escaped_break = True
        else:
            breaks = len(_BREAK.findall(match.group()))
            places.add("\n" * breaks if continues else _folded(match.group()), match.start())
        at = match.end()
    places.add(file[at : end - 1], at)
    return places.done(end - 1)


def _block(file: str, start: int, end: int) -> _Decoded:
    """A literal (`|`) or folded (`>`) block; what its header cuts off at the end is still there."""
    header = _BREAK.search(file, start)
    if header is None:
        return "", [end]
    lines = _block_lines(file, header.end(), end)
    first = next((line for line in lines if line[0].strip(" ")), ("", 0, 0))
    explicit = re.match(r"[|>][+-]?([1-9])", file[start : header.start()])
    blank = max((len(line[0]) for line in lines if not line[0].strip(" ")), default=0)
    indent = len(first[0]) - len(first[0].lstrip(" "))
    if explicit:
        indent = min(indent, _parent_indent(file, start) + int(explicit[1]))
    elif not first[0]:
        indent = blank
    places = _Places()
    _add_lines(places, lines, indent, folds=file[start] == ">")
    return places.done(end)


_Line = tuple[str, int, int]
"""The text of a line, its place, and the place of its end."""


def _block_lines(file: str, start: int, end: int) -> list[_Line]:
    lines: list[_Line] = []
    for match in _BREAK.finditer(file, start, end):
        lines.append((file[start : match.start()], start, match.start()))
        start = match.end()
    return [*lines, (file[start:end], start, end)]


def _parent_indent(file: str, start: int) -> int:
    """The indentation of the line on which a block scalar begins."""
    line = file[file.rfind("\n", 0, start) + 1 : start]
    return len(line) - len(line.lstrip(" "))


def _add_lines(places: _Places, lines: list[_Line], indent: int, folds: bool) -> None:
    texts = [text[indent:] for text, _, _ in lines]
    for index, ((_, start, end), text) in enumerate(zip(lines, texts, strict=True)):
        places.add(text, min(start + indent, end))
        joined = folds and _joins(texts, index)
        places.add("" if joined and _next_text(texts, index) > index + 1 else " " if joined else "\n", end)


def _next_text(texts: list[str], index: int) -> int:
    """The next line that is not empty."""
    return next((later for later in range(index + 1, len(texts)) if texts[later]), len(texts))


def _joins(texts: list[str], index: int) -> bool:
    """Whether a folded block puts the line end of a line away: between two lines of text that begin without a blank."""
    following = _next_text(texts, index)
    if not texts[index] or following == len(texts):
        return False
    return texts[index][0] not in " \t" and texts[following][0] not in " \t"
