"""Streams and row values that are computed by PyTorch operations, such as sorted logits or their cumulative sums.

Nothing is saved for the backward pass, which runs the operation again. That second run sees only the entries at which
gradient arrives: garbage in the other entries, for which the operation may have no finite slope, stays without
influence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from lossc.compiler.core import Input, Node
from lossc.compiler.emission import emit
from lossc.grammar.source import Span
from lossc.runtime.backends.environment import Environment, shaped
from lossc.runtime.backends.once import once
from lossc.runtime.backends.reference import Executable
from lossc.runtime.tracing import constant_in_traces

SEEN = "@seen"
"""The mask of the entries at which gradient arrives, among the tensors of `Provider.attached`."""

TRACED_FROM = (2, 13)
"""The torch whose traces take a derivative inside a backward pass, as far as is tested: in those of others the operation
stands as it is, so that the gradient may meet garbage which nothing reads."""


@dataclass(frozen=True)
class Read:
    """A tensor or parameter that an operation reads."""

    param: bool
    name: str

    def of(self, environment: Environment) -> Tensor:
        return (environment.params if self.param else environment.tensors)[self.name]


class Provider:
    """One stream or row value; its axes are in alphabetical order."""

    def __init__(self, name: str, node: Node, axes: tuple[str, ...], spans: dict[Node, Span]) -> None:
        self.name = name
        self.axes = axes
        self.executable = Executable(emit({name: node}, spans=spans))
        self.attached = Executable(emit({name: node}, seen={name: Input(SEEN, axes, "mask")}, spans=spans))
        """The operation as it is differentiated: of its value only the entries of the mask are seen."""
        entries = (entry for entry in self.executable.bound if entry.kind in ("tensor", "param"))
        self.reads = tuple(Read(entry.kind == "param", entry.name) for entry in entries)

    def run(self, environment: Environment) -> Tensor:
        """The value, with gradient."""
        if not torch.is_grad_enabled() or (torch.compiler.is_compiling() and not _traces()):
            return self.value(environment)
        values = [read.of(environment) for read in self.reads]
        provided: Tensor = Provided.apply(self, environment.sizes, environment.like, *values)  # type: ignore[no-untyped-call]
        return provided

    def value(self, environment: Environment) -> Tensor:
        """The value, computed by the operation itself."""
        return self._run(self.executable, environment)

    def of(
        self, values: Sequence[Tensor], sizes: dict[str, int], like: Tensor, upstream: Tensor | None = None
    ) -> Tensor:  # fmt: skip
        """The value, from the values read; with `upstream`, in the form that is differentiated for that upstream gradient."""
        tensors = {read.name: value for read, value in zip(self.reads, values, strict=True) if not read.param}
        params = {read.name: value for read, value in zip(self.reads, values, strict=True) if read.param}
        if upstream is None:
            return self.value(Environment(tensors, params, sizes, like))
        return self._run(self.attached, Environment({**tensors, SEEN: upstream != 0}, params, sizes, like))

    def _run(self, executable: Executable, environment: Environment) -> Tensor:
        value, have = environment.run(executable)[self.name]
        return shaped(value, have, self.axes, environment.sizes)

    def slopes(self, environment: Environment, upstream: Tensor) -> Iterator[tuple[Read, Tensor]]:
        """The gradient of each tensor and parameter read, from the upstream gradient of the value."""
        values = [read.of(environment) for read in self.reads]
        needed = [value.is_floating_point() for value in values]
        found = self.differentiated(values, needed, dict(environment.sizes), environment.like, upstream)
        yield from ((read, gradient) for read, gradient in zip(self.reads, found, strict=True) if gradient is not None)

    def differentiated(
        self, values: Sequence[Tensor], needed: Sequence[bool], sizes: dict[str, int], like: Tensor, upstream: Tensor
    ) -> list[Tensor | None]:  # fmt: skip
        """The gradient of each value in `needed`; None where the operation only sorts or compares by it."""
        if torch.compiler.is_compiling():
            return self._traced(values, needed, sizes, like, upstream)
        with torch.enable_grad():
            held = [value.detach().requires_grad_(need) for value, need in zip(values, needed, strict=True)]
            provided = self.of(held, sizes, like, upstream)
        wanted = [value for value in held if value.requires_grad]
        if not wanted or not provided.requires_grad:
            return [None] * len(held)
        found = iter(torch.autograd.grad(provided, wanted, upstream.to(provided.dtype), allow_unused=True))
        return [next(found) if value.requires_grad else None for value in held]

    def _traced(
        self, values: Sequence[Tensor], needed: Sequence[bool], sizes: dict[str, int], like: Tensor, upstream: Tensor
    ) -> list[Tensor | None]:  # fmt: skip
        """The same by `torch.func.vjp`, the form of derivative that can be traced inside a backward pass."""

        def of_needed(*moving: Tensor) -> Tensor:
            left = iter(moving)
            given = [next(left) if need else value for value, need in zip(values, needed, strict=True)]
            return self.of(given, sizes, like, upstream)

        wanted = [value for value, need in zip(values, needed, strict=True) if need]
        provided, slopes = cast("tuple[Tensor, Callable[[Tensor], tuple[Tensor, ...]]]", torch.func.vjp(of_needed, *wanted))
        found = iter(slopes(upstream.to(provided.dtype)))
        return [next(found) if need else None for need in needed]


@constant_in_traces
def _traces() -> bool:
    return tuple(int(part) for part in torch.__version__.split(".")[:2]) >= TRACED_FROM


class Provided(torch.autograd.Function):
    """The value of a provider as an autograd function, whose backward pass computes the value again."""

    @staticmethod
    def forward(ctx: Any, provider: Provider, sizes: dict[str, int], like: Tensor, *values: Tensor) -> Tensor:
        ctx.provider, ctx.sizes = provider, sizes
        ctx.save_for_backward(like, *values)
        return provider.of(values, sizes, like).contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (upstream,) = gradients
        like, *values = ctx.saved_tensors
        found = ctx.provider.differentiated(values, ctx.needs_input_grad[3:], ctx.sizes, like, upstream)
        return (None, None, None, *once(found, *gradients, *values))
