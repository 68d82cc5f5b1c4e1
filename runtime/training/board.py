"""Readings for TensorBoard, where a run asks for them."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from lossc.runtime.files import reporting_writes
from lossc.runtime.training.extras import require
from lossc.runtime.training.journal import Reading


class Board(Protocol):
    """Takes readings."""

    def add(self, reading: Reading) -> None: ...


class _Silent:
    def add(self, reading: Reading) -> None:
        pass


class _Events:
    """One curve for each quantity and split: `loss/train`, `loss/held_out`, …"""

    def __init__(self, writer: Any, folder: Path) -> None:
        self.writer = writer
        self.folder = folder

    def add(self, reading: Reading) -> None:
        for name, value in reading.values().items():
            with reporting_writes(self.folder):
                self.writer.add_scalar(f"{name}/{reading.split}", value, reading.step)


@contextlib.contextmanager
def opened_board(folder: Path | None, start: int) -> Iterator[Board]:
    """The board in a folder; readings behind step `start` that an earlier process left there are hidden. None: no board."""
    if folder is None:
        yield _Silent()
        return
    require("tensorboard", "tensorboard", "`tensorboard:`")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.utils.tensorboard import SummaryWriter
    with reporting_writes(folder):
        writer = SummaryWriter(str(folder), purge_step=start + 1 if start else None)
    try:
        yield _Events(writer, folder)
    finally:
        writer.close()
