"""Printing a file as YAML: block style, quoted where YAML needs it, comments where they stood."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Final

from lossc.grammar import syntax
from lossc.grammar.expressions import expr_doc, signature_doc, type_doc
from lossc.grammar.pretty import LINE, Doc, Group, Nest, enclosed, flat, render
from lossc.grammar.printer import WIDTH, comment_lines, constraint_head, joined_lines, law_doc, print_body, use_doc
from lossc.grammar.syntax import BLANK, Block, Declaration, File, Item, Meta, Setting, section

_MAX_KEY: Final = 1000
"""YAML reads a key without a `?` only if it ends within 1024 characters."""


def print_yaml(file: File) -> str:
    """A file as YAML; reading the YAML gives an equal file."""
    header, body = _without_header(file)
    lines = [*_comments(header, 0), f"lossc: {file.version}", *_sections(body.canonical(), 0)]
    lines += _comments(file.comments, 0)
    return joined_lines(lines)


def _without_header(file: File) -> tuple[tuple[str, ...], File]:
    """The comments at the top of a file that an empty line parts from its first declaration, and the file without.

    First is what was written first, and what comes first in either surface.
    """
    first = [*file.items[:1], *file.canonical()[:1]]
    first += [item for item in file.items if isinstance(item, Meta) and item.key == "about"]
    header: list[str] = []
    items = list(file.items)
    for index, item in enumerate(items):
        if any(item is other for other in first):
            above, own = _split_header(item.comments)
            header += above
            items[index] = replace(item, comments=own)
    return tuple(header), replace(file, items=tuple(items))


def _split_header(comments: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The comments before and after the last empty line."""
    if BLANK not in comments:
        return (), comments
    end = len(comments) - 1 - comments[::-1].index(BLANK)
    return tuple(comments[:end]), comments[end:]


# Sections


def _sections(items: Iterable[Item], indent: int) -> list[str]:
    lines: list[str] = []
    for name, group in groupby(items, key=section):
        members = list(group)
        if isinstance(members[0], (Meta, Block, syntax.Reduce)):
            lines += _members(members, indent)
        else:
            lines += [" " * indent + f"{name}:", *_members(members, indent + 2)]
    return lines


def _members(items: Sequence[Declaration], indent: int) -> list[str]:
    lines: list[str] = []
    for index, item in enumerate(items):
        is_parted = item.comments[:1] == (BLANK,)
        lines += [""] if is_parted and index else []
        lines += _comments(item.comments, indent)[is_parted:] + _member(item, indent)
    return lines


def _comments(comments: Sequence[str], indent: int) -> list[str]:
    return [_printable(line) for line in comment_lines(comments, indent)]


_UNFIT: Final = re.compile(r"[^\t\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def _printable(line: str) -> str:
    """A line without what YAML does not accept or takes for a line end; a comment has no escapes."""
    return _UNFIT.sub("\ufffd", line)


def _member(item: Declaration, indent: int) -> list[str]:
    match item:
        case Block(role=role, entries=entries):
            return [*_pair(item, role, [""], indent), *_members(entries, indent + 2)]
        case Setting(name=name, items=items):
            return [*_pair(item, name, [""], indent), *_sections(items, indent + 2)]
        case Meta(key=key, value=value):
            return _pair(item, key, _text_lines(key, value, indent), indent)
        case syntax.Extern(name=name, formals=formals, result=result, target=target):
            return _pair(item, flat(signature_doc(name, formals, result)), [_inline(target)], indent)
        case syntax.Term(lets=lets) if lets:
            return _pair(item, _key(item), _block([_printable(line) for line in print_body(item)], indent), indent)
        case syntax.Use():
            return _commented(item, [f"{' ' * indent}- {_inline(flat(use_doc(item)))}"])
        case _:
            return _pair(item, _key(item), _expression_lines(_key(item), _value_doc(item), indent), indent)


def _pair(item: Declaration, key: str, value: list[str], indent: int) -> list[str]:
    """`key: value` with the comment behind it; the first line of a block value is its `|-`."""
    pad, shown = " " * indent, _inline(key)
    first = f": {value[0]}".rstrip()
    if len(shown) > _MAX_KEY:
        return [f"{pad}? {shown}", *_commented(item, [pad + first, *value[1:]])]
    return _commented(item, [pad + shown + first, *value[1:]])


def _commented(item: Declaration, lines: list[str]) -> list[str]:
    if item.trailing is None:
        return lines
    return [f"{lines[0]}  {_comments([item.trailing], 0)[0]}", *lines[1:]]


def _key(item: Declaration) -> str:
    match item:
        case syntax.Term(name=name, formals=formals, result=result):
            return flat(signature_doc(name, formals, result))
        case syntax.Constraint():
            return constraint_head(item)
        case syntax.Law(title=title):
            return title
        case syntax.Reduce():
            return "reduce"
        case syntax.Axis() | syntax.Tensor() | syntax.Param() | syntax.State() | syntax.Let() | syntax.Entry():
            return item.name
        case _:
            raise TypeError(f"{type(item).__name__} has no key")


def _value_doc(item: Declaration) -> Doc:
    """What stands behind the key: the text surface without its keyword, name and sign."""
    match item:
        case syntax.Axis(batch=batch, positions=positions):
            return enclosed("{", positions, "}") if positions is not None else "batch" * batch
        case syntax.Tensor(type=kind) | syntax.Param(type=kind, default=None):
            return type_doc(kind)
        case syntax.Param(type=kind, default=syntax.Node() as default):
            return Group((type_doc(kind), " =", Nest(2, (LINE, expr_doc(default)))))
        case syntax.State(type=kind, initial=initial, renewal=renewal):
            head = type_doc(kind), " = ", expr_doc(initial)
            return Group((*head, Nest(2, (LINE, "then ", expr_doc(renewal)))))
        case syntax.Term(body=value) | syntax.Let(value=value) | syntax.Entry(value=value):
            return expr_doc(value)
        case syntax.Constraint(value=value) | syntax.Reduce(value=value):
            return expr_doc(value)
        case syntax.Law():
            return Group(law_doc(item))
        case _:
            raise TypeError(f"{type(item).__name__} has no value")


# Scalars


def _expression_lines(key: str, doc: Doc, indent: int) -> list[str]:
    """A value on the line of its key where it fits, else a block of lines."""
    text = flat(doc)
    inline = _inline(text) if text else ""
    if indent + len(key) + 2 + len(inline) <= WIDTH:
        return [inline]
    lines = render(doc, WIDTH - indent - 2).split("\n")
    return _block(lines, indent) if len(lines) > 1 else [inline]


def _text_lines(key: str, text: str, indent: int) -> list[str]:
    """A text in prose: as a block if it has several lines."""
    lines = text.split("\n")
    if key == "about" and len(lines) > 1 and all(line.isprintable() for line in lines):
        return _block(lines, indent)
    return [_inline(text)]


def _block(lines: list[str], indent: int) -> list[str]:
    explicit = "2" if lines[0].startswith(" ") else ""
    return [f"|{explicit}-", *(" " * (indent + 2) + line if line else "" for line in lines)]


_PLAIN: Final = re.compile(r"(?:[^\s\-?:,\[\]{}#&*!|>'\"%@`]|-[\w(])(?:.*\S)?")


def _inline(text: str) -> str:
    """A scalar on one line: bare if YAML reads it back as it is, else quoted."""
    if _PLAIN.fullmatch(text) and text.isprintable() and not re.search(r": |:$| #", text):
        return text
    if not text.isprintable():
        return '"' + "".join(map(_escaped, text)) + '"'
    if '"' in text or "\\" in text:
        return "'" + text.replace("'", "''") + "'"
    return f'"{text}"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char == "\n":
        return "\\n"
    return char if char.isprintable() else f"\\U{ord(char):08x}"
