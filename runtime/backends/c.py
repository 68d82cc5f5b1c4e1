"""The backend `c`: generated C kernels, on the CPU.

One call delivers the statistics and another writes the gradient, with the seam on rows between them. Where the objective
is a sum over rows whose factors are known beforehand, one call visits each row once and writes the gradient for the
upstream gradient that is expected; when another one comes, the gradient is worked out again from the statistics.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lossc.compiler.core import Input
from lossc.compiler.kernels import NoKernelError, kernels
from lossc.compiler.table import Statistic, Stream, Table
from lossc.runtime.backends.chunked import Chunked
from lossc.runtime.backends.kernel_calls import KernelCalls
from lossc.runtime.backends.once import once
from lossc.runtime.backends.seam import Environment, Seam
from lossc.runtime.backends.toolchain import ToolchainError
from lossc.runtime.messages import LosscWarning

CLOSE = 2.0**-20
"""The largest relative difference between an upstream gradient that was expected and the one that came."""


@dataclass
class Visit:
    """Gradients that were formed with the statistics, for the upstream gradients `expected` of some roots.

    `noted` are those that came.
    """

    gradients: dict[str, Tensor] = field(default_factory=dict)
    expected: dict[str, float] = field(default_factory=dict)
    noted: dict[str, Tensor] = field(default_factory=dict)

    def note(self, name: str, gradient: Tensor) -> None:
        self.noted[name] = gradient.detach()

    def ratio(self) -> float | None:
        """What came as a multiple of what was expected; None where they are not proportional."""
        came = {name: _single(gradient) for name, gradient in self.noted.items()}
        if any(value != 0 for name, value in came.items() if name not in self.expected):
            return None
        pairs = [(came.get(name, 0.0), value) for name, value in self.expected.items() if value != 0 or came.get(name)]
        ratios = [got / value if value else float("nan") for got, value in pairs]
        first = ratios[0] if ratios else 1.0
        return first if all(abs(each - first) <= CLOSE * abs(first) for each in ratios) else None

    def take(self) -> dict[str, Tensor]:
        """The gradients, once."""
        taken, self.gradients = self.gradients, {}
        return taken


def _single(gradient: Tensor) -> float:
    """The value of a scalar; of more entries NaN, which equals nothing."""
    return gradient.item() if gradient.dim() == 0 else float("nan")


class Compiled:
    """Runs one table; an `Operator`. What no kernel computes, and every table without a C compiler, runs as `torch` does."""

    def __init__(self, table: Table, seam: Seam) -> None:
        self.table = table
        self.seam = seam
        self.other = Chunked(table, seam)
        self.native, self.roots = self.other.native, self.other.roots
        self.streams = tuple(s for s in table.streams if s.differentiable and s.provider != "centred")
        self.scale = 1.0
        """The multiple of the expected upstream gradients that came last."""
        self._plans: dict[tuple[str, ...], tuple[KernelCalls, ...] | None] = {}
        self._unable = False

    def run(self, environment: Environment, weights: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The roots of the table; `weights` are the dL/d root that are expected."""
        if self._unable or environment.like.device.type != "cpu" or torch.compiler.is_compiling():
            return self.other.run(environment)
        try:
            return self._run(environment, weights or {})
        except (NoKernelError, ToolchainError) as reason:
            self._give_up(reason)
            return self.other.run(environment)

    def _give_up(self, reason: Exception) -> None:
        self._unable = True
        if isinstance(reason, ToolchainError):
            _warn_once(f"the backend `c` is not available, `torch` runs in its place: {reason}")

    def _run(self, environment: Environment, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        tensors = {name: tensor.detach() for name, tensor in environment.tensors.items()}
        params = {name: tensor.detach() for name, tensor in environment.params.items()}
        known = Environment(tensors, params, environment.sizes, environment.like)
        streams = [_given(stream, environment) for stream in self.streams]
        visit = Visit()
        if torch.is_grad_enabled() and weights and any(stream.requires_grad for stream in streams):
            visit.expected = {name: weight.item() * self.scale for name, weight in weights.items()}
        values = Deliver.apply(self, known, visit, *streams)  # type: ignore[no-untyped-call]
        delivered = {f"@{s.name}": value for s, value in zip(self.delivered, values, strict=True)}
        roots = self.seam.chained(environment.having(delivered))
        if visit.gradients:
            for name, root in roots.items():
                if root.requires_grad:
                    root.register_hook(partial(visit.note, name))  # type: ignore[no-untyped-call]
        return roots

    @property
    def delivered(self) -> tuple[Statistic, ...]:
        return tuple(s for s in self.table.statistics if s.purpose != "merge")

    # -------------------------------------------------------------------------------------- kernels

    def plan(self, weighted: Iterable[str] = ()) -> tuple[KernelCalls, ...] | None:
        """The kernels; for weighted roots those that visit a row once, None where there are none."""
        key = tuple(sorted(weighted))
        if key not in self._plans:
            leaves = {name: Input(f"@weight {name}", ()) for name in key}
            found = kernels(self.table, leaves if key else None)
            usable = not key or all(kernel.adjoints is not None for kernel in found)
            self._plans[key] = tuple(KernelCalls(kernel, number) for number, kernel in enumerate(found)) if usable else None
        return self._plans[key]

    def statistics(self, known: Environment, visit: Visit, wanted: frozenset[str]) -> dict[str, Tensor]:
        """All statistics, and the gradients of the wanted streams where one visit gives both."""
        plan = self.plan(visit.expected) if visit.expected and wanted else None
        found: dict[str, Tensor] = {}
        if plan is None:
            for calls in self.plan() or ():
                found |= calls.statistics(known.having(found))
            return found
        like = known.like
        weights = {f"@weight {name}": torch.tensor(value, dtype=like.dtype) for name, value in visit.expected.items()}
        for calls in plan:
            values, gradients = calls.visit(known.having(weights), wanted)
            found |= values
            _accumulate(visit.gradients, gradients)
        return found

    def gradients(self, known: Environment, weights: Mapping[str, Tensor], wanted: frozenset[str]) -> dict[str, Tensor]:
        """The gradient of each wanted stream from dL/d statistic."""
        found: dict[str, Tensor] = {}
        for calls in self.plan() or ():
            _accumulate(found, calls.gradient(known, weights, wanted))
        return found


def _accumulate(total: dict[str, Tensor], gradients: Mapping[str, Tensor]) -> None:
    for name, gradient in gradients.items():
        total[name] = gradient if name not in total else total[name].add_(gradient)


def _given(stream: Stream, environment: Environment) -> Tensor:
    if stream.provider == "parameter":
        return environment.params[stream.name]
    return environment.tensors[stream.name if stream.provider == "tensor" else f"@{stream.name}"]


class Deliver(torch.autograd.Function):
    """The statistics of a table as functions of its streams."""

    @staticmethod
    def forward(ctx: Any, owner: Compiled, known: Environment, visit: Visit, *streams: Tensor) -> tuple[Tensor, ...]:
        wanted = frozenset(s.name for s, needed in zip(owner.streams, ctx.needs_input_grad[3:], strict=True) if needed)
        values = owner.statistics(known, visit, wanted)
        known = known.having(values)
        ctx.owner, ctx.visit, ctx.wanted = owner, visit, wanted
        ctx.names, ctx.params = tuple(known.tensors), tuple(known.params)
        ctx.sizes, ctx.like = known.sizes, known.like
        ctx.save_for_backward(*known.tensors.values(), *known.params.values(), *streams)
        ctx.set_materialize_grads(False)
        found = [(values[f"@{s.name}"], s) for s in owner.delivered]
        ctx.mark_non_differentiable(*(value for value, s in found if getattr(s.leaf, "detached", True)))
        return tuple(value for value, _ in found)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        owner: Compiled = ctx.owner
        weights = {s.name: g for s, g in zip(owner.delivered, gradients, strict=True) if g is not None}
        found = _early(owner, ctx.visit)
        if found is None:
            saved = iter(ctx.saved_tensors)
            tensors = dict(zip(ctx.names, saved, strict=False))
            known = Environment(tensors, dict(zip(ctx.params, saved, strict=False)), ctx.sizes, ctx.like)
            found = owner.gradients(known, weights, ctx.wanted)
        results = once((found.get(stream.name) for stream in owner.streams), *gradients, *ctx.saved_tensors)
        return (None, None, None, *results)


def _early(owner: Compiled, visit: Visit) -> dict[str, Tensor] | None:
    """The gradients that were formed with the statistics, if they are those that are asked for."""
    ratio = visit.ratio() if visit.gradients else None
    visit.noted = {}
    taken = visit.take()
    if ratio is None:
        return None
    owner.scale *= ratio or 1.0
    return taken if abs(ratio - 1.0) <= CLOSE else None


_warned: set[str] = set()


def _warn_once(message: str) -> None:
    if not _warned:
        _warned.add(message)
        warnings.warn(message, LosscWarning, stacklevel=2)


__all__ = ["Compiled"]
