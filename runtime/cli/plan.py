"""`lossc plan`: the statistic table of an objective, and what remains vocabulary-sized."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from lossc.grammar.diagnostics.render import visible
from lossc.runtime.cli.options import SetOption, SpecArgument, extents_of, program_of
from lossc.runtime.cli.report import as_json


def register(application: typer.Typer) -> None:
    application.command("plan", epilog="Example: `lossc plan my.loss --sizes b=8,t=1024,v=128256`")(plan)


def plan(
    file: SpecArgument,
    sizes: Annotated[
        str | None, typer.Option("--sizes", metavar="AXIS=N,...", help="Extents of axes, to print bytes.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="The same as a JSON object.")] = False,
    set: SetOption = None,
) -> None:
    """Show how the objective is computed: passes, statistics per row, what is fused and what is not."""
    from lossc.compiler.plan import pairs_plans
    from lossc.compiler.plan import plan as planned
    from lossc.compiler.settle import settle
    from lossc.compiler.simplify import simplify

    program = program_of(file, set)
    extents = extents_of(program, sizes)
    settled = settle(program)
    table = replace(planned(simplify(settled).program, extents), pairs=tuple(pairs_plans(settled)))
    typer.echo(as_json(table.to_record()) if json_output else visible(table.render()))
