"""`lossc plan`: the statistic table of an objective, and what remains vocabulary-sized."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated

import typer

from lossc.grammar.diagnostics import Diagnostic, LosscError, error
from lossc.runtime.cli.options import SetOption, SpecArgument, command_span, program_of


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

    extents = parse_sizes(sizes)
    program = program_of(file, set)
    unknown = [name for name in extents if name not in program.axes]
    if unknown:
        raise LosscError([_unknown_axis(name, program.axes) for name in unknown])
    settled = settle(program)
    table = replace(planned(simplify(settled).program, extents), pairs=tuple(pairs_plans(settled)))
    typer.echo(json.dumps(table.to_record(), indent=2, ensure_ascii=False) if json_output else table.render())


def parse_sizes(text: str | None) -> dict[str, int]:
    """`"b=8,t=1024"` as `{"b": 8, "t": 1024}`; E802 for anything else."""
    extents: dict[str, int] = {}
    for item in filter(None, (text or "").split(",")):
        name, _, value = item.partition("=")
        if not name.strip() or not value.strip().isdecimal() or not 0 < int(value) < 1 << 40:
            raise LosscError([
                error(
                    "E802", f"`{item}` is not of the form AXIS=N", command_span(text or ""),
                    help="write for example `--sizes b=8,t=1024`",
                )
            ])  # fmt: skip
        extents[name.strip()] = int(value)
    return extents


def _unknown_axis(name: str, axes: Iterable[str]) -> Diagnostic:
    from lossc.compiler.suggest import did_you_mean

    known = sorted(axes)
    return error(
        "E805", f"`{name}` is not an axis of this objective", command_span(name),
        help=did_you_mean(name, known) or (f"its axes are {', '.join(known)}",),
    )  # fmt: skip
