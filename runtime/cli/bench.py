"""`lossc bench`: an objective on its backends against what a user would write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lossc.grammar.diagnostics import Diagnostic, LosscError, error
from lossc.runtime.cli.options import SetOption, SpecsArgument, command_span, overrides, program_of
from lossc.runtime.cli.plan import parse_sizes

if TYPE_CHECKING:
    from lossc.runtime.bench import Row, Task

_EPILOG = """Example: `lossc bench benchmarks/o3_ce_smoothing_z_entropy.loss --sizes v=32000,b=4,t=256 --chart o3.png`"""


def register(application: typer.Typer) -> None:
    application.command("bench", epilog=_EPILOG)(bench)


def bench(
    files: SpecsArgument,
    sizes: Annotated[
        str | None, typer.Option("--sizes", metavar="AXIS=N,...", help="Extents of axes; others are small.")
    ] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="fp32, bf16, fp16, or several.")] = "fp32,bf16",
    allocator: Annotated[str, typer.Option("--allocator", help="default, tuned, or both.")] = "default,tuned",
    variants: Annotated[
        str, typer.Option("--variants", help="Of eager, compile, terms, torch, c: those to compare.")
    ] = "eager,compile,terms,torch,c",
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Rounds; the best of each variant counts.")] = 7,
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
    from lossc.runtime.bench import ALLOCATORS, DTYPES, VARIANTS, Task, measured

    extents = parse_sizes(sizes)
    chosen = {"--dtype": _listed(dtype, DTYPES), "--allocator": _listed(allocator, ALLOCATORS),
              "--variants": _listed(variants, VARIANTS)}  # fmt: skip
    tasks: list[Task] = []
    for file in files:
        axes = program_of(file, set).axes
        known = {axis: extent for axis, extent in extents.items() if axis in axes}
        if len(files) == 1 and len(known) < len(extents):
            raise LosscError([_unknown(axis, axes) for axis in extents if axis not in axes])
        for number in chosen["--dtype"]:
            for memory in chosen["--allocator"]:
                tasks.append(Task(
                    file, overrides(set), known, number, memory, tuple(chosen["--variants"]), repeats, device,
                    None if baselines is None else str(baselines), ignored,
                ))  # fmt: skip
    with _View(len(tasks)) as view:
        rows = list(measured(tasks, view))
    if chart is not None:
        _draw(rows, chart)
    if json_output:
        typer.echo(json.dumps({"rows": [row.to_record() for row in rows]}, indent=2))
    else:
        _print(rows)


def _listed(text: str, known: Iterable[str]) -> list[str]:
    found = [item.strip() for item in text.split(",") if item.strip()]
    unknown = [item for item in found if item not in known]
    if unknown or not found:
        raise LosscError([_unknown(item, known) for item in unknown or [text]])
    return found


def _unknown(item: str, known: Iterable[str]) -> Diagnostic:
    from lossc.compiler.suggest import did_you_mean

    help_ = did_you_mean(item, known) or (f"there are {', '.join(sorted(known))}",)
    return error("E805", f"`{item}` is not known here", command_span(item), help=help_)


# ------------------------------------------------------------------------------------------------ what is shown


class _View:
    """A bar of processes with what the present one is at; nothing where the output is not a terminal."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(stderr=True)
        self._bar = Progress(
            BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=total)
        self._seen: list[Task] = []

    def __enter__(self) -> _View:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, task: Task, text: str) -> None:
        if task not in self._seen:
            self._seen.append(task)
        label = f"{Path(task.file).stem}  {task.dtype}  {task.allocator}: {text}"
        self._bar.update(self._task, completed=len(self._seen) - 1, description=label)


def _print(rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("objective", "type", "allocator", "variant", box=None, pad_edge=False)
    for title in ("ms", "x floor", "peak MiB", "gradient error", "cold s"):
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(
            row.objective, row.dtype, row.allocator, row.variant, f"{row.ms:.2f}", f"{row.ms / row.floor_ms:.2f}",
            f"{row.peak_bytes / 2**20:.0f}", f"{row.grad_error:.1e}", f"{row.compile_s:.2f}",
        )  # fmt: skip
    console = Console()
    console.width = max(console.width, 120)
    console.print(table)


def _draw(rows: Sequence[Row], path: Path) -> None:
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise LosscError([
            error(
                "E850", "a chart needs matplotlib", command_span(f"--chart {path}"),
                help="install it with `pip install 'lossc[train]'`",
            )
        ])  # fmt: skip
    from lossc.runtime.bench.chart import draw

    draw(rows, path)
