"""What `auto` runs: by size, from the measured table `measured.json`, which `benchmarks/thresholds.py` writes.

The first backend of a device's list is taken whose sizes are reached and which is there; below all of them the reference,
whose single operations cost less than the calls of the others. On devices that have not been measured `torch` is taken
where memory matters.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from lossc.compiler.emission import Procedure
from lossc.compiler.table import Table
from lossc.runtime.backends.c import Compiled
from lossc.runtime.backends.fused import Fused, formed
from lossc.runtime.backends.once import transforming
from lossc.runtime.backends.reference import Executable
from lossc.runtime.backends.seam import Environment, Seam, Weigh, Weights
from lossc.runtime.linear import Linear
from lossc.runtime.backends.toolchain import ToolchainError, compiler
from lossc.runtime.messages import LosscWarning

FILE = Path(__file__).parent / "measured.json"


@dataclass(frozen=True)
class Threshold:
    """A backend is taken from `entries` of the widest stream on, if there are at least `classes`."""

    backend: str
    entries: int
    classes: int


@cache
def thresholds() -> dict[str, tuple[Threshold, ...]]:
    """The committed table, by device."""
    record = json.loads(FILE.read_text(encoding="utf-8"))
    return {device: tuple(Threshold(**entry) for entry in record[device]) for device in ("cpu", "other")}


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def candidates(device: str) -> list[tuple[str, int, int]]:
    """The thresholds of a device; what a trace needs of them is a constant of it."""
    return [(each.backend, each.entries, each.classes) for each in thresholds()["cpu" if device == "cpu" else "other"]]


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def is_available(backend: str) -> bool:
    """Whether a backend can run here; one that cannot is reported once."""
    return _is_available(backend)


@cache
def _is_available(backend: str) -> bool:
    if backend == "c":
        try:
            compiler()
        except ToolchainError as reason:
            warnings.warn(f"the backend `c` is not available, `torch` runs in its place: {reason}", LosscWarning, stacklevel=2)
            return False
    return True


def choice(device: str, entries: int, classes: int) -> str:
    """The backend for a table whose widest stream has this many entries."""
    served: list[tuple[str, int, int]] = candidates(device)
    for backend, least, fewest in served:
        if entries >= least and classes >= fewest and is_available(backend):
            return backend
    return "reference"


class Chosen:
    """Runs one table on the backend of its size; an `Operator`."""

    def __init__(self, table: Table, seam: Seam) -> None:
        self.compiled = Compiled(table, seam)
        self._torch = self.compiled.other
        self._axis = table.axis
        self._wide = tuple(tuple(sorted(s.leaf.axes)) for s in table.streams if s.shape == "dense")
        self.native, self.roots = self.compiled.native, self.compiled.roots

    def choice(self, sizes: Mapping[str, int], device: str) -> str:
        """The backend for these extents."""
        entries = max([0, *[prod([sizes[axis] for axis in axes]) for axes in self._wide]])
        return choice(device, entries, sizes[self._axis])

    def run(self, environment: Environment, weights: Weights | None = None) -> dict[str, Tensor]:
        """The roots of the table."""
        backend = self.choice(environment.sizes, environment.like.device.type)
        return self.compiled.run(environment, weights) if backend == "c" else self._torch.run(environment)


class Automatic:
    """A program that runs as the reference where all of it is small, and else on the backends of its tables."""

    heads = True

    def __init__(self, fused: Fused, whole: Procedure) -> None:
        self._fused = fused
        self._whole = Executable(whole)
        self.bound, self.native = fused.bound, fused.native

    def run(self, values: list[Tensor | Linear | int], weigh: Weigh | None = None) -> dict[str, Tensor]:
        """The outputs by name."""
        environment, heads = self._fused.environment(values), self._fused.given_heads(values)
        device = environment.like.device.type
        operators = [operator for operator in self._fused.operators if isinstance(operator, Chosen)]
        small = not [each for each in operators if each.choice(environment.sizes, device) != "reference"]
        if small or transforming():
            return self._whole.run(formed(environment, heads).bind(self._whole.bound))
        return self._fused.run_in(environment, weigh, heads)
