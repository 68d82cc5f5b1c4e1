"""Cutting a text into words, numbers, strings and signs, each with its place in the file that it came from."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lossc.grammar.diagnostics import Diagnostic, Diagnostics, error
from lossc.grammar.limits import MAX_DIGITS, MAX_EXPONENT, MAX_TOKENS
from lossc.grammar.source import Source, Span

RESERVED: Final = frozenset({"where", "by", "if", "else", "and", "or", "not", "for", "in"})

DECLARATIONS: Final = (
    "lossc", "objective", "title", "cite", "certainty", "id", "use", "axis", "input", "data", "param", "learn", "state",
    "let", "term", "setting", "reduce", "minimize", "maximize", "subject", "monitor", "law", "extern",
)  # fmt: skip
"""The words that begin a declaration."""

NAME, NUMBER, STRING, DOC, SIGN, COMMENT, FAULT = "NAME", "NUMBER", "STRING", "DOC", "SIGN", "COMMENT", "FAULT"


@dataclass(frozen=True)
class Fragment:
    """A text and where each of its characters stands in a file: a whole file, or one scalar of a YAML file.

    `offsets[i]` is the place in the file of character i, with one entry more for the end.
    """

    text: str
    source: Source
    offsets: Sequence[int]

    @classmethod
    def whole(cls, source: Source) -> Fragment:
        return cls(source.text, source, range(len(source.text) + 1))

    def span(self, start: int, end: int) -> Span:
        return Span(self.source, self.offsets[start], self.offsets[end])


@dataclass(frozen=True)
class Token:
    """A piece of text. `column` is its indentation (from 0) where it is the first of its line, else -1.

    A `FAULT` is what no program contains; `fault` says what is wrong with it.
    """

    kind: str
    text: str
    span: Span
    line: int
    column: int = -1
    fault: Diagnostic | None = None

    @property
    def word(self) -> str:
        """The text of a name or sign; nothing for what cannot be a keyword."""
        return self.text if self.kind in (NAME, SIGN) else ""


_PATTERN: Final = re.compile(
    r"""
      (?P<SPACE>[ \r\t\f\ufeff]+)
    | (?P<BREAK>\n)
    | (?P<COMMENT>\#[^\n]*)
    | (?P<NUMBER>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.])|[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?=\.\.))
    | (?P<BADNUMBER>[0-9][\w]*(?:\.[\w]+|\.(?!\.))*|\.[0-9]\w*)
    | (?P<NAME>[^\W\d][\w\u0300-\u036f]*(?:\.[^\W\d][\w\u0300-\u036f]*)*'*)
    | (?P<DOC>\"\"\"(?:[^\\"]|\\.|\"(?!\"\"))*\"\"\")
    | (?P<STRING>"(?!"")(?:[^\\"\n]|\\[^\n])*"|\"\"(?!\"))
    | (?P<OPEN>\"\"\"|")
    | (?P<FOREIGN>\*\*|&&|\|\||//|:=|=>|<-|<>|===|!==|\+=|-=|\*=|/=|!(?!=)|[%@~&|;?$`\\])
    | (?P<SIGN>->|\.\.|<=|>=|==|!=|[-+*/^=<>()\[\]{},:])
    | (?P<OTHER>.)
    """,
    re.VERBOSE | re.DOTALL,
)

_INSTEAD: Final = {
    "**": "^", "&&": "and", "&": "and", "||": "norm[d](x)` or, between masks, `or",
    "|": "abs(x)` or, between masks, `or", "!": "not", "~": "not",
    "===": "==", "!==": "!=", "<>": "!=", ":=": "=", "=>": "->", "//": "floor(a / b)", "%": "mod(a, b)",
    "@": "dot[d](x, y)", "×": "*", "·": "*", "⋅": "*", "−": "-", "–": "-", "÷": "/", "≤": "<=", "≥": ">=", "≠": "!=",
    "→": "->", "∞": "inf", "²": "^2", "³": "^3", "“": '"', "”": '"', "„": '"', "'": '"', "∧": "and", "∨": "or",
    "¬": "not", "…": "..", "?": "a if c else b",
}  # fmt: skip
"""What other languages and typesetters write, and what is written here."""

_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}


def tokenize(fragment: Fragment, problems: Diagnostics) -> list[Token]:
    """The tokens of a text with its comments; faults are tokens too, so that one line does not spoil the next."""
    tokens: list[Token] = []
    line, line_start, fresh = 0, int(fragment.text.startswith("\ufeff")), True
    for match in _PATTERN.finditer(fragment.text):
        kind, text = match.lastgroup or "OTHER", match.group()
        if kind == "SPACE":
            if "\t" in text:
                _refuse_tab(fragment, match, problems)
            continue
        if kind == "BREAK":
            line, line_start, fresh = line + 1, match.end(), True
            continue
        column = match.start() - line_start if fresh else -1
        if len(tokens) >= MAX_TOKENS:
            problems.add(_too_many(fragment.span(match.start(), match.end())))
            break
        tokens.append(_token(kind, text, fragment.span(match.start(), match.end()), line, column))
        fresh = False
        if "\n" in text:
            line, line_start = line + text.count("\n"), match.start() + text.rindex("\n") + 1
    return tokens


def _token(kind: str, text: str, span: Span, line: int, column: int) -> Token:
    if kind == "NAME":
        text = unicodedata.normalize("NFC", text)
    fault = _fault(kind, text, span)
    return Token(FAULT if fault else kind, text, span, line, column, fault)


def _fault(kind: str, text: str, span: Span) -> Diagnostic | None:
    match kind:
        case "NUMBER":
            return _too_large(text, span)
        case "BADNUMBER":
            return _bad_number(text, span)
        case "NAME":
            return _bad_name(text, span)
        case "STRING" | "DOC":
            return _bad_escape(text, span)
        case "OPEN":
            return error("E005", "this string is never closed", span, label="opened here", help=f"end it with `{text}`")
        case "FOREIGN":
            return error("E014", f"`{text}` is not a sign of this language", span, help=_instead(text))
        case "OTHER":
            return _bad_character(text, span)
        case _:
            return None


def _instead(text: str) -> tuple[str, ...]:
    return (f"write `{_INSTEAD[text]}`",) if text in _INSTEAD else ()


def _bad_character(char: str, span: Span) -> Diagnostic:
    shown = f"`{char}`" if char.isprintable() else f"the character U+{ord(char):04X}"
    return error("E002", f"{shown} cannot stand here", span, help=_instead(char))


def _bad_name(text: str, span: Span) -> Diagnostic | None:
    """A name is letters, digits and underscores; `x²` matches Python's idea of a word but is none."""
    plain = text.rstrip("'").replace(".", "")
    odd = next((char for char in plain if not f"a{char}".isidentifier()), None)
    if odd is None and plain.isidentifier():
        return None
    return error("E002", f"`{odd or text}` cannot be part of a name", span, help=_instead(odd or ""))


def _too_large(text: str, span: Span) -> Diagnostic | None:
    mantissa, _, exponent = text.lower().partition("e")
    digits = len(mantissa.replace(".", ""))
    if digits > MAX_DIGITS:
        return error("E007", f"a number may have {MAX_DIGITS} digits; this one has {digits}", span)
    power = exponent.lstrip("+-").lstrip("0")
    if len(power) > len(str(MAX_EXPONENT)) or int(power or "0") > MAX_EXPONENT:
        return error("E007", f"the exponent of a number goes from -{MAX_EXPONENT} to {MAX_EXPONENT}", span)
    return None


def _bad_number(text: str, span: Span) -> Diagnostic:
    shown = text if len(text) <= 40 else text[:37] + "..."
    return error("E006", f"`{shown}` is not a number", span, help=_number_help(text))


def _number_help(text: str) -> tuple[str, ...]:
    if re.fullmatch(r"[0-9]+\.", text):
        return (f"write `{text}0`",)
    if re.fullmatch(r"\.[0-9]+", text):
        return (f"write `0{text}`",)
    product = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([^\W\d]\w*)", text)
    if product and "_" not in text and not re.match(r"0[xob]|[0-9.]+e[0-9]*$", text):
        return (f"for a product write `{product[1]} * {product[2]}`; a name cannot begin with a digit",)
    if "_" in text:
        return ("digits are written without separators",)
    return ()


def _bad_escape(text: str, span: Span) -> Diagnostic | None:
    for match in re.finditer(r"\\(u[0-9a-fA-F]{4}|.)", text, re.DOTALL):
        if match[1][0] not in _ESCAPES and len(match[1]) != 5:
            shown = match[0].strip() or "\\"
            return error("E005", f"`{shown}` has no meaning in a string", span, help="write `\\\\` for a backslash")
    return None


def _refuse_tab(fragment: Fragment, match: re.Match[str], problems: Diagnostics) -> None:
    """Reported once a file: a file with one tab usually has them on every line."""
    if any(problem.code == "E010" and problem.span.source is fragment.source for problem in problems.found):
        return
    at = match.start() + match.group().index("\t")
    problems.add(error("E010", "a tab cannot stand in a program", fragment.span(at, at + 1), help="use spaces"))


def _too_many(span: Span) -> Diagnostic:
    return error("E009", f"a file may have {MAX_TOKENS} words and signs", span, label="the rest is not read")


def string_value(text: str) -> str:
    """The text that a quoted string or a docstring stands for."""
    quotes = 3 if text.startswith('"""') else 1
    body = text[quotes:-quotes]
    return re.sub(r"\\(u[0-9a-fA-F]{4}|.)", _unescape, body)


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code[1:], 16)) if len(code) == 5 else _ESCAPES[code]


def quoted(value: str) -> str:
    """The string literal of a text, on one line."""
    return '"' + "".join(_escape(char) for char in value) + '"'


def _escape(char: str) -> str:
    for code, meant in _ESCAPES.items():
        if char == meant:
            return "\\" + code
    return char if char.isprintable() or ord(char) > 0xFFFF else f"\\u{ord(char):04x}"


def quoted_block(value: str) -> str:
    """The docstring of a text: on one line if it has one, else between two lines of quotes."""
    escaped = "".join(char if char in '\n"' else _escape(char) for char in value).replace('"""', '\\"""')
    if "\n" in value:
        return f'"""\n{escaped}\n"""'
    return f'"""{escaped[:-1]}\\""""' if escaped.endswith('"') else f'"""{escaped}"""'
