"""`lossc new`: a commented spec and run file to start from, for each setting of the library."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from lossc.grammar.diagnostics import LosscError, error
from lossc.runtime.cli.options import command_span
from lossc.runtime.files import write_text


def register(application: typer.Typer) -> None:
    application.command("new", epilog="Example: `lossc new pairs --dir my_run`")(new)


def starters() -> list[str]:
    """The settings that have a starter: one pair of files each under `specs/starters`."""
    folder = files("lossc.specs").joinpath("starters")
    return sorted(entry.name.removesuffix(".loss") for entry in folder.iterdir() if entry.name.endswith(".loss"))


def new(
    setting: Annotated[str, typer.Argument(metavar="SETTING", help="A setting of `lossc list --settings`.")],
    directory: Annotated[Path, typer.Option("--dir", metavar="PATH", help="Where to write the two files.")] = Path(),
) -> None:
    """Write a commented starter: SETTING.loss and SETTING.run.yaml."""
    known = starters()
    if setting not in known:
        from lossc.grammar.suggest import did_you_mean

        help_ = did_you_mean(setting, known) or (f"the settings are {', '.join(known)}",)
        raise LosscError([error("E805", f"there is no setting `{setting}`", command_span(setting), help=help_)])
    names = [f"{setting}.loss", f"{setting}.run.yaml"]
    for name in names:
        if (directory / name).exists():
            path = str(directory / name)
            help_text = "choose another folder with `--dir`"
            raise LosscError([error("E804", f"`{path}` exists already", command_span(path), help=help_text)])
    for name in names:
        write_text(directory / name, files("lossc.specs").joinpath("starters", name).read_text(encoding="utf-8"))
        typer.echo(f"{directory / name}: written")
    typer.echo(f"\nnext: lossc check {directory / names[0]}\n      lossc train {directory / names[1]}")
