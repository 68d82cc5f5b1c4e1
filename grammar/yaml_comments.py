"""The comments and empty lines of a YAML file, which PyYAML drops, for the declarations that they stand at."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from lossc.grammar.layout import comment_text
from lossc.grammar.source import Source, Span
from lossc.grammar.syntax import BLANK
from lossc.grammar.yaml_nodes import Listing, Mapping, Scalar, YamlNode

_COMMENT: Final = re.compile(r"(?:^|(?<=[ \t]))#[^\r\n]*|^[ \t]*\r?\n", re.MULTILINE)


@dataclass(frozen=True)
class _Comment:
    start: int
    text: str
    line: int
    is_behind: bool


class Comments:
    """Handed out in the order of the file; each is given once."""

    def __init__(self, source: Source, root: YamlNode | None) -> None:
        self._source = source
        self._left = list(_comments(source, root))

    def above(self, place: Span) -> tuple[str, ...]:
        """The comments before a place that nobody has taken, and `BLANK` for empty lines between them."""
        taken = [comment for comment in self._left if comment.start < place.start]
        self._left = self._left[len(taken) :]
        texts: list[str] = []
        for comment in taken:
            if comment.text != BLANK or texts[-1:] != [BLANK]:
                texts.append(comment.text)
        return tuple(texts)

    def behind(self, key: Span, value: Span | None = None) -> str | None:
        """The comment at the end of the line of a key, or of the last line of its value."""
        lines = {self._source.position(key.start).line}
        if value is not None:
            lines |= {self._source.position(value.start).line, self._last_line(value)}
        found = next((comment for comment in self._left if comment.is_behind and comment.line in lines), None)
        if found is None:
            return None
        self._left.remove(found)
        return found.text

    def _last_line(self, value: Span) -> int:
        return self._source.position(value.start + len(value.text.rstrip())).line

    def rest(self) -> tuple[str, ...]:
        end = len(self._source.text) + 1
        return self.above(Span(self._source, end, end))


def _comments(source: Source, root: YamlNode | None) -> Iterator[_Comment]:
    covered = sorted(_covered(root)) if root is not None else []
    starts = [start for start, _ in covered]
    for match in _COMMENT.finditer(source.text):
        index = bisect_right(starts, match.start()) - 1
        if index >= 0 and match.start() < covered[index][1]:
            continue
        line = source.position(match.start()).line
        if not match.group().startswith("#"):
            yield _Comment(match.start(), BLANK, line, False)
            continue
        before = source.text[source.text.rfind("\n", 0, match.start()) + 1 : match.start()]
        yield _Comment(match.start(), comment_text(match.group()), line, bool(before.strip()))


def _covered(node: YamlNode) -> Iterable[tuple[int, int]]:
    """The stretches of the file in which `#` begins no comment."""
    if isinstance(node, Mapping):
        for key, value in node.entries:
            yield from _covered(key)
            yield from _covered(value)
    elif isinstance(node, Listing):
        for item in node.items:
            yield from _covered(item)
    elif isinstance(node, Scalar):
        raw = node.span.text
        header = len(raw.split("\n", 1)[0]) if node.style in ("|", ">") else 0
        yield node.span.start + header, node.span.start + len(raw.rstrip())
