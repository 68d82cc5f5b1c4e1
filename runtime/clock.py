"""The clock of a run: how many optimiser steps are done, and out of how many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lossc.compiler.core import RUN
from lossc.runtime.arguments import MOST, brief
from lossc.runtime.messages import fail


class Clock:
    """`step` counts from 0.

    Values of the run are tensors updated in place, so that a step does not recompile anything.
    """

    def __init__(self) -> None:
        self.step = 0
        self.total: int | None = None
        self._step = torch.zeros((), dtype=torch.float64)
        self._progress = torch.zeros((), dtype=torch.float64)

    def advance(self) -> None:
        """Counts one more step."""
        self.go_to(self.step + 1)

    def go_to(self, step: int, total: int | None = None) -> None:
        """Sets the step; a total of None leaves the length of the run unchanged."""
        self.step = step
        self.total = self.total if total is None else total
        self._step.fill_(step)
        self._progress.fill_(min(step / self.total, 1.0) if self.total else 0.0)

    def value(self, name: str) -> Tensor:
        """The value of `run:step`, or of `run:progress`, which needs the length of the run."""
        if name == f"{RUN}step":
            return self._step
        if self.total is None:
            help_ = "set `objective.total_steps = …`, or load with `total_steps=…`"
            raise fail("E731", "`progress` needs the number of steps of the run", help=help_)
        return self._progress

    def record(self) -> dict[str, Any]:
        """The state to be saved."""
        return {"step": self.step, "total_steps": self.total}

    def restore(self, record: Mapping[str, Any]) -> None:
        """Restores a saved state; the length of the run is kept where none was saved."""
        self.go_to(int(record.get("step", 0)), record.get("total_steps"))


def checked_total(steps: object) -> int:
    """A number of steps, at least 1. Raises E731 for anything else."""
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps < MOST:
        raise fail("E731", "the number of steps of a run is a whole number, at least 1", found=brief(steps))
    return steps
