"""What to say where a line does not go on as written: a message for each way in which people get it wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lossc.grammar.diagnostics import Diagnostic, error
from lossc.grammar.machine import END, StuckError
from lossc.grammar.source import Span
from lossc.grammar.suggest import nearest
from lossc.grammar.tokens import DECLARATIONS, DOC, NAME, NUMBER, RESERVED, SIGN, STRING, Token

_OPERATORS: Final = frozenset({"+", "-", "*", "/", "^"})
_KINDS: Final = {NAME: "a name", NUMBER: "a number", STRING: "a text in quotes", DOC: 'a text in `"""`'}

_FORMS: Final = {
    "lossc": "lossc 1",
    "objective": "objective name",
    "title": 'title "..."',
    "cite": 'cite "..."',
    "certainty": "certainty checked",
    "id": "id 12",
    "use": "use std.divergence (kl, js)",
    "axis": "axis b : batch`, `axis t` or `axis side = {chosen, rejected}",
    "input": "input logits : logits[b, v]",
    "data": "data labels : label[b] in v",
    "param": "param beta : positive = 0.1",
    "learn": "learn scale : real = 0",
    "state": "state centre : real[k] = 0 then renewal",
    "let": "let name = expression",
    "term": "term f(x : real) = expression",
    "setting": "setting name",
    "reduce": "reduce mean[b]",
    "subject": "subject to name : a <= b",
    "law": 'law "title" : claim for x : real, y',
    "extern": 'extern f(x : real) -> real from "package.module:function"',
}
"""How each declaration is written, for the help of a message."""


@dataclass(frozen=True)
class _Place:
    """Where a line that was to be a `start` got stuck; `owner` is the word of the block that it stands in."""

    stuck: StuckError
    start: str
    owner: str

    @property
    def token(self) -> Token | None:
        return self.stuck.at(0)

    @property
    def word(self) -> str:
        return self.token.word if self.token else ""

    @property
    def before(self) -> Token | None:
        return self.stuck.at(-1)

    @property
    def expected(self) -> frozenset[str]:
        return self.stuck.expected

    @property
    def span(self) -> Span:
        """The token that does not fit; at the end of a line the character behind the last one."""
        if self.token is not None:
            return self.token.span
        assert self.before is not None
        last = self.before.span
        return Span(last.source, last.end, last.end + 1)

    @property
    def label(self) -> str:
        return "the line ends here" if self.token is None else ""

    def is_followed_by(self, sign: str) -> bool:
        following = self.stuck.at(1)
        return following is not None and following.word == sign


def explain(stuck: StuckError, start: str, owner: str = "") -> Diagnostic:
    """The problem of a line that got stuck."""
    place = _Place(stuck, start, owner)
    for rule in _RULES:
        if found := rule(place):
            return found
    after = f" after {_shown(place.before)}" if place.before else ""
    message = f"expected {_expected(place.expected)}{after}"
    return error("E001", message, place.span, label=place.label, help=_form(place))


def _form(place: _Place) -> tuple[str, ...]:
    """The whole form of the declaration, unless it went wrong inside of an expression."""
    first = place.stuck.tokens[0].word if place.stuck.tokens else ""
    inside = place.expected >= {NAME, NUMBER, "("} or place.expected >= _OPERATORS
    is_declaration = place.start in ("declaration", "header") or (place.start == "body_line" and first == "let")
    return (f"write `{_FORMS[first]}`",) if is_declaration and first in _FORMS and not inside else ()


def _shown(token: Token) -> str:
    text = token.text if len(token.text) <= 30 else token.text[:27] + "..."
    return f"`{text.splitlines()[0]}`"


def _expected(expected: frozenset[str]) -> str:
    """What could stand here, in a few words."""
    if {NAME, NUMBER, "("} <= expected:
        return "an expression"
    if expected >= _OPERATORS:
        closers = [f"`{sign}`" for sign in (")", "]", "}", ":", "=", "then") if sign in expected]
        return _alternatives(["an operator", *closers, *(["the end of the line"] if END in expected else [])])
    if {NAME, "{"} <= expected:
        return "a kind"
    words = sorted(expected - {END} - set(_KINDS), key=lambda word: (word.isalpha(), word))
    shown = [_KINDS[kind] for kind in _KINDS if kind in expected] + [f"`{word}`" for word in words]
    return _alternatives(shown[:5]) if shown else "the end of the line"


def _alternatives(options: list[str]) -> str:
    return options[0] if len(options) == 1 else ", ".join(options[:-1]) + " or " + options[-1]


def _unnamed_entry(place: _Place) -> Diagnostic | None:
    if place.start != "entry" or (place.expected != {":"} and place.before is not None):
        return None
    what = "a quantity" if place.owner == "monitor" else "a term"
    message = f"{what} of `{place.owner}` has a name: `name : expression`"
    if place.word == "=":
        return error("E014", "a name is given to an entry with `:`", place.span, help="write `:`")
    label = "expected `:`" if place.before else ""
    return error("E001", message, place.span, label=label, help="write `loss : ` before the expression")


def _behind_header(place: _Place) -> Diagnostic | None:
    if place.start != "header" or place.expected != {END} or place.before is None:
        return None
    message = f"nothing follows {_shown(place.before)} on its line"
    return error("E001", message, place.span, help="write the block below, indented, one item a line")


def _axis_with_extent(place: _Place) -> Diagnostic | None:
    before = [token.word for token in place.stuck.tokens[:3]]
    if place.token is None or place.token.kind != NUMBER or before[:1] + before[2:] != ["axis", "="]:
        return None
    name = before[1]
    at_load = f'where no tensor has it: `lossc.load(..., sizes={{"{name}": {place.token.text}}})`'
    return error("E001", "an axis is as long as its tensors are", place.span, help=(f"write `axis {name}`", at_load))


def _unknown_declaration(place: _Place) -> Diagnostic | None:
    if place.start != "declaration" or place.before is not None or place.token is None:
        return None
    if place.token.kind != NAME:
        message = f"a declaration begins with a word such as `param`, not with {_shown(place.token)}"
        return error("E012", message, place.span, help="indent the line if it continues the one above")
    if place.owner == "setting" and place.word in DECLARATIONS:
        message = f"`{place.word}` cannot stand in a setting"
        return error("E016", message, place.span, help="declare it at the level of the file")
    return error("E012", f"{_shown(place.token)} begins no declaration", place.span, help=_instead_of(place))


def _instead_of(place: _Place) -> str:
    if place.is_followed_by("="):
        return f"write `let {place.word} = ...`"
    if place.is_followed_by(":"):
        return f"write `param {place.word} : ...`, or indent the line if it stands under `minimize`"
    if place.word in ("import", "from", "include"):
        return "write `use std.ce (focal)`; Python cannot be imported"
    if place.word in ("def", "function", "fn", "lambda"):
        return "write `term f(x : real) = ...`"
    guess = nearest(place.word, DECLARATIONS)
    return f"did you mean `{guess}`?" if guess else "indent the line if it continues the one above"


def _assignment(place: _Place) -> Diagnostic | None:
    if place.word != "=" or "==" not in place.expected:
        return None
    message = "`=` gives a value to a name; a comparison is written `==`"
    return error("E014", message, place.span, help="write `==`")


def _several_names(place: _Place) -> Diagnostic | None:
    """`input a, b : real[k]`."""
    tokens = place.stuck.tokens
    if place.word != "," or place.start != "declaration" or place.stuck.index != 2 or ":" not in place.expected:
        return None
    words = [token.text for token in tokens]
    end = words.index(":") if ":" in words else len(words)
    names = [token.text for token in tokens[1:end] if token.kind == NAME]
    kind = " : …" if end < len(words) else ""
    lines = ", ".join(f"`{words[0]} {name}{kind}`" for name in names[:4])
    return error("E001", f"`{words[0]}` declares one name", place.span, help=f"write a line for each: {lines}")


def _no_axes(place: _Place) -> Diagnostic | None:
    """`mean[where m](x)`."""
    if place.word != "where" or place.before is None or place.before.word != "[":
        return None
    message = "expected the axes of the reduction before `where`"
    return error("E001", message, place.span, help="write `[b where ...]`")


def _reserved(place: _Place) -> Diagnostic | None:
    if place.word not in RESERVED or NAME not in place.expected:
        return None
    if NUMBER in place.expected and not _stands_as_name(place):
        return None
    message = f"`{place.word}` is a reserved word and cannot be a name"
    return error("E013", message, place.span, help=f"write `{place.word}_`")


def _stands_as_name(place: _Place) -> bool:
    """Whether a reserved word is used as an operand or argument, and not just one word too early."""
    if place.is_followed_by("="):
        return True
    following = place.stuck.at(1)
    is_operand = following is None or following.word in {*_OPERATORS, ")", "]", ","}
    return place.word in ("by", "where", "for") and is_operand


def _choice(place: _Place) -> Diagnostic | None:
    """`if a then b`, `if a else b`, and `a if b` without `else`."""
    help = "write `value if condition else other`"
    if place.word == "if" and NUMBER in place.expected:
        return error("E001", "the value of a choice stands before its `if`", place.span, help=help)
    ends = place.token is None or place.word in (")", "]", ",")
    if ends and "else" in place.expected and END not in place.expected:
        return error("E001", "this choice has no `else`", place.span, label=place.label, help=help)
    return None


def _misplaced_where(place: _Place) -> Diagnostic | None:
    """`mean[b](x) where m`."""
    if place.word != "where" or place.before is None or not place.expected >= _OPERATORS:
        return None
    message = "`where` stands in the brackets of a reduction, behind its axes"
    return error("E001", message, place.span, help="write `mean[t where mask](x)`")


def _adjacent(place: _Place) -> Diagnostic | None:
    """Two operands without a sign between them."""
    token, before = place.token, place.before
    if token is None or before is None or not place.expected >= _OPERATORS:
        return None
    if token.word in RESERVED or not (token.kind in (NAME, NUMBER) or token.word == "("):
        return None
    if token.kind == NUMBER and before.kind == NUMBER:
        message = f"expected an operator or `,` between {_shown(before)} and {_shown(token)}"
        return error("E001", message, place.span)
    message = f"expected an operator between {_shown(before)} and {_shown(token)}"
    help = "for a product write `*`" + ("; between two arguments `,`" if "," in place.expected else "")
    return error("E001", message, place.span, help=help)


def _axes_apart(place: _Place) -> Diagnostic | None:
    """`mean[b t](x)`."""
    if place.token is None or place.before is None or place.token.kind != NAME or place.before.kind != NAME:
        return None
    if not {",", "]", "->"} <= place.expected or place.word in RESERVED:
        return None
    message = f"expected `,` between the axes {_shown(place.before)} and {_shown(place.token)}"
    return error("E001", message, place.span)


def _position(place: _Place) -> Diagnostic | None:
    """`z[0]`: brackets select by the name of an axis."""
    if place.token is None or place.before is None or place.before.word != "[":
        return None
    if NAME not in place.expected or NUMBER in place.expected:
        return None
    is_value = place.token.kind in (NUMBER, SIGN) and place.word not in ("]", ",")
    help = "an axis is written by its name, a position as `x[t = 0]`" if is_value else ()
    opened = place.stuck.at(-2)
    if place.word == "]" and opened is not None:
        help = f"what has no axes is written without brackets: `{opened.text}`"
    return error("E001", "expected the name of an axis after `[`", place.span, help=help)


def _moved_by(place: _Place) -> Diagnostic | None:
    """`x[t + 1]`: an axis is no number, its index is."""
    if place.word not in ("+", "-") or place.before is None or place.before.kind != NAME:
        return None
    opened = place.stuck.at(-2)
    if opened is None or opened.word != "[" or not {"->", "="} <= place.expected:
        return None
    axis = place.before.text
    help = f"another step is `shift[{axis}](x, 1)`, any other position `x[{axis} -> u][u = index[{axis}] + 1]`"
    return error("E001", "an axis is a name, not a number to calculate with", place.span, help=help)


def _indicator(place: _Place) -> Diagnostic | None:
    """`1[p > 0]`, as papers write it."""
    words = [token.word for token in place.stuck.tokens[: place.stuck.index]]
    opened = max((at for at, word in enumerate(words) if word == "["), default=0)
    head = place.stuck.tokens[opened - 1] if opened else None
    if head is None or head.kind != NUMBER or place.word not in ("<", "<=", ">", ">=", "==", "!=", "and", "or"):
        return None
    message = f"`{head.text}[…]` is no indicator: a condition counts as 0 and 1 by itself"
    return error("E001", message, place.span, help="write it in parentheses: `(p > 0.5)`")


def _choice_function(place: _Place) -> Diagnostic | None:
    """`where(c, a, b)`, as libraries write it."""
    if place.word != "where" or NUMBER not in place.expected or not place.is_followed_by("("):
        return None
    message = "`where` is not a function"
    return error("E001", message, place.span, help="write `value if condition else other`")


def _late_by(place: _Place) -> Diagnostic | None:
    """`mean[b where m by g](x)`."""
    if place.word != "by" or "]" not in place.expected or not place.expected >= _OPERATORS:
        return None
    return error("E001", "`by` stands before `where`", place.span, help="write `mean[b by group where mask](x)`")


def _late_axis(place: _Place) -> Diagnostic | None:
    """`mean[b where m, t](x)`."""
    words = [token.word for token in place.stuck.tokens[: place.stuck.index]]
    if place.word != "," or "where" not in words or "]" not in place.expected or not place.expected >= _OPERATORS:
        return None
    return error("E001", "`where` stands behind all axes", place.span, help="write `mean[b, t where mask](x)`")


def _bare_not(place: _Place) -> Diagnostic | None:
    """`x * not m`: `not` binds less than arithmetic and comparisons."""
    if place.word != "not" or NUMBER not in place.expected:
        return None
    message = "`not` as part of a sum, product or comparison stands in parentheses"
    return error("E001", message, place.span, help="write `x * (not mask)`")


def _axes_behind_bounds(place: _Place) -> Diagnostic | None:
    """`real in [0, 1][b]`: the axes of a kind stand before its bounds."""
    words = [token.word for token in place.stuck.tokens[: place.stuck.index]]
    if place.word != "[" or words[-1:] != ["]"] or "in" not in words or END not in place.expected:
        return None
    return error("E001", "the axes of a kind stand before its bounds", place.span, help="write `real[b] in [0, 1]`")


_RULES: Final[tuple[Callable[[_Place], Diagnostic | None], ...]] = (
    _no_axes, _indicator, _choice_function, _reserved, _unnamed_entry, _behind_header, _unknown_declaration, _assignment,
    _several_names, _axis_with_extent, _choice, _misplaced_where, _late_by, _late_axis, _bare_not, _axes_behind_bounds,
    _moved_by, _axes_apart, _adjacent, _position,
)  # fmt: skip
