"""Names declared in lines that could not be parsed: uses of them are not reported as a second error."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lossc.grammar.diagnostics import Diagnostic
from lossc.grammar.source import Source
from lossc.grammar.suggest import nearest
from lossc.grammar.tokens import DECLARATIONS

_WORD = re.compile(r"[^\W\d]\w*")
_MADE = re.compile(r"->\s*([^\W\d]\w*)")
_BRING_AXES = frozenset({"input", "data", "axis", "use", "param", "learn", "state"})
_NAMED = frozenset({"let", "term", "extern", "setting"})


@dataclass
class Unread:
    """The names that are missing for a reason already reported; where a failed import brings unknown names, any name."""

    names: set[str] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)
    """Functions of the language that a term of the file would have replaced."""
    anything: bool = False

    def __contains__(self, name: str) -> bool:
        return self.anything or name in self.names or name.partition(".")[0] in self.names


def unread_names(problems: Iterable[Diagnostic]) -> Unread:
    """The names that the lines with these problems may declare, in a file of either surface."""
    unread = Unread()
    for problem in problems:
        source = problem.span.source
        line = source.position(problem.span.start).line
        head = _head(source, line)
        unread.names.update(_declared(source.line(line)), _declared(head))
        unread.anything = unread.anything or _keyword(_WORD.findall(head)) in ("use", "from", "import")
    return unread


def _keyword(words: list[str]) -> str:
    """The keyword of a declaration, or the one that was probably meant."""
    first = words[0] if words else ""
    known = first in DECLARATIONS or first in ("from", "import")
    return first if known else nearest(first, DECLARATIONS) or first


def _head(source: Source, line: int) -> str:
    """The unindented line that begins the declaration to which a line belongs."""
    while line > 1 and source.line(line)[:1] in ("", " "):
        line -= 1
    return source.line(line)


def _declared(text: str) -> Iterator[str]:
    words = _WORD.findall(text)
    keyword = _keyword(words)
    if keyword in _BRING_AXES:
        yield from words
    else:
        yield from words[1:2] if keyword in _NAMED else words[:1]
        yield from _MADE.findall(text)
