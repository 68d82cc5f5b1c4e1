"""Reading and printing programs: text and YAML to one syntax tree and back."""

from __future__ import annotations

from lossc.grammar.diagnostics import Diagnostics
from lossc.grammar.parser import parse_expression, parse_text
from lossc.grammar.source import Source
from lossc.grammar.syntax import File

__all__ = ["parse", "parse_expression"]


def parse(source: Source, problems: Diagnostics) -> File:
    """The syntax tree of a file; everything that cannot be read is left out and reported in `problems`."""
    return parse_text(source, problems)
