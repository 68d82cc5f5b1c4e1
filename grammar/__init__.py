"""Reading and printing programs: text and YAML to one syntax tree and back."""

from __future__ import annotations

from typing import Literal

from lossc.grammar.diagnostics import Diagnostics
from lossc.grammar.parser import parse_expression, parse_text
from lossc.grammar.printer import print_text
from lossc.grammar.source import Source
from lossc.grammar.syntax import File

__all__ = ["Surface", "format_source", "parse", "parse_expression", "print_file", "surface"]

Surface = Literal["text", "yaml"]


def surface(name: str) -> Surface:
    """The surface of a file, by the end of its name: `.yaml` and `.yml` are YAML, anything else is text."""
    return "yaml" if name.lower().endswith((".yaml", ".yml")) else "text"


def parse(source: Source, problems: Diagnostics) -> File:
    """The syntax tree of a file; everything that cannot be read is left out and reported in `problems`."""
    if surface(source.name) == "text":
        return parse_text(source, problems)
    from lossc.grammar.yaml_reader import parse_yaml

    return parse_yaml(source, problems)


def print_file(file: File, to: Surface) -> str:
    """A file in the one style of a surface; reading the result gives an equal file."""
    if to == "text":
        return print_text(file)
    from lossc.grammar.yaml_printer import print_yaml

    return print_yaml(file)


def format_source(source: Source, to: Surface | None = None) -> str:
    """The source formatted, in its own surface or another; raises LosscError where it cannot be read."""
    problems = Diagnostics()
    file = parse(source, problems)
    problems.raise_errors()
    target = to or surface(source.name)
    printed = print_file(file, target)
    parse(Source(f"<formatted>.{'yaml' if target == 'yaml' else 'loss'}", printed), problems)
    problems.raise_errors()
    return printed
