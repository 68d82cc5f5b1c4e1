"""What can go wrong while tensors are written, said plainly, with what is still there."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from lossc.grammar.diagnostics import LosscError
from lossc.runtime.files import write_problem
from lossc.runtime.training.folder import RunFolder

_NO_SPACE = ("No space left", "os error 28", "os error 27", "File too large", "file write failed", "unexpected pos")
"""How safetensors and torch say that a disk is full or a file too large; neither raises OSError."""


@contextlib.contextmanager
def saving(folder: RunFolder, target: Path) -> Iterator[None]:
    """Around what writes `target`: removes the half of it, and reports E831 or E830 with the checkpoints that remain."""
    try:
        yield
    except Exception as failure:
        folder.clear_staging()
        cause = _as_write_failure(failure)
        if cause is None:
            raise
        problem = write_problem(target, cause)
        raise LosscError([replace(problem, help=(*problem.help, kept_checkpoints(folder)))]) from failure


def _as_write_failure(failure: Exception) -> OSError | None:
    if isinstance(failure, OSError):
        return failure
    full = any(text in str(failure) for text in _NO_SPACE)
    return OSError(errno.ENOSPC, "no space left") if full else None


def kept_checkpoints(folder: RunFolder) -> str:
    """`the checkpoints of steps 100 and 200 are whole`."""
    steps = folder.steps()
    if not steps:
        return "no checkpoint had been saved before"
    return f"the checkpoint of step {steps[-1]} is whole; `--resume` continues from there"
