"""The group of processes that a test of several ranks runs in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import distributed

from lossc.runtime.training.processes import leave_group


@contextmanager
def joined(folder: Path, rank: int, size: int) -> Iterator[distributed.ProcessGroup]:
    """The gloo group of `size` processes that meet in `folder`; they leave it at the end."""
    distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=size)
    group = distributed.group.WORLD
    assert group is not None
    try:
        yield group
    finally:
        leave_group()
