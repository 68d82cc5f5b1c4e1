"""`lossc compile`: the objective as a readable Python module that needs torch and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lossc.grammar.diagnostics import LosscError, error
from lossc.runtime.cli.options import SetOption, SpecArgument, command_span, program_of
from lossc.runtime.files import write_text


def register(application: typer.Typer) -> None:
    application.command("compile", epilog="Example: `lossc compile my.loss -o loss.py`")(compile_spec)


def compile_spec(
    file: SpecArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PATH", help="Where to write the module.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    set: SetOption = None,
) -> None:
    """Write the objective as a standalone module (torch only)."""
    program = program_of(file, set)
    if output.exists() and not force:
        raise LosscError([
            error("E804", f"`{output}` exists already", command_span(str(output)), help="give `--force` to replace it")
        ])  # fmt: skip
    from lossc.runtime.objective import Objective
    from lossc.runtime.standalone import standalone

    write_text(output, standalone(Objective(program)))
    typer.echo(f"{output}: written; `import {output.stem}` needs torch only")
