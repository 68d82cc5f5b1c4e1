"""`lossc bench`: an objective on its backends against what a user would write."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lossc.grammar.diagnostics import Diagnostic, LosscError, error
from lossc.runtime.cli.options import SetOption, command_span, overrides, parse_sizes, program_of, require_matplotlib

if TYPE_CHECKING:
    from lossc.runtime.bench import Note, Row

_EPILOG = """Example: `lossc bench benchmarks/o3_ce_smoothing_z_entropy.loss --sizes v=32000,b=4,t=256 --chart o3.png`"""


def register(application: typer.Typer) -> None:
    application.command("bench", epilog=_EPILOG)(bench)


def bench(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Specs, `.loss` or `.yaml`.")],
    sizes: Annotated[
        str | None, typer.Option("--sizes", metavar="AXIS=N,...", help="Extents of axes; others are small.")
    ] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="fp32, bf16, fp16, or several.")] = "fp32,bf16",
    allocator: Annotated[str, typer.Option("--allocator", help="default, tuned, or both.")] = "default,tuned",
    variants: Annotated[
        str, typer.Option("--variants", help="Of eager, compile, terms, torch, c, again, triton, lce, liger: those to compare.")
    ] = "eager,compile,terms,torch,c",
    path: Annotated[
        str, typer.Option("--path", help="logits: scores are given; linear: a head makes them; or both.")
    ] = "logits",
    features: Annotated[int, typer.Option("--features", min=1, help="Hidden states of a head, for `--path linear`.")] = 1024,
    repeats: Annotated[
        int | None, typer.Option("--repeats", min=1, help="Rounds; the best of each variant counts.", show_default="as fit")
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0, help="What rounds fit in, for each objective, type and allocator.")
    ] = 4.0,
    ignored: Annotated[float, typer.Option("--ignored", min=0, max=1, help="Share of rows that the masks exclude.")] = 0.0,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda.")] = "cpu",
    baselines: Annotated[
        Path | None, typer.Option("--baselines", help="A Python file you trust, with `TERMS` by objective.")
    ] = None,
    chart: Annotated[Path | None, typer.Option("--chart", metavar="PNG", help="Draw the rows as bars.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="The rows as a JSON object.")] = False,
    set: SetOption = None,
) -> None:
    """Measure time, memory, accuracy and compilation of an objective against eager PyTorch and torch.compile."""
    from lossc.runtime.bench import ALLOCATORS, DTYPES, PATHS, VARIANTS, Task, measured
    from lossc.runtime.cli.bench_view import View, print_table

    if chart is not None:
        require_matplotlib(f"--chart {chart}")
    extents, chosen = parse_sizes(sizes), _listed(variants, VARIANTS)
    numbers, memories = _listed(dtype, DTYPES), _listed(allocator, ALLOCATORS)
    known = {file: _known(file, extents, set, alone=len(files) == 1) for file in files}
    tasks = [
        Task(
            file, overrides(set), known[file], number, memory, tuple(chosen), repeats, seconds, device,
            None if baselines is None else str(baselines), ignored, each, features,
        )
        for memory in memories for file in files for each in _listed(path, PATHS) for number in numbers
    ]  # fmt: skip
    view = View(tasks)
    rows = list(view.rows(measured(tasks)))
    if json_output:
        typer.echo(json.dumps({"rows": [row.to_record() for row in rows]}, indent=2))
    elif rows:
        print_table(rows, (f"{name}: {text}" for name, text in view.extents.items()))
    for text in view.left_out:
        print(f"left out  {text}", file=sys.stderr)
    if chart is not None and rows:
        _draw(rows, chart)
    if view.failed:
        raise LosscError([_failure(note) for note in view.failed])


def _known(file: str, extents: dict[str, int], items: list[str] | None, *, alone: bool) -> dict[str, int]:
    """The extents of axes that an objective has; for a single file others are E805."""
    axes = program_of(file, items).axes
    if alone and any(axis not in axes for axis in extents):
        raise LosscError([_unknown(axis, axes) for axis in extents if axis not in axes])
    return {axis: extent for axis, extent in extents.items() if axis in axes}


def _listed(text: str, known: Iterable[str]) -> list[str]:
    found = [item.strip() for item in text.split(",") if item.strip()]
    unknown = [item for item in found if item not in known]
    if unknown or not found:
        raise LosscError([_unknown(item, known) for item in unknown or [text]])
    return list(dict.fromkeys(found))


def _unknown(item: str, known: Iterable[str]) -> Diagnostic:
    from lossc.grammar.suggest import did_you_mean

    help_ = did_you_mean(item, known) or (f"there are {', '.join(sorted(known))}",)
    return error("E805", f"`{item}` is not known here", command_span(item), help=help_)


def _failure(note: Note) -> Diagnostic:
    task = note.task
    help_ = "with smaller `--sizes` it needs less memory; `--variants` leaves some out"
    return error("E808", f"the measurement ended early: {note.text}",
                 command_span(f"{task.file} {task.dtype} {task.allocator}"), help=help_)  # fmt: skip


def _draw(rows: Sequence[Row], path: Path) -> None:
    from lossc.runtime.bench.chart import draw

    draw(rows, path)
