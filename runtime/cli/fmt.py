"""`lossc fmt`: one look for every spec, and conversion between the two surfaces."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from lossc.grammar.diagnostics import Diagnostic, LosscError
from lossc.grammar.diagnostics.render import visible
from lossc.runtime.cli.options import SpecsArgument
from lossc.runtime.files import read_source, write_text


class Surface(str, Enum):
    text = "text"
    yaml = "yaml"


def register(application: typer.Typer) -> None:
    application.command("fmt", epilog="Example: `lossc fmt my.loss --to yaml` prints the YAML form.")(fmt)


def fmt(
    files: SpecsArgument,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; status 1 where a file would change.")] = False,
    to: Annotated[Surface | None, typer.Option("--to", help="Print the file in this surface, change nothing.")] = None,
) -> None:
    """Format specs in place; comments stay. `-` and `--to` print instead."""
    from lossc.grammar import format_source

    problems: list[Diagnostic] = []
    changed = False
    for path in files:
        try:
            source = read_source(path)
            text = format_source(source, to.value if to else None)
        except LosscError as failure:
            problems += failure.diagnostics
            continue
        if to or (path == "-" and not check):
            typer.echo(visible(text), nl=False)
        elif text != source.text:
            changed = True
            if not check:
                write_text(Path(path), text)
            typer.echo(f"{visible(path)}: {'would be formatted' if check else 'formatted'}", err=True)
    if problems:
        raise LosscError(problems)
    if check and changed:
        raise typer.Exit(1)
