"""YAML as text only: mappings, sequences and scalars with their places, read from PyYAML's events.

`yes`, `010`, `1:30` and `null` are the texts as written; anchors, aliases, tags, duplicate keys and keys that are no
scalars are errors. Nothing is constructed, so nothing can be.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import yaml

from lossc.grammar.diagnostics import Diagnostics, Note, error
from lossc.grammar.source import Source, Span
from lossc.grammar.tokens import Fragment
from lossc.grammar.yaml_scalars import scalar_fragment

MAX_NESTING: Final = 8

REFUSED: Final = "alias"
"""The style of a scalar that has no text and has been reported."""


@dataclass(frozen=True)
class Scalar:
    """A text. `fragment` knows where each of its characters stands in the file."""

    span: Span
    fragment: Fragment
    style: str

    @property
    def text(self) -> str:
        return self.fragment.text


@dataclass(frozen=True)
class Mapping:
    span: Span
    entries: tuple[tuple[Scalar, YamlNode], ...]


@dataclass(frozen=True)
class Listing:
    span: Span
    items: tuple[YamlNode, ...]


YamlNode: TypeAlias = Scalar | Mapping | Listing


class _RefusedError(Exception):
    """The file cannot be read further; the problem has been reported."""


def read_yaml(source: Source, problems: Diagnostics) -> YamlNode | None:
    """The one document of a YAML file; None where it is empty or not YAML."""
    try:
        return _Reader(source, problems).document()
    except _RefusedError:
        return None
    except yaml.MarkedYAMLError as problem:
        mark: Any = problem.problem_mark or problem.context_mark
        at = mark.index if mark is not None else 0
        problems.add(_not_yaml(problem.problem or problem.context or "", Span(source, at, at + 1)))
    except yaml.reader.ReaderError as problem:
        shown = f"U+{ord(source.text[problem.position]):04X}"
        place = Span(source, problem.position, problem.position + 1)
        problems.add(error("E020", f"the character {shown} cannot stand in YAML", place))
    return None


_MEANING: Final = {
    "mapping values are not allowed here": (
        "a `:` cannot stand here", "indent the line like those above it, or quote a value that contains `: `"),
    "expected <block end>, but found '<scalar>'": (
        "something follows a value that has ended", "quote a value that begins with a bracket or a quote and goes on"),
    "expected <block end>": (
        "this line is indented neither like those above it nor deeper", "indent the lines of a section alike"),
    "found character '\\t'": ("a tab cannot begin a value", "indent with spaces"),
    "found undefined alias": ("this name is given to nothing", "write the value out"),
    "found character": ("this character cannot begin a value", "quote the value"),
    "could not find expected ':'": ("this line has no `:`", "write `key: value`"),
}  # fmt: skip
"""What the commonest complaints of the YAML scanner mean, and what to do."""


def _not_yaml(problem: str, place: Span) -> Any:
    plain = problem.replace("<", "").replace(">", "")
    message, help = next((text for begin, text in _MEANING.items() if problem.startswith(begin)), (plain, ""))
    return error("E020", f"this is not YAML: {message}", place, help=help)


class _Reader:
    """Makes nodes of events; PyYAML's own composer recurses without bound and resolves tags."""

    def __init__(self, source: Source, problems: Diagnostics) -> None:
        self.source = source
        self.problems = problems
        self.events: Iterator[Any] = yaml.parse(source.text, Loader=yaml.BaseLoader)

    def document(self) -> YamlNode | None:
        for _ in ("stream", "document"):
            if isinstance(next(self.events), yaml.StreamEndEvent):
                return None
        node = self._node(next(self.events), 0)
        next(self.events)
        following = next(self.events)
        if not isinstance(following, yaml.StreamEndEvent):
            self.problems.add(error("E020", "a file is one YAML document; another begins here", self._span(following)))
        return node

    def _span(self, first: Any, last: Any = None) -> Span:
        return Span(self.source, first.start_mark.index, (last or first).end_mark.index)

    def _node(self, event: Any, depth: int) -> YamlNode:
        self._refuse_features(event)
        if depth > MAX_NESTING:
            self.problems.add(error("E008", f"YAML may be nested {MAX_NESTING} deep", self._span(event)))
            raise _RefusedError
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(event, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._listing(event, depth)
        span = self._span(event)
        if isinstance(event, yaml.AliasEvent):
            return Scalar(span, Fragment("", self.source, [span.start]), REFUSED)
        return Scalar(span, scalar_fragment(self.source, event), event.style or "")

    def _refuse_features(self, event: Any) -> None:
        found = self._feature(event)
        if found is not None:
            what, help = found
            message = f"{what[:40]}` is not accepted: a file says what it means in place"
            self.problems.add(error("E021", message, self._span(event), help=help))

    def _feature(self, event: Any) -> tuple[str, str] | None:
        if isinstance(event, yaml.AliasEvent):
            return f"the alias `*{event.anchor}", "write the value out"
        if event.anchor is not None:
            return f"the anchor `&{event.anchor}", "write the value out where it is used"
        if event.tag is not None:
            return f"the tag `{event.tag}", "leave it out; every value is a text"
        return None

    def _mapping(self, start: Any, depth: int) -> Mapping:
        entries: dict[str, tuple[Scalar, YamlNode]] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key, value = self._node(event, depth + 1), self._node(next(self.events), depth + 1)
            if not isinstance(key, Scalar):
                self.problems.add(error("E025", "a key is a text", key.span))
            elif key.text in entries:
                note = Note("first given here", entries[key.text][0].span)
                self.problems.add(error("E022", f"the key `{key.text}` is given twice", key.span, notes=[note]))
            else:
                entries[key.text] = key, value
        return Mapping(self._span(start, event), tuple(entries.values()))

    def _listing(self, start: Any, depth: int) -> Listing:
        items: list[YamlNode] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return Listing(self._span(start, event), tuple(items))
