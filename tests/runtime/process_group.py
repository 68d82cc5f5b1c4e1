"""The group of processes that a test of several ranks runs in."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import distributed


@contextmanager
def joined(folder: Path, rank: int, size: int) -> Iterator[distributed.ProcessGroup]:
    """The gloo group of `size` processes that meet in `folder`, destroyed at the end.

    `DistributedDataParallel` stands in a cycle of references and holds its group: until the cycle is collected
    the group's threads live on, and if they do when the interpreter ends, torch ends the process by a signal
    (a quarter of all runs of two ranks, of a plain linear model as well).
    """
    distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=size)
    group = distributed.group.WORLD
    assert group is not None
    try:
        yield group
    finally:
        gc.collect()
        distributed.destroy_process_group()
