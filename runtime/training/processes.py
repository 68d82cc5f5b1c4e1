"""The processes of a run: what the launcher (torchrun, accelerate) says of them."""

from __future__ import annotations

import gc
import os


def world_size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process is the one that writes and prints."""
    return int(os.environ.get("RANK", "0")) == 0


def local_rank() -> int:
    """The number of this process on its machine, which is that of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def leave_group() -> None:
    """Ends what the processes talk through, once nothing of the run holds it.

    `DistributedDataParallel` stands in a cycle of references; were its group still there when the interpreter ends, torch
    could end the process by a signal, and the launcher would report a run that is complete as failed.
    """
    from torch import distributed

    gc.collect()
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
