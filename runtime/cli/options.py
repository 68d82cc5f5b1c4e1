"""The options that several commands share, and how specs are found and read."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lossc.grammar.diagnostics import Diagnostic, LosscError, error
from lossc.grammar.source import Source, Span

if TYPE_CHECKING:
    from lossc.compiler.check import Checked
    from lossc.compiler.program import Program

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Give a parameter another value: `--set beta=0.2`. May be repeated."
    ),
]
SpecArgument = Annotated[str, typer.Argument(metavar="FILE", help="A spec, `.loss` or `.yaml`; `-` reads text from stdin.")]
SpecsArgument = Annotated[list[str], typer.Argument(metavar="FILE...", help="Specs, `.loss` or `.yaml`; `-` reads stdin.")]

MAX_BYTES = 1 << 20


def read_source(path: str) -> Source:
    """The text of a file (or of stdin for `-`) with its name; E801 where it cannot be read."""
    try:
        data = sys.stdin.buffer.read(MAX_BYTES + 1) if path == "-" else _read_bytes(Path(path))
        text = data.decode("utf-8")
    except OSError as failure:
        raise LosscError([unreadable(path, failure)]) from None
    except UnicodeDecodeError as failure:
        reason = f"byte {failure.start} is not UTF-8"
        raise LosscError([error("E801", f"cannot read `{path}`: {reason}", command_span(path))]) from None
    return Source("<stdin>" if path == "-" else path, text)


def _read_bytes(path: Path) -> bytes:
    if path.stat().st_size > MAX_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return path.read_bytes()


def unreadable(path: str, failure: OSError) -> Diagnostic:
    """E801 with the file of that folder whose name is closest."""
    help_lines: list[str] = []
    if failure.errno == errno.ENOENT:
        help_lines = _similar_files(Path(path))
    reason = (failure.strerror or str(failure)).lower()
    return error("E801", f"cannot read `{path}`: {reason}", command_span(path), help=help_lines)


def _similar_files(path: Path) -> list[str]:
    from difflib import get_close_matches

    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
    except OSError:
        return []
    close = get_close_matches(path.name, names, n=1)
    return [f"did you mean `{path.parent / close[0]}`?"] if close else []


def command_span(text: str) -> Span:
    """A place on the command line: the argument itself, underlined."""
    source = Source("<command line>", text)
    return Span(source, 0, len(text))


def overrides(items: list[str] | None) -> dict[str, str]:
    """`["beta=0.2"]` as `{"beta": "0.2"}`; E802 for an item of another form."""
    values: dict[str, str] = {}
    for item in items or []:
        name, equals, value = item.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise LosscError([
                error(
                    "E802", f"`--set {item}` is not of the form NAME=VALUE", command_span(item),
                    help="write for example `--set beta=0.2`",
                )
            ])  # fmt: skip
        values[name.strip()] = value.strip()
    return values


def check_path(path: str, items: list[str] | None) -> Checked:
    """Read and check one spec under the overrides of the command line."""
    from lossc.compiler.check import check_source

    return check_source(read_source(path), overrides=overrides(items))


def program_of(path: str, items: list[str] | None) -> Program:
    """The checked objective of a file; all its problems are raised, and a file without an objective is one (E803)."""
    checked = check_path(path, items)
    checked.problems.raise_errors()
    if checked.program is None:
        raise LosscError([
            error(
                "E803", f"`{path}` has no objective", command_span(path),
                help="add `minimize` with at least one term, or check the file with `lossc check`",
            )
        ])  # fmt: skip
    return checked.program
