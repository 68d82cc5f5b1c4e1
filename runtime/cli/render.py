"""`lossc render`: the spec as it is understood, with every default and library binding written out."""

from __future__ import annotations

import typer

from lossc.grammar.diagnostics.render import visible
from lossc.runtime.cli.options import SetOption, SpecArgument, program_of


def register(application: typer.Typer) -> None:
    application.command("render", epilog="Example: `lossc render my.loss --set beta=0.2 > resolved.loss`")(render)


def render(file: SpecArgument, set: SetOption = None) -> None:
    """Print the fully resolved spec: library terms, settings and defaults written out."""
    typer.echo(visible(program_of(file, set).canonical).rstrip("\n"))
