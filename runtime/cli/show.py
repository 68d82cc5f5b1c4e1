"""`lossc show`: the equation, the table of terms, and what the compiler filled in, rewrote and dropped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from lossc.grammar.diagnostics.render import visible
from lossc.runtime.cli.options import SetOption, SpecArgument, program_of

if TYPE_CHECKING:
    from rich.table import Table

    from lossc.compiler.program import Part, Program, TermInfo
    from lossc.compiler.simplify import Simplified


_PIPE_WIDTH = 120


def register(application: typer.Typer) -> None:
    application.command("show", epilog="Example: `lossc show my.loss --latex`")(show)


def show(
    file: SpecArgument,
    latex: Annotated[bool, typer.Option("--latex", help="Print the equation in LaTeX, nothing else.")] = False,
    set: SetOption = None,
) -> None:
    """Show an objective: equation, terms, bindings, rewrites, what was pruned."""
    from lossc.compiler.display.equation import latex_equation, plain_equation

    program = program_of(file, set)
    if latex:
        typer.echo(latex_equation(program))
        return
    from rich.console import Console

    from lossc.compiler.settle import settle
    from lossc.compiler.simplify import simplify

    simplified = simplify(settle(program))
    console = Console(highlight=False, soft_wrap=True, markup=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    console.print(program.name, style="bold")
    if "about" in program.meta:
        console.print(visible(program.meta["about"]))
    console.print(f"\n{plain_equation(program)}\n")
    console.print(_table(simplified.program))
    for line in _remarks(program, simplified):
        console.print(line)


def _table(program: Program) -> Table:
    """One row for each summand of each term and monitor, in normal form."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("term", "weight", "reduction", "reads", "axes", "domain"):
        table.add_column(heading, overflow="fold")
    for group in (program.terms, program.monitors):
        for term in group:
            for number, part in enumerate(term.parts):
                table.add_row(term.name if number == 0 else "", *_cells(program, term, part))
        table.add_section()
    return table


def _cells(program: Program, term: TermInfo, part: Part) -> tuple[str, ...]:
    from lossc.compiler.core import Input, walk
    from lossc.compiler.display import unicode

    body = part.body if part.body is not None else part.numerator
    names = {node.name for node in walk(part.numerator) if isinstance(node, Input)}
    weight = unicode(part.coefficient)
    return (
        weight if term.sign > 0 else f"−({weight})",
        _reduction(part),
        ", ".join(name for name in program.tensors if name in names) or "–",
        ", ".join(axis for axis in program.axes if axis in body.axes) or "–",
        str(term.value.domain),
    )


def _reduction(part: Part) -> str:
    over = ", ".join(part.over)
    match part.form:
        case "ratio":
            return f"mean over {over}"
        case "sum":
            return f"sum over {over}"
        case "once":
            return "once a step"
        case _:
            return "depends on how the batch is split"


def _remarks(program: Program, simplified: Simplified) -> Iterator[str]:
    params = [f"{name} = {_value(program, name)}" for name in program.params]
    if params:
        yield f"parameters: {', '.join(params)}"
    for binding in program.bindings:
        yield f"filled in: {binding.term}({binding.argument} = {binding.value})"
    for fired in simplified.fired:
        yield f"rewritten: {fired.rule} ({fired.why}){f', {fired.count} times' if fired.count > 1 else ''}"
    for pruned in simplified.pruned:
        yield f"dropped: `{pruned.text}` of {pruned.term}, since its weight is 0"
    for problem in program.uncompiled:
        yield f"checked, not compiled yet: {problem.message}"


def _value(program: Program, name: str) -> str:
    from lossc.compiler.display import core_text

    info = program.params[name]
    if info.kind.name == "choice" and info.default is not None:
        number = int(core_text(info.default))
        others = [choice for at, choice in enumerate(info.kind.choices) if at != number]
        return f"{info.kind.choices[number]} (or {', '.join(others)})"
    return "–" if info.default is None else core_text(info.default)
