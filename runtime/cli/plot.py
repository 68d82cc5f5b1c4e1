"""`lossc plot`: the shape of an objective and of its gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lossc.grammar.diagnostics import LosscError, error
from lossc.runtime.cli.options import (
    SetOption,
    SpecArgument,
    command_span,
    extents_of,
    overrides,
    program_of,
    require_matplotlib,
)

_EPILOG = """Example: `lossc plot my.loss --along margin --sweep beta=0.1,0.3,1`"""


def register(application: typer.Typer) -> None:
    application.command("plot", epilog=_EPILOG)(plot)


def plot(
    file: SpecArgument,
    along: Annotated[
        str | None, typer.Option("--along", metavar="NAME", help="An input or named quantity; by default the first input.")
    ] = None,
    sweep: Annotated[
        str | None, typer.Option("--sweep", metavar="NAME=V1,V2,...", help="A line for each value of a parameter.")
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option("--at", metavar="NAME=VALUE", help="A number for another tensor: `--at advantage=-1`. May be repeated."),
    ] = None,
    between: Annotated[
        tuple[float, float] | None, typer.Option("--between", metavar="LOW HIGH", help="The range of the entry.")
    ] = None,
    sizes: Annotated[
        str | None, typer.Option("--sizes", metavar="AXIS=N,...", help="Extents of axes; others are 1 or 2.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="PNG", help="The picture.", show_default="OBJECTIVE.png")
    ] = None,
    set: SetOption = None,
) -> None:
    """Draw each term and its gradient along one entry: the first of an input or named quantity, all else neutral."""
    program = program_of(file, set)
    path = output or Path(f"{program.name or 'objective'}.png")
    require_matplotlib(f"--output {path}")
    from lossc.runtime.objective import Objective
    from lossc.runtime.plot import curves
    from lossc.runtime.plot.picture import draw

    objective = Objective(program, backend="reference", total_steps=1)
    along_what, found = curves(
        objective, along, sizes=extents_of(program, sizes), between=between,
        fixed={name: _number(name, value) for name, value in overrides(at, "--at").items()}, sweep=_settings(sweep),
    )  # fmt: skip
    shown = [curve for curve in found if curve.moves]
    if not shown:
        raise LosscError([
            error(
                "E805", f"no term changes along `{along_what}`", command_span(along or file),
                help="`lossc show` says what each term reads; `--along`, `--at` and `--sizes` take another entry",
            )
        ])  # fmt: skip
    draw(shown, along_what, program.name or "objective", path)
    typer.echo(f"picture  {path}")
    for curve in found:
        if not curve.moves:
            typer.echo(f"left out  {curve.term}: it does not change along {along_what}")


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise LosscError([
            error(
                "E802", f"`{text}` is not a number", command_span(f"--at {name}={text}"),
                help="write for example `--at advantage=-1`",
            )
        ]) from None  # fmt: skip


def _settings(sweep: str | None) -> tuple[str, list[float | str]] | None:
    """`"beta=0.1,0.3"` as a name and its values; a choice between names stays text."""
    if sweep is None:
        return None
    ((name, text),) = overrides([sweep], "--sweep").items()
    return name, [_setting(value.strip()) for value in text.split(",") if value.strip()]


def _setting(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
