"""The options that several commands share, and how specs are found and read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from lossc.grammar.diagnostics import Diagnostic, LosscError, error
from lossc.grammar.source import Source, Span
from lossc.runtime.files import read_source

if TYPE_CHECKING:
    from lossc.compiler.check import Checked
    from lossc.compiler.program import Program

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Give a parameter another value: `--set beta=0.2`. May be repeated."
    ),
]
AllowOption = Annotated[
    list[str] | None,
    typer.Option("--allow", metavar="MODULE", help="A module whose functions the spec may call by `extern`. May be repeated."),
]
SpecArgument = Annotated[str, typer.Argument(metavar="FILE", help="A spec, `.loss` or `.yaml`; `-` reads text from stdin.")]
SpecsArgument = Annotated[list[str], typer.Argument(metavar="FILE...", help="Specs, `.loss` or `.yaml`; `-` reads stdin.")]


def command_span(text: str) -> Span:
    """A place on the command line: the argument itself, underlined."""
    source = Source("<command line>", text)
    return Span(source, 0, len(text))


def overrides(items: list[str] | None, option: str = "--set") -> dict[str, str]:
    """`["beta=0.2"]` as `{"beta": "0.2"}`; E802 for an item of another form."""
    values: dict[str, str] = {}
    for item in items or []:
        name, equals, value = item.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise LosscError([
                error(
                    "E802", f"`{option} {item}` is not of the form NAME=VALUE", command_span(item),
                    help=f"write for example `{option} beta=0.2`",
                )
            ])  # fmt: skip
        values[name.strip()] = value.strip()
    return values


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


def extents_of(program: Program, text: str | None) -> dict[str, int]:
    """The same for axes that an objective has; E805 for others."""
    extents = parse_sizes(text)
    unknown = [name for name in extents if name not in program.axes]
    if unknown:
        raise LosscError([_unknown_axis(name, program.axes) for name in unknown])
    return extents


def _unknown_axis(name: str, axes: Iterable[str]) -> Diagnostic:
    from lossc.grammar.suggest import did_you_mean

    known = sorted(axes)
    return error(
        "E805", f"`{name}` is not an axis of this objective", command_span(name),
        help=did_you_mean(name, known) or (f"its axes are {', '.join(known)}",),
    )  # fmt: skip


def require_matplotlib(option: str) -> None:
    """E850 where pictures cannot be drawn."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise LosscError([
            error(
                "E850", "a picture needs matplotlib", command_span(option),
                help="install it with `pip install 'lossc[train]'`",
            )
        ])  # fmt: skip


def check_path(path: str, values: dict[str, str]) -> Checked:
    """Read and check one spec under other values of its parameters."""
    from lossc.compiler.check import check_source

    return check_source(read_source(path), overrides=values)


def program_of(path: str, items: list[str] | None) -> Program:
    """The checked objective of a file; all its problems are raised, and a file without an objective is one (E803)."""
    checked = check_path(path, overrides(items))
    checked.problems.raise_errors()
    if checked.program is None:
        raise LosscError([
            error(
                "E803", f"`{path}` has no objective", command_span(path),
                help="add `minimize` with at least one term, or check the file with `lossc check`",
            )
        ])  # fmt: skip
    return checked.program
