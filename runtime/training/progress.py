"""What a person sees while a run goes on: a bar with the loss and each term, or a line now and then in a log."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lossc.runtime.training.journal import Reading

_LINES = 10
"""Lines of a whole run where the output is not a terminal."""


class ProgressView:
    """Follows the steps of a run on a console."""

    def __init__(self, console: Console, total: int, done: int = 0) -> None:
        self.console = console
        self.total = total
        self.every = max(1, total // _LINES)
        self.live = console.is_terminal
        self._bar = Progress(
            TextColumn("[bold]step"), BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.description}"),
            TimeRemainingColumn(), console=console, transient=True, disable=not self.live,
        )  # fmt: skip
        self._task: TaskID = self._bar.add_task("", total=total, completed=done)

    def __enter__(self) -> ProgressView:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self, reading: Reading) -> None:
        text = "  ".join(f"{name} {value:.4g}" for name, value in reading.values().items())
        self._bar.update(self._task, completed=reading.step, description=text)
        if not self.live and reading.step % self.every == 0:
            self.console.print(f"step {reading.step}/{self.total}  {text}", highlight=False, soft_wrap=True)
