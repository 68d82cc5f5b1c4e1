"""`lossc compile`: the objective as a readable Python module that needs torch and nothing else, or the C compiler besides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lossc.grammar.diagnostics import LosscError, error
from lossc.runtime.cli.options import AllowOption, SetOption, SpecArgument, command_span, parse_sizes, program_of
from lossc.runtime.files import write_text


def register(application: typer.Typer) -> None:
    application.command("compile", epilog="Example: `lossc compile my.loss -o loss.py`")(compile_spec)


def compile_spec(
    file: SpecArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PATH", help="Where to write the module.")],
    backend: Annotated[
        str, typer.Option("--backend", metavar="reference|c", help="Torch operations, or C kernels.")
    ] = "reference",
    sizes: Annotated[
        str | None,
        typer.Option("--sizes", metavar="AXIS=N,...", help="Extents of axes of states, multipliers, learned parameters."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    allow: AllowOption = None,
    set: SetOption = None,
) -> None:
    """Write the objective as a standalone module (torch only, or C kernels)."""
    program, extents = program_of(file, set), parse_sizes(sizes)
    if backend not in ("reference", "c"):
        raise LosscError([
            error("E716", f"`lossc compile` writes no modules for `{backend}`", command_span(f"--backend {backend}"),
                  help="`--backend reference` or `--backend c`")
        ])  # fmt: skip
    if output.exists() and not force:
        raise LosscError([
            error("E804", f"`{output}` exists already", command_span(str(output)), help="give `--force` to replace it")
        ])  # fmt: skip
    from lossc.runtime.objective import Objective
    from lossc.runtime.standalone import standalone
    from lossc.runtime.standalone_c import standalone_c

    kernels = backend == "c"
    objective = Objective(program, backend="c" if kernels else "auto", sizes=extents, allow=allow or ())
    write_text(output, standalone_c(objective) if kernels else standalone(objective))
    typer.echo(f"{output}: written; `import {output.stem}` needs torch {'and a C compiler' if kernels else 'only'}")
