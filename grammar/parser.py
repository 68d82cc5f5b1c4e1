"""Reading the text surface: a source becomes a syntax tree and, in one run, all of its syntax errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import Any

from lossc.grammar import syntax
from lossc.grammar.builder import BUILDERS, Header, Version
from lossc.grammar.diagnostics import Diagnostics, Note, error
from lossc.grammar.layout import Row, check_brackets, comment_text, lay_out
from lossc.grammar.limits import MAX_CHARACTERS, MAX_DEPTH, MAX_PROBLEMS
from lossc.grammar.machine import StuckError, run
from lossc.grammar.mistakes import explain
from lossc.grammar.parts import MistakeError
from lossc.grammar.source import Source, Span
from lossc.grammar.syntax import Declaration, Expr, File, Item
from lossc.grammar.tokens import COMMENT, FAULT, Fragment, Token, tokenize

_IN_SETTINGS = (
    syntax.Use, syntax.Axis, syntax.Tensor, syntax.Param, syntax.State, syntax.Let, syntax.Reduce,
)  # fmt: skip


def parse_text(source: Source, problems: Diagnostics) -> File:
    """The file that a text stands for; what cannot be read is left out of it and reported in `problems`."""
    whole = Span(source, 0, len(source.text))
    if len(source.text) > MAX_CHARACTERS:
        problems.add(error("E009", f"a file may have {MAX_CHARACTERS:,} characters", Span(source, 0, 0)))
        return File((), span=whole)
    rows, comments = lay_out(tokenize(Fragment.whole(source), problems), problems)
    declared = [item for row in rows if not problems.is_full for item in parse_row(row, problems)]
    version = _version(declared, problems)
    items = tuple(item for item in declared if not isinstance(item, Version))
    refuse_repeated(items, problems)
    return File(items, version, tuple(comments), span=whole)


def parse_expression(source: Source, problems: Diagnostics, start: str = "expression") -> Any:
    """The tree of a single expression (or of another start rule, such as `type`), or None where it cannot be read."""
    if len(source.text) > MAX_CHARACTERS:
        problems.add(error("E009", f"an expression may have {MAX_CHARACTERS:,} characters", Span(source, 0, 0)))
        return None
    return parse_fragment(Fragment.whole(source), problems, start)


def parse_fragment(fragment: Fragment, problems: Diagnostics, start: str = "expression") -> Any:
    """As `parse_expression`, for a text that stands inside of a file."""
    row = logical_line(fragment, problems)
    if not row.tokens:
        what = "a kind" if start == "type" else "an expression"
        problems.add(error("E001", f"expected {what}", fragment.span(0, len(fragment.text))))
        return None
    return None if row.broken else parse_line(start, row.tokens, problems)


def logical_line(fragment: Fragment, problems: Diagnostics) -> Row:
    """All of a text as one logical line, whatever its lines; it may be empty."""
    tokens = tokenize(fragment, problems)
    comments = [comment_text(token.text) for token in tokens if token.kind == COMMENT]
    row = Row([token for token in tokens if token.kind != COMMENT], 0, comments)
    check_brackets(row, problems)
    return row


def parse_row(row: Row, problems: Diagnostics) -> list[Any]:
    """The declaration of a row with its block, an `Item` or a `Version`; an empty list where it could not be read."""
    start = "header" if row.children or _is_block(row) else "declaration"
    item = None if row.broken else parse_line(start, row.tokens, problems)
    if start == "header":
        item = _block(item, row, problems)
    return [] if item is None else [_commented(item, row)]


def _is_block(row: Row) -> bool:
    word = row.tokens[0].word
    return word in ("minimize", "maximize", "monitor", "setting") or (word == "term" and not row.has("="))


def parse_line(start: str, tokens: Sequence[Token], problems: Diagnostics, owner: str = "") -> Any:
    """What a start rule makes of one logical line; None, and a problem, where it does not fit."""
    faults = [token.fault for token in tokens if token.kind == FAULT and token.fault]
    for fault in faults[:MAX_PROBLEMS]:
        problems.add(fault)
    if faults:
        return None
    try:
        node = run(start, tokens, BUILDERS)
    except StuckError as stuck:
        problems.add(explain(stuck, start, owner))
        return None
    except MistakeError as mistake:
        problems.add(mistake.diagnostic)
        return None
    if len(tokens) > MAX_DEPTH and _depth(node) > MAX_DEPTH:
        help = "name a part of it with `let`"
        problems.add(error("E008", f"an expression may be {MAX_DEPTH} levels deep", tokens[0].span, help=help))
        return None
    return node


def _depth(root: Any) -> int:
    """How many nodes of an expression stand one inside the other; computed without recursion."""
    deepest, stack = 0, [(root, 0)]
    while stack:
        part, depth = stack.pop()
        if isinstance(part, tuple):
            stack += [(inner, depth) for inner in part]
        elif isinstance(part, syntax.Node):
            here = depth + (not isinstance(part, Declaration))
            deepest = max(deepest, here)
            stack += [(getattr(part, field.name), here) for field in fields(part) if field.compare]
    return deepest


def _commented(item: Any, row: Row) -> Any:
    return replace(item, comments=tuple(row.comments), trailing=row.trailing)


def _block(header: Header | None, row: Row, problems: Diagnostics) -> Item | None:
    """The declaration of a header and its block; the lines of the block are read even where the header is wrong."""
    word = row.tokens[0].word
    if not row.children and header is not None:
        problems.add(_empty(header))
        return None
    if word == "term":
        return _term(header, row, problems)
    if word == "setting":
        return _setting(header, row, problems)
    entries = [parse_child(child, "entry", problems, word) for child in row.children]
    if header is None:
        return None
    role: Any = word
    return syntax.Block(role, tuple(filter(None, entries)), span=row.span, name_span=header.name_span)


def parse_child(row: Row, start: str, problems: Diagnostics, owner: str = "") -> Any:
    """A line of a block, with its comments if it is a declaration."""
    line = None if row.broken or problems.is_full else parse_line(start, row.tokens, problems, owner)
    return _commented(line, row) if isinstance(line, Declaration) else line


def _empty(header: Header) -> Any:
    if header.word == "term":
        help = "write `= expression` behind it, or the body below, indented"
        return error("E016", f"the term `{header.name}` has no body", header.name_span, help=help)
    items = "its items" if header.word == "setting" else "`name : expression`"
    help = f"write {items} below, indented"
    return error("E016", f"`{header.word}` has nothing below it", header.span, help=help)


def _term(header: Header | None, row: Row, problems: Diagnostics) -> syntax.Term | None:
    lines = [parse_child(child, "body_line", problems) for child in row.children]
    if header is None or None in lines:
        return None
    *lets, body = lines
    misplaced = next((line for line in lets if not isinstance(line, syntax.Let)), None)
    if misplaced is not None or isinstance(body, syntax.Let):
        problems.add(_body_order(header, misplaced, lines))
        return None
    row.adopt_comments(row.children[-1])
    return syntax.Term(
        header.name, header.formals, body, tuple(lets), header.result, span=row.span, name_span=header.name_span
    )


def _body_order(header: Header, misplaced: Expr | None, lines: list[Any]) -> Any:
    if misplaced is None:
        message, place = f"the body of `{header.name}` ends without an expression", lines[-1].span
        return error("E016", message, place, label="the last line is a `let`", help="write the value of the term below")
    note = Note("the body goes on here", lines[lines.index(misplaced) + 1].span)
    message = f"the body of `{header.name}` has an expression before its last line"
    help = "begin the line with `let name =`, or indent the next one deeper to continue it"
    return error("E016", message, misplaced.span, notes=[note], help=help)


def _setting(header: Header | None, row: Row, problems: Diagnostics) -> syntax.Setting | None:
    items: list[Item] = []
    for child in row.children:
        item = parse_child(child, "declaration", problems, "setting")
        if isinstance(item, _IN_SETTINGS):
            items.append(item)
        elif item is not None:
            word = child.tokens[0]
            message = f"`{word.text}` cannot stand in a setting"
            problems.add(error("E016", message, word.span, help="declare it at the level of the file"))
    refuse_repeated(items, problems)
    if header is None:
        return None
    return syntax.Setting(header.name, tuple(items), span=row.span, name_span=header.name_span)


def _version(items: Sequence[Item | Version], problems: Diagnostics) -> int:
    versions = [item for item in items if isinstance(item, Version)]
    for version in versions:
        check_version(version.number, version.span, problems)
    return 1


def check_version(number: str, span: Span, problems: Diagnostics) -> None:
    if number != "1":
        problems.add(error("E019", f"this is a file of version {number}", span, help="this lossc reads version 1"))


def refuse_repeated(items: Iterable[Item], problems: Diagnostics) -> None:
    """A file has one title, one objective and so on, and one `reduce`."""
    first: dict[str, Declaration] = {}
    for item in items:
        if isinstance(item, (syntax.Meta, syntax.Reduce)):
            key = syntax.section(item)
            if key in first:
                note = Note("first given here", first[key].span)
                problems.add(error("E018", f"`{key}` is given twice", item.span, notes=[note]))
            first.setdefault(key, item)
