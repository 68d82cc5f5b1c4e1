"""Short ways to read a text in tests."""

from __future__ import annotations

from typing import Any

from lossc.grammar import parse, parse_expression
from lossc.grammar.diagnostics import Diagnostic, Diagnostics
from lossc.grammar.source import Source
from lossc.grammar.syntax import Expr, File


def read(text: str, name: str = "test.loss") -> File:
    problems = Diagnostics()
    file = parse(Source(name, text), problems)
    problems.raise_errors()
    return file


def only(text: str) -> Any:
    """The one declaration of a text."""
    (item,) = read(text).items
    return item


def expr(text: str) -> Expr:
    problems = Diagnostics()
    expression: Expr = parse_expression(Source("<test>", text), problems)
    problems.raise_errors()
    return expression


def problems_of(text: str, name: str = "test.loss") -> list[Diagnostic]:
    problems = Diagnostics()
    parse(Source(name, text), problems)
    return problems.sorted()
