"""What the functions that build the syntax tree have in common: reading the parts of a rule.

A part is a `Token`, a node, or a `Group`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, cast

from lossc.grammar.diagnostics import Diagnostic, error
from lossc.grammar.source import Span
from lossc.grammar.syntax import Node
from lossc.grammar.tokens import NAME, SIGN, Token

Part: TypeAlias = Any
N = TypeVar("N", bound=Node)


class MistakeError(Exception):
    """What was written has the right form and cannot mean anything all the same."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


@dataclass(frozen=True)
class Group:
    """A part of a declaration that is no node: `sharing (a, b)`, `per b by id`, the formals of a signature."""

    kind: str
    span: Span
    parts: tuple[Any, ...]


def span_of(parts: list[Part]) -> Span:
    return cast(Span, parts[0].span.to(parts[-1].span))


def names_of(parts: list[Part]) -> tuple[str, ...]:
    """The names of a list, its first part (a keyword or bracket) left out."""
    return tuple(declared(part) for part in parts[1:] if part.kind == NAME)


def is_word(part: Part, *words: str) -> bool:
    return isinstance(part, Token) and part.kind in (NAME, SIGN) and part.text in words


def nodes_of(parts: list[Part], kind: type[N]) -> tuple[N, ...]:
    return tuple(part for part in parts if isinstance(part, kind))


def only(parts: list[Part], kind: type[N]) -> N | None:
    return next(iter(nodes_of(parts, kind)), None)


def group_of(parts: list[Part], kind: str) -> Group | None:
    return next((part for part in parts if isinstance(part, Group) and part.kind == kind), None)


def declared(token: Token) -> str:
    """A name that is being declared: one word without dots or primes."""
    if "." in token.text or "'" in token.text:
        what = "a dot" if "." in token.text else "a prime"
        raise MistakeError(
            error("E017", f"`{token.text}` is declared here, and a declared name has no dot and no prime",
                  token.span, label=f"{what} here", help=_plain_name(token.text))
        )  # fmt: skip
    return token.text


def _plain_name(text: str) -> str:
    return f"write `{text.replace('.', '_').replace(chr(39), '_prime')}`"


def unprimed(token: Token) -> str:
    """A name that is used where a derivative cannot stand; it may be dotted."""
    if "'" in token.text:
        help = f"write `{token.text.rstrip(chr(39))}`"
        raise MistakeError(error("E017", "only a term has a derivative", token.span, help=help))
    return token.text
