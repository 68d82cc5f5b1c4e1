"""The backend `torch`: statistics and gradients in closed form, block of rows by block of rows, in PyTorch operations.

Forward: every block of rows gives its statistics, and nothing vocabulary-sized is kept. Backward: with one coefficient for
each row and statistic, every block gives its part of each gradient, written in place into one tensor,

    dL/dx = sum_k coefficient_k * d statistic_k / dx.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lossc.compiler.core import Input
from lossc.compiler.emission import emit
from lossc.compiler.sweeps import coefficient, gradient_sweeps, statistic_stages
from lossc.compiler.table import Statistic, Table
from lossc.runtime.backends.passes import Call, GradientPass, Source, StatisticPass, Target
from lossc.runtime.backends.reference import Executable
from lossc.runtime.backends.seam import Environment, Seam, shaped

CPU_BYTES = 8 << 20
"""Of one value over a block on the CPU: a few of them stay in the cache."""

DEVICE_BYTES = 128 << 20
"""Of one value over a block elsewhere: four of them are 512 MiB."""


class Chunked:
    """Runs one table; an `Operator`."""

    def __init__(self, table: Table, seam: Seam) -> None:
        self.table = table
        self.seam = seam
        self._row_values = RowValues(table)
        self.sources = tuple(_sources(table))
        tensors = [s.leaf for s in table.streams if s.provider == "tensor" and isinstance(s.leaf, Input)]
        self.native = frozenset(leaf.name for leaf in tensors)
        self._stages: dict[tuple[bool, bool], tuple[tuple[int, tuple[StatisticPass, ...]], ...]] = {}
        self._passes: dict[str, tuple[GradientPass, ...]] = {}

    def run(self, environment: Environment) -> dict[str, Tensor]:
        """The roots of the table."""
        return self.seam.chained(environment.having(self._statistics(environment)))

    def _statistics(self, environment: Environment) -> dict[str, Tensor]:
        tensors = {name: tensor.detach() for name, tensor in environment.tensors.items()}
        params = {name: tensor.detach() for name, tensor in environment.params.items()}
        call = Call(tensors, params, environment.sizes, environment.like, torch.is_grad_enabled(), self._rows(environment))
        streams = [source.of(environment.tensors, environment.params) for source in self.sources]
        values = Deliver.apply(self, call, *streams)  # type: ignore[no-untyped-call]
        return {f"@{s.name}": value for s, value in zip(self.delivered(call.gradient), values, strict=True)}

    def delivered(self, gradient: bool) -> tuple[Statistic, ...]:
        """The statistics that a call delivers, in order."""
        purposes = ("value", "gradient") if gradient else ("value",)
        return tuple(s for s in self.table.statistics if s.purpose in purposes)

    def _rows(self, given: Environment) -> int:
        """The number of rows of a block."""
        if torch.compiler.is_compiling():
            return 1 << 62
        budget = CPU_BYTES if given.like.device.type == "cpu" else DEVICE_BYTES
        return max(1, budget // (given.like.element_size() * max(1, given.sizes[self.table.axis])))

    # -------------------------------------------------------------------------------------- forward

    def forward(self, call: Call) -> list[Tensor]:
        """The statistics; they and the row values between sweeps are added to what the call knows."""
        call.exact = call.like.device.type != "cpu" or torch.compiler.is_compiling()
        self._sweep(call)
        if not call.exact and not self._is_finite(call):
            call.exact = True
            self._sweep(call)
        return [call.tensors[f"@{s.name}"] for s in self.delivered(call.gradient)]

    def _sweep(self, call: Call) -> None:
        level = 0
        for before, passes in self._stages_for(call.gradient, call.exact):
            while level <= before:
                call.tensors |= self._row_values.known(level, call)
                level += 1
            for each in passes:
                call.tensors |= each.run(call)
        for after in range(level, self.table.levels + 1):
            call.tensors |= self._row_values.known(after, call)

    def _is_finite(self, call: Call) -> bool:
        """Whether all statistics and row values are finite: then so is every entry that they were made of."""
        names = [s.name for s in self.delivered(call.gradient)] + [scalar.name for scalar in self.table.scalars]
        numbers = [value for name in names if (value := call.tensors[f"@{name}"]).is_floating_point()]
        return all(math.isfinite(float(value.sum())) for value in numbers)

    def _stages_for(self, gradient: bool, exact: bool) -> tuple[tuple[int, tuple[StatisticPass, ...]], ...]:
        self._prepare_stages(gradient, exact)
        return self._stages[gradient, exact]

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
    def _prepare_stages(self, gradient: bool, exact: bool) -> bool:
        if (gradient, exact) not in self._stages:
            found = statistic_stages(self.table, gradient=gradient, exact=exact)
            self._stages[gradient, exact] = tuple(
                (stage.level, tuple(StatisticPass(sweep, self.table) for sweep in stage.sweeps)) for stage in found
            )
        return True

    # -------------------------------------------------------------------------------------- backward

    def backward(self, call: Call, wanted: list[Source], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The gradient of each wanted stream, from dL/dstatistic by statistic."""
        call.tensors |= {coefficient(name): weight for name, weight in weights.items()}
        passes = self._passes_for([source.stream for source in wanted], list(weights), call.exact)
        cuts = {source.stream: [each.cut for each in passes if source.stream in each.streams] for source in wanted}
        targets = {source.stream: Target(source, call, cuts[source.stream]) for source in wanted}
        for each in passes:
            each.run(call, targets)
        return {stream: target.value.to(target.dtype) for stream, target in targets.items()}

    def _passes_for(self, wanted: list[str], statistics: list[str], exact: bool) -> tuple[GradientPass, ...]:
        key = "\n".join((",".join(wanted), ",".join(statistics), str(exact), str(torch.compiler.is_compiling())))
        self._prepare_passes(key)
        return self._passes[key]

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
    def _prepare_passes(self, key: str) -> bool:
        if key not in self._passes:
            wanted, statistics, exact, compiling = key.split("\n")
            found = gradient_sweeps(
                self.table, frozenset(wanted.split(",")), frozenset(statistics.split(",")), exact=exact == "True",
                scatter=compiling == "False",
            )  # fmt: skip
            self._passes[key] = tuple(GradientPass(sweep, self.table) for sweep in found)
        return True


def _sources(table: Table) -> list[Source]:
    """The differentiable streams, with the order of dimensions in which they come."""
    found = []
    for stream in table.streams:
        if stream.differentiable and stream.provider != "centred":
            direct = stream.provider in ("tensor", "parameter")
            order = tuple(getattr(stream.leaf, "order", sorted(stream.leaf.axes)))
            name = stream.name if direct else f"@{stream.name}"
            found.append(Source(stream.name, name, order, stream.provider == "parameter"))
    return found


class RowValues:
    """The row values of a table, those of one level at a time."""

    def __init__(self, table: Table) -> None:
        self._axes = {scalar.name: tuple(sorted(scalar.leaf.axes)) for scalar in table.scalars}
        by_level = [[s for s in table.scalars if s.level == level] for level in range(table.levels + 1)]
        self._levels = [Executable(emit({s.name: s.value for s in scalars})) for scalars in by_level]

    def known(self, level: int, call: Call) -> dict[str, Tensor]:
        """What is known after this many sweeps, by the names of the leaves."""
        found = call.environment.run(self._levels[level])
        return {f"@{name}": shaped(*value, self._axes[name], call.sizes) for name, value in found.items()}


class Deliver(torch.autograd.Function):
    """The statistics of a table as functions of its streams."""

    @staticmethod
    def forward(ctx: Any, owner: Chunked, call: Call, *streams: Tensor) -> tuple[Tensor, ...]:
        values = owner.forward(call)
        ctx.owner, ctx.call, ctx.names = owner, call, (list(call.tensors), list(call.params))
        ctx.set_materialize_grads(False)
        constant = [v for s, v in zip(owner.delivered(call.gradient), values, strict=True) if getattr(s.leaf, "detached", True)]
        ctx.mark_non_differentiable(*constant)
        ctx.save_for_backward(*call.tensors.values(), *call.params.values())
        call.tensors, call.params = {}, {}
        return tuple(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        owner: Chunked = ctx.owner
        tensors, params = ctx.names
        saved = iter(ctx.saved_tensors)
        call = replace(ctx.call, tensors=dict(zip(tensors, saved, strict=False)), params=dict(zip(params, saved, strict=True)))
        names = [statistic.name for statistic in owner.delivered(call.gradient)]
        weights = {name: g for name, g in zip(names, gradients, strict=True) if g is not None}
        wanted = [source for at, source in enumerate(owner.sources) if ctx.needs_input_grad[at + 2]]
        found = owner.backward(call, wanted, weights) if weights and wanted else {}
        return (None, None, *(found.get(source.stream) for source in owner.sources))
