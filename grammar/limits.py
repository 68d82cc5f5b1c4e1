"""How large a program may be: a file from a stranger is refused before it can cost time or memory."""

from __future__ import annotations

from typing import Final

MAX_CHARACTERS: Final = 1_000_000
"""Of a text file, and of all files of the library."""

MAX_YAML_CHARACTERS: Final = 100_000
"""Of a YAML file, whose reader takes longer."""

MAX_TOKENS: Final = 50_000
"""Words, numbers and signs of one file; a line of a program has about ten."""

MAX_DEPTH: Final = 100
"""Of the syntax tree, brackets and operators alike, so that no later pass meets Python's recursion limit."""

MAX_DIGITS: Final = 40
MAX_EXPONENT: Final = 400
"""Of a literal, which is an exact rational."""

MAX_PROBLEMS: Final = 100
"""Reported for one file."""
