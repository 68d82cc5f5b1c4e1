"""The layout rule: from lines of tokens to declarations with their blocks and comments.

A line indented deeper than the first line of its declaration or item continues it; inside brackets newlines do not
count; a declaration's keyword in column 0 ends a bracket that was never closed, so that the rest is still checked.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from lossc.grammar.diagnostics import Diagnostic, Diagnostics, Note, error
from lossc.grammar.limits import MAX_DEPTH
from lossc.grammar.source import Span
from lossc.grammar.syntax import BLANK
from lossc.grammar.tokens import COMMENT, DECLARATIONS, FAULT, SIGN, Token

BLOCKS: Final = frozenset({"minimize", "maximize", "monitor", "setting"})
_CLOSER: Final = {"(": ")", "[": "]", "{": "}"}
_CLOSERS: Final = frozenset(_CLOSER.values())


@dataclass
class Row:
    """One logical line: its tokens without comments, the comments around it and the rows of its block.

    A `broken` row has been reported already and is not parsed.
    """

    tokens: list[Token]
    indent: int
    comments: list[str] = field(default_factory=list)
    trailing: str | None = None
    children: list[Row] = field(default_factory=list)
    broken: bool = False
    open: list[Token] = field(default_factory=list)

    @property
    def span(self) -> Span:
        """From the first token to the end of the last row of the block."""
        last = self.children[-1].span if self.children else self.tokens[-1].span
        return self.tokens[0].span.to(last)

    def has(self, sign: str) -> bool:
        """Whether a sign stands in the row outside all brackets."""
        depth = 0
        for token in self.tokens:
            if token.kind == SIGN:
                depth += (token.text in _CLOSER) - (token.text in _CLOSERS)
                if depth == 0 and token.text == sign:
                    return True
        return False

    def extend(self, other: Row) -> None:
        """Takes a continuing row in; comments between the two move above the whole."""
        lifted = [*([self.trailing] if self.trailing is not None else []), *other.comments]
        self.comments += [text for text in lifted if text != BLANK]
        self.trailing = other.trailing
        self.tokens += other.tokens
        self.broken = self.broken or other.broken

    def continue_with(self, other: Row) -> None:
        """Takes in a row that has its own comments only inside."""
        self.comments += other.comments
        self.tokens += other.tokens
        self.broken = self.broken or other.broken

    def adopt_comments(self, child: Row) -> None:
        """Takes the comments of a line that has no place for them."""
        behind = [] if child.trailing is None else [child.trailing]
        self.comments += [text for text in [*child.comments, *behind] if text != BLANK]


def lay_out(tokens: list[Token], problems: Diagnostics) -> tuple[list[Row], list[str]]:
    """The declarations of a text, and the comments after the last one."""
    rows, comments = _rows(tokens, problems)
    return _declarations(rows, problems), comments


def lay_out_block(tokens: list[Token], problems: Diagnostics) -> tuple[list[Row], list[str]]:
    """The items of a text that is a block by itself, and the comments after the last one."""
    rows, comments = _rows(tokens, problems)
    return (_items(rows, problems) if rows else []), comments


def check_brackets(row: Row, problems: Diagnostics) -> None:
    """Reports a bracket of a row that has no counterpart."""
    _match_brackets(row.tokens, row, problems)
    _report_open(row, problems)


def comment_text(token: str) -> str:
    """What a comment says, without its `#` and the blank after it."""
    return token[1:].removeprefix(" ").rstrip()


# Physical lines to rows: brackets join lines, comments and blank lines are gathered for the row below them.


def _lines(tokens: list[Token]) -> list[list[Token]]:
    lines: list[list[Token]] = []
    for token in tokens:
        if token.column >= 0:
            lines.append([])
        lines[-1].append(token)
    return lines


def _rows(tokens: list[Token], problems: Diagnostics) -> tuple[list[Row], list[str]]:
    rows: list[Row] = []
    pending: list[str] = []
    last_line = -1
    for line in _lines(tokens):
        if last_line >= 0 and line[0].line > last_line + 1:
            _add_blank(pending)
        last_line = line[-1].line + line[-1].text.count("\n")
        comment = comment_text(line.pop().text) if line[-1].kind == COMMENT else None
        if not line:
            pending.append(comment or "")
            continue
        row = Row(line, line[0].column, pending, comment)
        pending = []
        if rows and rows[-1].open and not _ends_brackets(row):
            _match_brackets(row.tokens, rows[-1], problems)
            rows[-1].extend(row)
        else:
            if rows:
                _report_open(rows[-1], problems)
            rows.append(row)
            _match_brackets(row.tokens, row, problems)
    if rows:
        _report_open(rows[-1], problems)
        if rows[0].comments[:1] == [BLANK]:
            del rows[0].comments[0]
    return rows, pending


def _add_blank(pending: list[str]) -> None:
    if pending[-1:] != [BLANK]:
        pending.append(BLANK)


def _ends_brackets(row: Row) -> bool:
    return row.indent == 0 and row.tokens[0].word in DECLARATIONS


def _match_brackets(tokens: list[Token], row: Row, problems: Diagnostics) -> None:
    """Keeps the brackets that are open at the end of `tokens` in `row.open`."""
    for token in tokens:
        if row.broken or token.kind != SIGN:
            continue
        if token.text in _CLOSER:
            row.open.append(token)
            if len(row.open) > MAX_DEPTH:
                _break(row, problems, _too_deep(token))
        elif token.text in _CLOSERS:
            if row.open and _CLOSER[row.open[-1].text] == token.text:
                row.open.pop()
            else:
                _break(row, problems, _mismatch(token, row.open))


def _break(row: Row, problems: Diagnostics, problem: Diagnostic) -> None:
    problems.add(problem)
    row.broken = True
    row.open.clear()


def _too_deep(token: Token) -> Diagnostic:
    return error("E008", f"brackets may be nested {MAX_DEPTH} deep", token.span, help="name a part of it with `let`")


def _mismatch(token: Token, opened: list[Token]) -> Diagnostic:
    if not opened:
        return error("E004", f"`{token.text}` closes nothing", token.span, label="no bracket is open here")
    inner = opened[-1]
    note = Note(f"`{inner.text}` opened here", inner.span)
    expected = f"expected `{_CLOSER[inner.text]}`"
    return error("E004", f"`{token.text}` does not close `{inner.text}`", token.span, label=expected, notes=[note])


def _report_open(row: Row, problems: Diagnostics) -> None:
    if row.open and not any(token.kind == FAULT for token in row.tokens):
        inner = row.open[-1]
        message = f"`{inner.text}` opened here is never closed"
        problems.add(error("E003", message, inner.span, help=f"add `{_CLOSER[inner.text]}`"))
        row.broken = True
    row.open.clear()


# Rows to declarations: indentation joins continued lines and gives a header its block.


def _declarations(rows: list[Row], problems: Diagnostics) -> list[Row]:
    declarations: list[Row] = []
    for group in _groups(rows, rows[0].indent if rows else 0):
        head, inner = group[0], group[1:]
        if _has_block(head, inner):
            head.children = _items(inner, problems)
        else:
            _join(head, inner)
        declarations.append(head)
    return declarations


def _groups(rows: list[Row], indent: int) -> list[list[Row]]:
    """Each row that is not deeper than `indent`, with the deeper ones below it."""
    groups: list[list[Row]] = []
    for row in rows:
        if row.indent <= indent or not groups:
            groups.append([])
        groups[-1].append(row)
    return groups


def _has_block(head: Row, inner: list[Row]) -> bool:
    word = head.tokens[0].word
    if word != "term":
        return word in BLOCKS
    return not head.has("=") and bool(inner) and inner[0].tokens[0].word not in ("=", "->")


def _join(head: Row, inner: list[Row]) -> None:
    for row in inner:
        head.extend(row)


def _items(rows: list[Row], problems: Diagnostics) -> list[Row]:
    if not rows:
        return []
    if rows[0].comments[:1] == [BLANK]:
        rows[0].comments = rows[0].comments[1:]
    indent = rows[0].indent
    items: list[Row] = []
    for group in _groups(rows, indent):
        head, inner = group[0], group[1:]
        if head.indent < indent:
            problems.add(_uneven(head, items[0]))
        _join(head, inner)
        items.append(head)
    return items


def _uneven(row: Row, first: Row) -> Diagnostic:
    note = Note("the block begins here", replace(first.span, end=first.span.start))
    message = "this line is indented less than the lines of its block"
    return error("E011", message, row.tokens[0].span, notes=[note], help="indent the lines of a block alike")
