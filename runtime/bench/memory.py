"""The most memory that a step needs."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
from collections.abc import Callable
from pathlib import Path

import torch

from lossc.runtime.backends.pool import POOL

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak(step: Callable[[], None], device: torch.device) -> int:
    """Bytes above what was held before, at the worst moment of a step."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    _give_back()
    _forget_peak()
    before = _resident("VmRSS")
    step()
    return max(0, _resident("VmHWM") - before)


def _give_back() -> None:
    """Free memory goes back to the system, so that it counts when it is used again."""
    POOL.release()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        _RESET.write_text("5", encoding="ascii")


def _resident(field: str) -> int:
    """A line of the process's status in bytes; elsewhere than on Linux the highest mark of all time."""
    if not _STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024
