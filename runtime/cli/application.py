"""The commands in the order of `lossc --help`."""

from __future__ import annotations

from typing import Annotated

import typer

import lossc
from lossc.runtime.cli import bench, catalogue, check, compiling, fmt, new, plan, plot, render, schema, show, train

application = typer.Typer(
    name="lossc",
    help="The compiler for training objectives: write the loss as an equation, train with it anywhere.",
    epilog="Start with `lossc new classes`, then `lossc check` and `lossc train`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lossc {lossc.__version__}")
        raise typer.Exit


@application.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


for _module in (check, fmt, show, plot, plan, render, catalogue, schema, new, compiling, bench, train):
    _module.register(application)
