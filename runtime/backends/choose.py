"""The backend `auto`: chooses by size, from the measured table `measured.json`, which `benchmarks/thresholds.py` writes.

Of a device's list, the first backend is taken that is available and whose minimum sizes are reached. Below all of them
the reference runs, because its single operations cost less than the overhead of the others. Under `torch.compile` a
separate list applies, since the reference is compiled as well there. On devices that have not been measured, `torch` is
taken where memory matters.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from lossc.compiler.emission import Procedure
from lossc.compiler.kernels import NoKernelError, kernels
from lossc.compiler.plan import kept_wide
from lossc.compiler.table import Table
from lossc.runtime.backends.c import Compiled
from lossc.runtime.backends.environment import Environment, in_type
from lossc.runtime.backends.fused import Fused, formed
from lossc.runtime.backends.once import transforming
from lossc.runtime.backends.reference import Executable, Value
from lossc.runtime.backends.seam import Seam, Weigh, Weights
from lossc.runtime.backends.toolchain import ToolchainError, compiler
from lossc.runtime.linear import Linear
from lossc.runtime.messages import LosscWarning
from lossc.runtime.tracing import constant_in_traces

FILE = Path(__file__).parent / "measured.json"


WIDE = 1 << 23
"""Entries from which on a table is fused that torch operations on vocabulary-sized values feed. Those run twice, so that
nothing of them is kept: below this size the time that this takes is more than what the fused part gains (measured: 0.5 to
1.7 times the reference's); above, the memory that it saves matters more."""

MOST = 1000
"""Shapes for which the choice is kept."""

DEVICES = ("cpu", "compiled", "other")
"""The lists: on the CPU, on the CPU under `torch.compile`, on other devices."""


@dataclass(frozen=True)
class Threshold:
    """A backend is taken from `entries` of the widest stream on, given at least so many `classes` and `sums` over classes."""

    backend: str
    entries: int
    classes: int
    sums: int = 1


@cache
def thresholds() -> dict[str, tuple[Threshold, ...]]:
    """The committed table, by device."""
    record = json.loads(FILE.read_text(encoding="utf-8"))
    return {device: tuple(Threshold(**entry) for entry in record[device]) for device in DEVICES}


@constant_in_traces
def candidates(device: str) -> list[tuple[str, int, int, int]]:
    """The thresholds of a device; a trace takes them as constants."""
    return [(each.backend, each.entries, each.classes, each.sums) for each in thresholds()[device]]


@constant_in_traces
def is_available(backend: str) -> bool:
    """Whether a backend can run here; a missing one is reported once."""
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


def choice(device: str, entries: int, classes: int, sums: int = 1, *, kernels: bool = True) -> str:
    """The backend for a table whose widest stream has this many entries; without `kernels`, never `c`."""
    listed = "other" if device != "cpu" else "compiled" if torch.compiler.is_compiling() else "cpu"
    served: list[tuple[str, int, int, int]] = candidates(listed)
    for backend, least, fewest, added in served:
        able = kernels or backend != "c"
        if able and entries >= least and classes >= fewest and sums >= added and is_available(backend):
            return backend
    return "reference"


def sums(table: Table) -> int:
    """The sums over classes of a table."""
    return len([s for s in table.statistics if s.op == "sum" and s.purpose != "merge"])


def has_kernels(table: Table) -> bool:
    """Whether the backend `c` can compute a table."""
    try:
        return bool(kernels(table))
    except NoKernelError:
        return False


class Chosen:
    """Runs one table on the backend suited to its size; an `Operator`."""

    ahead = False

    def __init__(self, table: Table, seam: Seam) -> None:
        self.compiled = Compiled(table, seam)
        self._torch = self.compiled.other
        self._axis, self._sums, self._kernels = table.axis, sums(table), has_kernels(table)
        self._least = WIDE if next(kept_wide(table, {}), None) is not None else 0
        self._wide = tuple(tuple(sorted(s.leaf.axes)) for s in table.streams if s.shape == "dense")
        self.native, self.roots = self.compiled.native, self.compiled.roots

    def choice(self, sizes: Mapping[str, int], device: str) -> str:
        """The backend for these extents."""
        entries = max([0, *[prod([sizes[axis] for axis in axes]) for axes in self._wide]])
        if entries < self._least and device == "cpu":
            return "reference"
        return choice(device, entries, sizes[self._axis], self._sums, kernels=self._kernels)

    def run(self, environment: Environment, weights: Weights | None = None) -> dict[str, Tensor]:
        """The roots of the table."""
        backend = self.choice(environment.sizes, environment.like.device.type)
        return self.compiled.run(environment, weights) if backend == "c" else self._torch.run(environment)


class Automatic:
    """A program that runs on the reference where all of it is small, and otherwise on the backends of its tables."""

    heads = True

    def __init__(self, fused: Fused, whole: Procedure) -> None:
        self._fused = fused
        self._whole = Executable(whole)
        self.bound, self.native = fused.bound, fused.native
        places = {(entry.kind, entry.name): at for at, entry in enumerate(self.bound)}
        self._like = places["like", ""]
        self._places = tuple((places[entry.kind, entry.name], entry.name in self.native) for entry in whole.bound)
        self._small: dict[object, bool] = {}
        """Whether calls with tensors of these shapes are small."""

    def run(self, values: list[Value | Linear], weigh: Weigh | None = None) -> dict[str, Tensor]:
        """The outputs by name."""
        form = _form(values)
        if form is not None and self._small.get(form):
            return self._whole.run(self._of_whole(cast(list[Value], values)))
        environment, heads = self._fused.environment(values), self._fused.given_heads(values)
        device = environment.like.device.type
        operators = [operator for operator in self._fused.operators if isinstance(operator, Chosen)]
        small = not [each for each in operators if each.choice(environment.sizes, device) != "reference"]
        if form is not None and len(self._small) < MOST:
            self._small[form] = small
        split = [head for head in heads.values() if head.shard is not None]
        if (small and not split) or transforming():
            return self._whole.run(formed(environment, heads).bind(self._whole.bound))
        return self._fused.run_in(environment, weigh, heads)

    def _of_whole(self, values: list[Value]) -> list[Value]:
        """The values that the reference is given, in the floating type of the computation."""
        like = values[self._like]
        return [in_type(cast(Tensor, values[at]), cast(Tensor, like)) if native else values[at] for at, native in self._places]


def _form(values: list[Value | Linear]) -> object | None:
    """The shapes of the tensors and the extents of a call; None where the call has heads or is being traced."""
    if torch.compiler.is_compiling():
        return None
    form: list[object] = []
    for value in values:
        if isinstance(value, Tensor):
            form += (value.shape, value.is_cpu)
        elif isinstance(value, Linear):
            return None
        else:
            form.append(value if isinstance(value, int) else None)
    return tuple(form)
