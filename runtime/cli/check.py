"""`lossc check`: every problem of every file in one run."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from lossc.grammar.diagnostics import Diagnostic, LosscError
from lossc.grammar.diagnostics.render import visible
from lossc.runtime.cli.options import SetOption, SpecsArgument, check_path, overrides
from lossc.runtime.cli.report import print_problems, problems_as_json, summary


class Format(str, Enum):
    text = "text"
    json = "json"


def register(application: typer.Typer) -> None:
    application.command("check", epilog="Example: `lossc check my.loss --set beta=0.2 --format json`")(check)


def check(
    files: SpecsArgument,
    format: Annotated[Format, typer.Option("--format", help="For people, or a JSON object for programs.")] = Format.text,
    set: SetOption = None,
) -> None:
    """Check specs: names, kinds, axes, domains. Exit status 1 where an error was found."""
    problems: list[Diagnostic] = []
    values = overrides(set)
    for path in files:
        found, uncompiled = _problems(path, values)
        problems += found
        if format is Format.text:
            print_problems(found)
            typer.echo(f"{visible(path)}: {summary(found)}{uncompiled}")
    if format is Format.json:
        typer.echo(problems_as_json(problems))
    if any(problem.severity == "error" for problem in problems):
        raise typer.Exit(1)


def _problems(path: str, values: dict[str, str]) -> tuple[list[Diagnostic], str]:
    """The problems of one file, and a remark on forms that are checked but not compiled yet."""
    try:
        checked = check_path(path, values)
    except LosscError as failure:
        return failure.diagnostics, ""
    uncompiled = checked.program.uncompiled if checked.program else ()
    return checked.problems.sorted(), "; checked, not compiled yet" if uncompiled else ""
