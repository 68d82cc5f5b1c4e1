"""What a run needs besides its run file, and what became of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from lossc.runtime.training.folder import RunFolder
from lossc.runtime.training.journal import Journal
from lossc.runtime.training.objective import Spec
from lossc.runtime.training.processes import local_rank, world_size
from lossc.runtime.training.runfile import Run
from lossc.runtime.training.tokenizer import Tokenizer


@dataclass(frozen=True)
class Session:
    """Everything that a run needs besides its run file."""

    run: Run
    spec: Spec
    base: Path
    """The folder from which relative paths of the run count."""
    folder: RunFolder
    text: str
    """The run file as it was written."""
    console: Console
    resume: bool = False
    allow_python: bool = False
    allow: tuple[str, ...] = ()
    """The modules from which the objective may import functions."""
    tokenizer: Tokenizer | None = None
    """The tokenizer of the run that this one belongs to."""


@dataclass
class Outcome:
    """What became of a run."""

    folder: RunFolder
    steps: int
    total: int
    journal: Journal
    interrupted: bool = False


def total_steps(run: Run, rows: int) -> int:
    """The optimiser steps of a whole run."""
    if run.length.steps is not None:
        return run.length.steps
    batches = math.ceil(rows / (run.batch.size * world_size()))
    return max(1, math.ceil(float(run.length.epochs or 1) * math.ceil(batches / run.batch.accumulate)))


def device_of(run: Run) -> str:
    return f"cuda:{local_rank()}" if run.device == "auto" and torch.cuda.is_available() else "cpu"
