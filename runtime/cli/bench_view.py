"""What `lossc bench` shows: its progress while it measures, and the rows as a table."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lossc.runtime.bench import Note, Row, Task


class View:
    """A bar of tasks with what the present one is at; where stderr is no terminal, a line for each step.

    `extents` are those of each objective, `left_out` the variants that could not be measured, `failed` the tasks that ended
    early.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._tasks = list(tasks)
        self._plain = not sys.stderr.isatty()
        self._bar = Progress(
            BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
            console=Console(stderr=True), transient=True, disable=self._plain,
        )  # fmt: skip
        self._line = self._bar.add_task("starting", total=len(self._tasks))
        self.extents: dict[str, str] = {}
        self.left_out: dict[str, None] = {}
        self.failed: list[Note] = []

    def rows(self, events: Iterable[Row | Note]) -> Iterator[Row]:
        """The rows among the events; the notes are shown."""
        with self._bar:
            for event in events:
                if isinstance(event, Row):
                    yield event
                else:
                    self._hear(event)

    def _hear(self, note: Note) -> None:
        match note.kind:
            case "extents":
                self.extents[Path(note.task.file).stem] = note.text
            case "left out":
                self.left_out[f"{Path(note.task.file).stem}: {note.text}"] = None
            case "failed":
                self.failed.append(note)
            case _:
                self._show(note)

    def _show(self, note: Note) -> None:
        task = note.task
        number = self._tasks.index(task)
        text = f"{Path(task.file).stem}  {task.dtype}  {task.allocator} allocator: {note.text}"
        if self._plain:
            print(f"[{number + 1}/{len(self._tasks)}] {text}", file=sys.stderr, flush=True)
        else:
            self._bar.update(self._line, completed=number, description=text)


def print_table(rows: Sequence[Row], extents: Iterable[str]) -> None:
    """The rows, a rule between objectives, types and allocators."""
    from rich.console import Console
    from rich.table import Table

    table = Table("objective", "type", "allocator", "variant", box=None, pad_edge=False, caption="\n".join(extents),
                  caption_justify="left")  # fmt: skip
    for title in ("ms", "x floor", "peak MiB", "gradient error", "cold s"):
        table.add_column(title, justify="right")
    before: tuple[str, ...] = ()
    for row in rows:
        key = (row.objective, row.dtype, row.allocator)
        if before not in ((), key):
            table.add_row()
        table.add_row(
            *(key if key != before else ("", "", "")), row.variant, f"{row.ms:.2f}", f"{row.ms / row.floor_ms:.2f}",
            f"{row.peak_bytes / 2**20:.1f}", "" if row.grad_error is None else f"{row.grad_error:.1e}", f"{row.compile_s:.2f}",
        )  # fmt: skip
        before = key
    console = Console()
    console.width = max(console.width, 120)
    console.print(table)
