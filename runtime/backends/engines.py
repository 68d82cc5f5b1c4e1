"""What computes on a block of scores: statistics, and dL/d stream from dL/d statistic.

There are two engines: compiled kernels, where they are available, and the closed form in PyTorch operations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from lossc.compiler.kernels import NoKernelError
from lossc.runtime.backends.c import Compiled
from lossc.runtime.backends.chunked import Chunked
from lossc.runtime.backends.environment import Environment
from lossc.runtime.backends.passes import Call
from lossc.runtime.backends.toolchain import ToolchainError

Weights = Mapping[str, Tensor]
"""dL/d statistic by the name of the statistic."""


class Engine(Protocol):
    """Computes on one block, outside autograd.

    `statistics` returns statistics by the names of their leaves, along with any further values that `gradients` needs;
    `axes` names the axes of those further values.
    """

    @property
    def axes(self) -> Mapping[str, tuple[str, ...]]: ...

    def statistics(self, known: Environment) -> dict[str, Tensor]: ...

    def gradients(self, known: Environment, weights: Weights, wanted: frozenset[str]) -> dict[str, Tensor]: ...


class Closed:
    """The closed form, in PyTorch operations."""

    def __init__(self, chunked: Chunked) -> None:
        self._chunked = chunked
        self.axes = {f"@{scalar.name}": tuple(sorted(scalar.leaf.axes)) for scalar in chunked.table.scalars}

    def statistics(self, known: Environment) -> dict[str, Tensor]:
        call = self._call(known)
        self._chunked.forward(call)
        return {name: value for name, value in call.tensors.items() if name not in known.tensors}

    def gradients(self, known: Environment, weights: Weights, wanted: frozenset[str]) -> dict[str, Tensor]:
        call = self._call(known)
        call.exact = not self._chunked.is_finite(call)
        delivered = {s.name for s in self._chunked.delivered(True)}
        given = {name: weight.to(known.like.dtype) for name, weight in weights.items() if name in delivered}
        sources = [source for source in self._chunked.sources if source.stream in wanted]
        return self._chunked.backward(call, sources, given) if given and sources else {}

    def _call(self, known: Environment) -> Call:
        rows = self._chunked.rows(known.sizes, known.like)
        return Call(dict(known.tensors), dict(known.params), known.sizes, known.like, True, rows)


class Kernels:
    """Compiled kernels; the closed form from the moment that kernels or a compiler turn out to be missing."""

    def __init__(self, compiled: Compiled) -> None:
        self.compiled = compiled
        self._closed = Closed(compiled.other)

    @property
    def axes(self) -> Mapping[str, tuple[str, ...]]:
        return {**self._closed.axes, **self.compiled.flags}

    def statistics(self, known: Environment) -> dict[str, Tensor]:
        if self.compiled.serves(known.like.device):
            try:
                return self.compiled.statistics(known)
            except (NoKernelError, ToolchainError) as reason:
                self.compiled.give_up(reason)
        return self._closed.statistics(known)

    def gradients(self, known: Environment, weights: Weights, wanted: frozenset[str]) -> dict[str, Tensor]:
        if self.compiled.serves(known.like.device):
            return self.compiled.gradients(known, weights, wanted)
        return self._closed.gradients(known, weights, wanted)


__all__ = ["Closed", "Engine", "Kernels"]
