"""Both surfaces print and read every tree without loss."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from tests.grammar.strategies import expressions, files, types

from lossc.grammar import parse, parse_expression, print_file
from lossc.grammar.diagnostics import Diagnostics
from lossc.grammar.printer import print_expr, print_type
from lossc.grammar.source import Source
from lossc.grammar.syntax import BLANK, Block, Declaration, Expr, File, Setting, Term, Type

quick = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))


def read(text: str, name: str = "test.loss") -> File:
    problems = Diagnostics()
    file = parse(Source(name, text), problems)
    problems.raise_errors()
    return file


def comments_of(file: File) -> list[str]:
    """Every comment of a file, sorted."""
    found = [*file.comments]
    stack: list[Declaration] = [*file.items]
    while stack:
        item = stack.pop()
        found += [*item.comments, *([] if item.trailing is None else [item.trailing])]
        match item:
            case Block(entries=inner) | Setting(items=inner) | Term(lets=inner):
                stack += inner
    return sorted(text for text in found if text != BLANK)


@quick
@given(expressions)
def test_an_expression_is_read_as_it_was_printed(expression: Expr) -> None:
    problems = Diagnostics()
    assert parse_expression(Source("<test>", print_expr(expression)), problems) == expression
    assert not problems.found


@quick
@given(types)
def test_a_kind_is_read_as_it_was_printed(kind: Type) -> None:
    problems = Diagnostics()
    assert parse_expression(Source("<test>", print_type(kind)), problems, "type") == kind
    assert not problems.found


@quick
@given(files)
def test_text_is_read_as_it_was_printed(file: File) -> None:
    text = print_file(file, "text")
    again = read(text)
    assert again.items == file.items
    assert print_file(again, "text") == text
    assert comments_of(again) == comments_of(file)


@quick
@given(files)
def test_text_to_yaml_to_text_is_the_same_file(file: File) -> None:
    original = read(print_file(file, "text"))
    written = print_file(original, "yaml")
    from_yaml = read(written, "test.yaml")
    assert from_yaml == original
    assert print_file(from_yaml, "yaml") == written
    assert comments_of(from_yaml) == comments_of(original)
    back = read(print_file(from_yaml, "text"))
    assert back == original
    assert comments_of(back) == comments_of(original)
