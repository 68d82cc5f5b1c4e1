"""Compiled kernels for one rank's shard of the classes: one for each merge, and one for gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from lossc.compiler.kernels import kernels
from lossc.compiler.sweeps import gradient_table, stage_tables
from lossc.compiler.table import Table
from lossc.runtime.backends.environment import Environment
from lossc.runtime.backends.kernel_calls import KernelCalls

Calls = tuple[KernelCalls, ...]


class ShardKernels:
    """The kernels of a table made by `shard`.

    Raises NoKernelError where there are none.
    """

    def __init__(self, table: Table, calls: type[KernelCalls]) -> None:
        self._make = calls
        stages = stage_tables(table)
        self._largest = {each.level: tuple(self._of(step) for step in each.largest) for each in stages}
        self._sums = {each.level: self._of(each.sums) for each in stages}
        self._gradient = self._of(gradient_table(table))
        self.flags = {calls.flags: calls.kernel.rows for calls in self._gradient}

    def _of(self, table: Table) -> Calls:
        return tuple(self._make(kernel, at) for at, kernel in enumerate(kernels(table)))

    def largest(self, level: int, step: int, known: Environment) -> dict[str, Tensor]:
        """The largest entries among the classes of this rank, in one step of a level, by the names of their leaves."""
        return _run(self._largest[level][step], known)

    def sums(self, level: int, known: Environment) -> dict[str, Tensor]:
        """The contribution of this rank to the sums of a level."""
        return _run(self._sums[level], known)

    def irregular(self, known: Environment) -> dict[str, Tensor]:
        """Flags that declare no row regular, since a rank sees only a part of each row."""
        device = known.like.device
        return {
            name: torch.zeros([known.sizes[axis] for axis in rows], dtype=torch.bool, device=device)
            for name, rows in self.flags.items()
        }

    def gradients(self, known: Environment, weights: Mapping[str, Tensor], wanted: frozenset[str]) -> dict[str, Tensor]:
        """The gradient of each wanted stream, from dL/d statistic."""
        found: dict[str, Tensor] = {}
        for calls in self._gradient:
            for name, gradient in calls.gradient(replace(calls.given(known), weights=weights), wanted).items():
                found[name] = found[name].add_(gradient) if name in found else gradient
        return found


def _run(every: Calls, known: Environment) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for calls in every:
        found |= calls.statistics(calls.given(known.having(found)))
    return found
