"""What to say where a line does not go on as written: a message for each way in which people get it wrong."""

from __future__ import annotations

from typing import Final

from lossc.grammar.diagnostics import Diagnostic, error
from lossc.grammar.machine import END, StuckError
from lossc.grammar.source import Span
from lossc.grammar.tokens import DECLARATIONS, DOC, NAME, NUMBER, RESERVED, STRING, Token
from lossc.grammar.words import closest

_OPERATORS: Final = frozenset({"+", "-", "*", "/", "^"})
_KINDS: Final = {NAME: "a name", NUMBER: "a number", STRING: "a text in quotes", DOC: 'a text in `"""`'}


def explain(stuck: StuckError, start: str, owner: str = "") -> Diagnostic:
    """The problem of a line that was to be a `start`; `owner` is the word of the block that it stands in."""
    for rule in (_unnamed_entry, _behind_header, _unknown_declaration, _assignment, _reserved, _adjacent, _position):
        if found := rule(stuck, start, owner):
            return found
    return error("E001", _message(stuck), _place(stuck), label=_label(stuck))


def _place(stuck: StuckError) -> Span:
    """The token that does not fit; at the end of a line the character behind the last one."""
    if stuck.token is not None:
        return stuck.token.span
    assert stuck.previous is not None
    last = stuck.previous.span
    return Span(last.source, last.end, last.end + 1)


def _message(stuck: StuckError) -> str:
    after = f" after {_shown(stuck.previous)}" if stuck.previous else ""
    return f"expected {_expected(stuck.expected)}{after}"


def _label(stuck: StuckError) -> str:
    return "the line ends here" if stuck.token is None else ""


def _shown(token: Token) -> str:
    text = token.text if len(token.text) <= 30 else token.text[:27] + "..."
    return f"`{text.splitlines()[0]}`" if text else "nothing"


def _expected(expected: frozenset[str]) -> str:
    """What could stand here, in a few words."""
    if {NAME, NUMBER, "("} <= expected:
        return "an expression"
    if expected >= _OPERATORS:
        closers = [f"`{sign}`" for sign in (")", "]", "}", "else", ":", "=") if sign in expected]
        return _alternatives(["an operator", *closers, *(["the end of the line"] if END in expected else [])])
    if {NAME, "{"} <= expected:
        return "a kind"
    words = sorted(expected - {END} - set(_KINDS), key=lambda word: (word.isalpha(), word))
    shown = [_KINDS[kind] for kind in _KINDS if kind in expected] + [f"`{word}`" for word in words]
    if not shown:
        return "the end of the line"
    return _alternatives(shown[:5])


def _alternatives(options: list[str]) -> str:
    return options[0] if len(options) == 1 else ", ".join(options[:-1]) + " or " + options[-1]


def _unnamed_entry(stuck: StuckError, start: str, owner: str) -> Diagnostic | None:
    if start != "entry" or (stuck.expected != {":"} and stuck.previous is not None):
        return None
    what = "a quantity" if owner == "monitor" else "a term"
    message = f"{what} of `{owner}` has a name: `name : expression`"
    help = "write `loss : ` before the expression"
    return error("E001", message, _place(stuck), label="expected `:`" if stuck.previous else "", help=help)


def _behind_header(stuck: StuckError, start: str, owner: str) -> Diagnostic | None:
    if start != "header" or stuck.expected != {END} or stuck.previous is None:
        return None
    message = f"nothing follows {_shown(stuck.previous)} on its line"
    return error("E001", message, _place(stuck), help="write the block below, indented, one item a line")


def _unknown_declaration(stuck: StuckError, start: str, owner: str) -> Diagnostic | None:
    if start != "declaration" or stuck.previous is not None or stuck.token is None:
        return None
    token = stuck.token
    if token.kind != NAME:
        return error("E012", f"a declaration begins with a word such as `param`, not with {_shown(token)}", token.span,
                     help="indent the line if it continues the one above")  # fmt: skip
    guess = closest(token.text, DECLARATIONS)
    help = [f"did you mean `{guess}`?"] if guess else ["indent the line if it continues the one above"]
    return error("E012", f"`{token.text}` begins no declaration", token.span, help=help)


def _assignment(stuck: StuckError, start: str, owner: str) -> Diagnostic | None:
    if stuck.token is None or stuck.token.text != "=" or "==" not in stuck.expected:
        return None
    message = "`=` gives a value to a name; a comparison is written `==`"
    return error("E014", message, stuck.token.span, help="write `==`")


def _reserved(stuck: StuckError, start: str, owner: str) -> Diagnostic | None:
    if stuck.token is None or stuck.token.word not in RESERVED or NAME not in stuck.expected:
        return None
    if {NAME, NUMBER} <= stuck.expected and not _declares(stuck):
        return None
    message = f"`{stuck.token.text}` is a reserved word and cannot be a name"
    return error("E013", message, stuck.token.span, help=f"write `{stuck.token.text}_`")


def _declares(stuck: StuckError) -> bool:
    return stuck.previous is not None and stuck.previous.text in DECLARATIONS


def _adjacent(stuck: StuckError, start: str, owner: str) -> Diagnostic | None:
    """Two operands without a sign between them."""
    token, previous = stuck.token, stuck.previous
    if token is None or previous is None or not stuck.expected >= _OPERATORS:
        return None
    if token.text in RESERVED or not (token.kind in (NAME, NUMBER) or token.text == "("):
        return None
    message = f"expected an operator between {_shown(previous)} and {_shown(token)}"
    return error("E001", message, token.span, help="for a product write `*`")


def _position(stuck: StuckError, start: str, owner: str) -> Diagnostic | None:
    """`z[0]`: brackets select by the name of an axis."""
    token, previous = stuck.token, stuck.previous
    if token is None or previous is None or previous.text != "[":
        return None
    if NAME not in stuck.expected or NUMBER in stuck.expected:
        return None
    help = "name the axis: `x[t = 0]`" if token.kind == NUMBER else ()
    return error("E001", "expected the name of an axis after `[`", token.span, help=help)
