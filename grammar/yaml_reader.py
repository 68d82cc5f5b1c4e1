"""Reading the YAML surface: each key and value is put into the words of the text surface and read as that.

`beta: positive = 0.1` under `params` is read as `param beta : positive = 0.1`, with every word at its place in the
YAML file, so there is one grammar and one set of messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from lossc.grammar.diagnostics import Diagnostics, error
from lossc.grammar.docstring import dedented
from lossc.grammar.layout import Row, lay_out_block
from lossc.grammar.limits import MAX_YAML_CHARACTERS
from lossc.grammar.parser import check_version, logical_line, parse_child, parse_line, parse_row
from lossc.grammar.source import Source, Span
from lossc.grammar.suggest import nearest
from lossc.grammar.syntax import BLANK, SECTIONS, Block, File, Item, Meta, Setting
from lossc.grammar.tokens import COMMENT, NAME, SIGN, STRING, Token, quoted, tokenize
from lossc.grammar.yaml_comments import Comments
from lossc.grammar.yaml_nodes import REFUSED, Listing, Mapping, Scalar, YamlNode, read_yaml

_KEYS: Final = ("lossc", *SECTIONS)
SETTING_KEYS: Final = ("use", "axes", "inputs", "data", "params", "learn", "state", "let", "reduce")
_RUN_KEYS: Final = frozenset({"model", "optimiser", "schedule", "batch", "length", "precision", "accumulation", "seed"})
_METAS: Final = frozenset({"objective", "title", "about", "cite", "certainty", "id"})
_BLOCKS: Final = frozenset({"minimize", "maximize", "monitor"})


def parse_yaml(source: Source, problems: Diagnostics) -> File:
    """The file that a YAML text stands for; what cannot be read is left out of it and reported in `problems`."""
    whole = Span(source, 0, len(source.text))
    if len(source.text) > MAX_YAML_CHARACTERS:
        problems.add(error("E009", f"a YAML file may have {MAX_YAML_CHARACTERS:,} characters", Span(source, 0, 0)))
        return File((), span=whole)
    root = read_yaml(source, problems)
    comments = Comments(source, root)
    reader = _Reader(problems, comments)
    items = tuple(reader.file(root)) if root is not None else ()
    return File(items, 1, (*reader.header, *comments.rest()), span=whole)


@dataclass
class _Reader:
    problems: Diagnostics
    comments: Comments
    header: tuple[str, ...] = ()
    """The comments above the version, until the first declaration takes them."""

    def file(self, root: YamlNode) -> list[Item]:
        """The declarations of all sections; in the text an empty line goes before each, and the docstring is first."""
        items: list[Item] = []
        if isinstance(root, Mapping) and self._is_run_file(root):
            return items
        for key, value in self._sections(root, _KEYS, "a file"):
            if key.text == "lossc":
                self._version(key, value)
                continue
            for index, item in enumerate(self._section(key, value)):
                gap = (BLANK,) if index == 0 and key.text not in _METAS else ()
                items.append(replace(item, comments=_joined(gap, item.comments)))
        items.sort(key=lambda item: not (isinstance(item, Meta) and item.key == "about"))
        if items and self.header:
            items[0] = replace(items[0], comments=_joined(self.header, items[0].comments))
            self.header = ()
        return items

    def _is_run_file(self, root: Mapping) -> bool:
        """Reports a file that is to be trained with, and not an objective, once and not by each of its keys."""
        keys = [key for key, _ in root.entries if key.text in _RUN_KEYS]
        if len(keys) > 1:
            help = "`lossc train` reads it; the objective that it names is a file of its own"
            self.problems.add(error("E023", "this is a run file, not an objective", keys[0].span, help=help))
        return len(keys) > 1

    def _sections(self, node: YamlNode, known: Sequence[str], owner: str) -> Iterator[tuple[Scalar, YamlNode]]:
        if not isinstance(node, Mapping):
            self._refuse(node, f"{owner} is a mapping", "write `key: value`, one a line")
            return
        for key, value in node.entries:
            if key.text in known:
                yield key, value
            else:
                self._unknown_key(key, known)

    def _unknown_key(self, key: Scalar, known: Sequence[str]) -> None:
        guess = nearest(key.text, known)
        help = f"did you mean `{guess}`?" if guess else "the keys are " + ", ".join(f"`{name}`" for name in known)
        self.problems.add(error("E023", f"there is no key `{key.text}` here", key.span, help=help))

    def _refuse(self, node: YamlNode, message: str, help: str) -> None:
        self.problems.add(error("E024", message, node.span, help=help))

    def _version(self, key: Scalar, value: YamlNode) -> None:
        above = self.comments.above(key.span)
        self.header = (*above, BLANK) if above else ()
        if isinstance(value, Scalar):
            check_version(value.text, value.span, self.problems)
        else:
            self._refuse(value, "`lossc` is the version of the language", "write `lossc: 1`")

    def _section(self, key: Scalar, value: YamlNode) -> Iterable[Item]:
        if key.text == "settings":
            return self._settings(key, value)
        if key.text == "use":
            return self._uses(key, value)
        if key.text in _BLOCKS:
            return self._block(key, value)
        if key.text in _METAS or key.text == "reduce":
            return self._single(key, value)
        return self._mapped(key, value)

    # sections

    def _single(self, key: Scalar, value: YamlNode) -> Iterator[Item]:
        """A section that is one text."""
        if not isinstance(value, Scalar):
            self._refuse(value, f"`{key.text}` is one text", f"write `{key.text}: ...`")
            return
        if key.text in ("objective", "reduce"):
            yield from self._declared([_word(key.text, key)], key, value)
            return
        above, behind = self.comments.above(key.span), self.comments.behind(key.span, value.span)
        text = dedented(value.text) if key.text == "about" else value.text
        name: Any = key.text
        span = key.span.to(value.span)
        yield Meta(name, text, span=span, name_span=value.span, comments=above, trailing=behind)

    def _uses(self, key: Scalar, value: YamlNode) -> Iterator[Item]:
        for item in self._items_of(key, value):
            yield from self._declared([_word("use", item)], item, item)

    def _items_of(self, key: Scalar, value: YamlNode) -> Iterator[Scalar]:
        if isinstance(value, Scalar) and not value.text:
            return
        if not isinstance(value, Listing):
            self._refuse(value, f"`{key.text}` is a list", "write `- std.settings.pairs`, one a line")
            return
        for item in value.items:
            if isinstance(item, Scalar):
                if item.style != REFUSED:
                    yield item
            else:
                self._refuse(item, f"an entry of `{key.text}` is one text", "quote what holds `: ` or brackets")

    def _mapped(self, key: Scalar, value: YamlNode) -> Iterator[Item]:
        """A section of texts by name."""
        for name, text in self._texts_of(key, value):
            if key.text == "terms":
                yield from self._term(name, text)
            elif key.text == "laws":
                title = Token(STRING, quoted(name.text), name.span, 0)
                yield from self._declared([_word("law", name), title, _colon(name)], name, text)
            elif key.text == "extern":
                yield from self._extern(name, text)
            else:
                words = [_word(word, name) for word in _WORDS[key.text]]
                yield from self._declared([*words, *self._tokens(name), *_sign(key.text, name, text)], name, text)

    def _extern(self, name: Scalar, value: Scalar) -> Iterator[Item]:
        """`name(...) -> kind: package.module:function`."""
        above, behind = self.comments.above(name.span), self.comments.behind(name.span, value.span)
        target = Token(STRING, quoted(value.text), value.span, 0)
        tokens = [_word("extern", name), *self._tokens(name), _word("from", name), target]
        yield from parse_row(Row(tokens, 0, [*above], behind), self.problems)

    def _entries_of(self, key: Scalar, value: YamlNode) -> Iterator[tuple[Scalar, YamlNode]]:
        if isinstance(value, Scalar) and not value.text:
            return
        if not isinstance(value, Mapping):
            self._refuse(value, f"`{key.text}` is a mapping", "write `name: ...` below it, indented, one a line")
            return
        yield from value.entries

    def _texts_of(self, key: Scalar, value: YamlNode) -> Iterator[tuple[Scalar, Scalar]]:
        for name, text in self._entries_of(key, value):
            if isinstance(text, Scalar):
                if text.style != REFUSED:
                    yield name, text
            else:
                flow = text.span.text.startswith(("[", "{"))
                help = "quote it: in YAML a bracket at the beginning of a value has another meaning"
                help = help if flow else f"write it behind its key: `{name.text}: ...`"
                self._refuse(text, f"the value of `{name.text}` is one text", help)

    def _block(self, key: Scalar, value: YamlNode) -> Iterator[Item]:
        above, behind = self.comments.above(key.span), self.comments.behind(key.span)
        rows = [self._row([*self._tokens(name), _colon(name)], name, text) for name, text in self._texts_of(key, value)]
        if not rows:
            if isinstance(value, Listing) or (isinstance(value, Mapping) and value.entries) or (
                isinstance(value, Scalar) and value.text
            ):
                return  # what stands there has been refused already
            help = "write `name: expression` below, indented"
            self.problems.add(error("E016", f"`{key.text}` has nothing below it", key.span, help=help))
            return
        entries = tuple(entry for row in rows if (entry := parse_child(row, "entry", self.problems, key.text)))
        role: Any = key.text
        span = key.span.to(value.span)
        yield Block(role, entries, span=span, name_span=key.span, comments=above, trailing=behind)

    def _settings(self, key: Scalar, value: YamlNode) -> Iterator[Item]:
        for name, body in self._entries_of(key, value):
            above, behind = self.comments.above(name.span), self.comments.behind(name.span)
            header = parse_line("header", [_word("setting", name), *self._tokens(name)], self.problems)
            items = tuple(
                item
                for section, part in self._sections(body, SETTING_KEYS, f"the setting `{name.text}`")
                for item in self._section(section, part)
            )
            if header is not None:
                span = name.span.to(body.span)
                yield Setting(header.name, items, span=span, name_span=name.span, comments=above, trailing=behind)

    # lines

    def _declared(self, head: list[Token], name: Scalar, value: Scalar) -> Iterable[Item]:
        return parse_row(self._row(head, name, value), self.problems)

    def _row(self, head: list[Token], name: Scalar, value: Scalar) -> Row:
        """The logical line of a key and its value, with the comments around it."""
        above, behind = self.comments.above(name.span), self.comments.behind(name.span, value.span)
        row = Row(list(head), 0, [*above], behind)
        row.continue_with(logical_line(value.fragment, self.problems))
        return row

    def _term(self, name: Scalar, value: Scalar) -> Iterable[Item]:
        """A term whose value is an expression, or a block with `let`s."""
        head = [_word("term", name), *self._tokens(name)]
        if not _is_body(lay_out_block(tokenize(value.fragment, Diagnostics()), Diagnostics())[0]):
            return self._declared([*head, replace(_colon(name), text="=")], name, value)
        above, behind = self.comments.above(name.span), self.comments.behind(name.span, value.span)
        lines, inner = lay_out_block(tokenize(value.fragment, self.problems), self.problems)
        comments = [*above, *(text for text in inner if text != BLANK)]
        return parse_row(Row(head, 0, comments, behind, lines), self.problems)

    def _tokens(self, scalar: Scalar) -> list[Token]:
        return [token for token in tokenize(scalar.fragment, self.problems) if token.kind != COMMENT]


def _is_body(rows: list[Row]) -> bool:
    """Whether the value of a term has a `let` before its last line."""
    if len(rows) != 1:
        return len(rows) > 1
    words = [token.word for token in rows[0].tokens[:3]]
    return words[0] == "let" and words[2:] == ["="]


def _word(text: str, before: Scalar) -> Token:
    """A word of the text surface that the YAML surface leaves out."""
    start = before.span.start
    return Token(NAME, text, Span(before.span.source, start, start), 0)


def _colon(key: Scalar) -> Token:
    """The colon behind a key."""
    return Token(SIGN, ":", Span(key.span.source, key.span.end, key.span.end + 1), 0)


def _sign(section: str, key: Scalar, value: Scalar) -> list[Token]:
    """What stands in the text surface between a name and its value."""
    if section == "let" or (section == "axes" and value.text.startswith("{")):
        return [replace(_colon(key), text="=")]
    return [_colon(key)] if section != "axes" or value.text else []


_WORDS: Final = {
    "axes": ("axis",), "inputs": ("input",), "data": ("data",), "params": ("param",), "learn": ("learn",),
    "state": ("state",), "let": ("let",), "subject_to": ("subject", "to"),
}  # fmt: skip


def _joined(*parts: Iterable[str]) -> tuple[str, ...]:
    texts: list[str] = []
    for text in (text for part in parts for text in part):
        if text != BLANK or texts[-1:] != [BLANK]:
            texts.append(text)
    return tuple(texts)
