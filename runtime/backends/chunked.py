"""The backend `torch`: statistics and gradients in closed form, one block of rows after another, in PyTorch operations.

Forward: every block of rows gives its statistics, and nothing vocabulary-sized is kept. Backward: given one coefficient
for each row and statistic, every block computes its part of each gradient and writes it in place into one tensor,

    dL/dx = sum_k coefficient_k * d statistic_k / dx.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lossc.compiler.core import Input
from lossc.compiler.emission import emit
from lossc.compiler.sweeps import coefficient, gradient_sweeps, statistic_stages
from lossc.compiler.table import Statistic, Table
from lossc.runtime.backends.environment import Environment, shaped
from lossc.runtime.backends.once import once
from lossc.runtime.backends.passes import Call, GradientPass, Source, StatisticPass, Target
from lossc.runtime.backends.reference import Executable
from lossc.runtime.backends.seam import Seam
from lossc.runtime.tracing import constant_in_traces

CPU_BYTES = 8 << 20
"""Of one value over a block on the CPU: a few of them stay in the cache."""

DEVICE_BYTES = 128 << 20
"""Of one value over a block elsewhere: four of them are 512 MiB."""


class Chunked:
    """Runs one table; an `Operator`."""

    ahead = False

    def __init__(self, table: Table, seam: Seam) -> None:
        self.table = table
        self.seam = seam
        self._row_values = RowValues(table)
        self._levels = table.levels
        self._delivered = {
            gradient: tuple(
                s for s in table.statistics if s.purpose == "value" or (gradient and s.purpose == "gradient")
            )
            for gradient in (False, True)
        }
        self.sources = tuple(_sources(table))
        tensors = [s.leaf for s in table.streams if s.provider == "tensor" and isinstance(s.leaf, Input)]
        self.native = frozenset(leaf.name for leaf in tensors)
        self.roots = frozenset(root.name for root in table.seam)
        self._stages: dict[tuple[bool, bool], tuple[tuple[int, tuple[StatisticPass, ...]], ...]] = {}
        self._passes: dict[str, tuple[GradientPass, ...]] = {}

    def run(self, environment: Environment, weights: Mapping[str, float] | None = None) -> dict[str, Tensor]:
        """The roots of the table."""
        return self.seam.chained(environment.having(self._statistics(environment)))

    def _statistics(self, environment: Environment) -> dict[str, Tensor]:
        gradient = torch.is_grad_enabled()
        names = (tuple(environment.tensors), tuple(environment.params))
        streams = [source.name for source in self.sources]
        values = [*environment.tensors.items(), *environment.params.items()]
        flat = [tensor if name in streams else tensor.detach() for name, tensor in values]
        outputs = Deliver.apply(self, names, environment.sizes, environment.like, gradient, *flat)  # type: ignore[no-untyped-call]
        return {f"@{s.name}": value for s, value in zip(self.delivered(gradient), outputs, strict=True)}

    def delivered(self, gradient: bool) -> tuple[Statistic, ...]:
        """The statistics that a call returns, in order; with `gradient`, also those that only gradients need."""
        return self._delivered[gradient]

    def rows(self, sizes: Mapping[str, int], like: Tensor) -> int:
        """The number of rows of a block; unlimited under torch.compile, where blocks serve no purpose."""
        if torch.compiler.is_compiling():
            return 1 << 62
        budget = CPU_BYTES if like.device.type == "cpu" else DEVICE_BYTES
        return max(1, budget // (like.element_size() * max(1, sizes[self.table.axis])))

    def places(self, names: Names) -> dict[str, int]:
        """The position of each differentiable stream among the arguments of `Deliver`."""
        tensors, params = names
        ahead = {False: 5, True: 5 + len(tensors)}
        return {s.stream: ahead[s.param] + (params if s.param else tensors).index(s.name) for s in self.sources}

    # -------------------------------------------------------------------------------------- forward

    def forward(self, call: Call) -> list[Tensor]:
        """The statistics; these and the row values between sweeps are added to `call`."""
        call.exact = call.like.device.type != "cpu" or torch.compiler.is_compiling()
        self._sweep(call)
        if not call.exact and not self.is_finite(call):
            call.exact = True
            self._sweep(call)
        return [call.tensors[f"@{s.name}"] for s in self.delivered(call.gradient)]

    def _sweep(self, call: Call) -> None:
        level = 0
        for before, passes in self._stages_for(call.gradient, call.exact):
            while level <= before:
                call.tensors.update(self._row_values.known(level, call))
                level += 1
            for each in passes:
                call.tensors.update(each.run(call))
        for after in range(level, self._levels + 1):
            call.tensors.update(self._row_values.known(after, call))

    def is_finite(self, call: Call) -> bool:
        """Whether all statistics and row values are finite; all entries that they were computed from then are, too."""
        names = [s.name for s in self.delivered(call.gradient)] + [scalar.name for scalar in self.table.scalars]
        numbers = [value for name in names if (value := call.tensors[f"@{name}"]).is_floating_point()]
        return all(math.isfinite(float(value.sum())) for value in numbers)

    def _stages_for(self, gradient: bool, exact: bool) -> tuple[tuple[int, tuple[StatisticPass, ...]], ...]:
        self._prepare_stages(gradient, exact)
        return self._stages[gradient, exact]

    @constant_in_traces
    def _prepare_stages(self, gradient: bool, exact: bool) -> bool:
        if (gradient, exact) not in self._stages:
            found = statistic_stages(self.table, gradient=gradient, exact=exact)
            self._stages[gradient, exact] = tuple(
                (stage.level, tuple(StatisticPass(sweep, self.table) for sweep in stage.sweeps)) for stage in found
            )
        return True

    # -------------------------------------------------------------------------------------- backward

    def backward(self, call: Call, wanted: list[Source], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The gradient of each wanted stream, from dL/d statistic by name of the statistic."""
        call.tensors.update({coefficient(name): weight for name, weight in weights.items()})
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

    @constant_in_traces
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
    """The differentiable streams, with the axes of their tensors' dimensions in order."""
    found = []
    for stream in table.streams:
        if stream.differentiable and stream.provider != "centred":
            direct = stream.provider in ("tensor", "parameter")
            order = tuple(getattr(stream.leaf, "order", sorted(stream.leaf.axes)))
            name = stream.name if direct else f"@{stream.name}"
            found.append(Source(stream.name, name, order, stream.provider == "parameter"))
    return found


class RowValues:
    """The row values of a table, computed one level at a time."""

    def __init__(self, table: Table) -> None:
        self._axes = {scalar.name: tuple(sorted(scalar.leaf.axes)) for scalar in table.scalars}
        by_level = [[s for s in table.scalars if s.level == level] for level in range(table.levels + 1)]
        self._levels = [Executable(emit({s.name: s.value for s in scalars})) for scalars in by_level]

    def known(self, level: int, call: Call) -> dict[str, Tensor]:
        """The row values that are known after this many sweeps, by the names of their leaves."""
        found = call.environment.run(self._levels[level])
        return {f"@{name}": shaped(*value, self._axes[name], call.sizes) for name, value in found.items()}


Names = tuple[tuple[str, ...], tuple[str, ...]]


class Deliver(torch.autograd.Function):
    """The statistics of a table as an autograd function of its streams."""

    @staticmethod
    def forward(
        ctx: Any, owner: Chunked, names: Names, sizes: dict[str, int], like: Tensor, gradient: bool, *flat: Tensor
    ) -> tuple[Tensor, ...]:  # fmt: skip
        call = Call({}, {}, sizes, like, gradient, owner.rows(sizes, like))
        _filled(call, names, flat)
        values = owner.forward(call)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(
            *(v for s, v in zip(owner.delivered(gradient), values, strict=True) if is_constant(s))
        )
        ctx.owner, ctx.sizes, ctx.exact, ctx.gradient = owner, sizes, call.exact, gradient
        ctx.given, ctx.names = names, (tuple(call.tensors), tuple(call.params))
        ctx.save_for_backward(like, *call.tensors.values(), *call.params.values())
        return tuple(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        owner: Chunked = ctx.owner
        like, *flat = ctx.saved_tensors
        call = Call({}, {}, ctx.sizes, like, ctx.gradient, owner.rows(ctx.sizes, like), ctx.exact)
        _filled(call, ctx.names, flat)
        names = [statistic.name for statistic in owner.delivered(ctx.gradient)]
        weights = {name: g for name, g in zip(names, gradients, strict=True) if g is not None}
        places = owner.places(ctx.given)
        wanted = [source for source in owner.sources if ctx.needs_input_grad[places[source.stream]]]
        with torch.no_grad():
            found = owner.backward(call, wanted, weights) if weights and wanted else {}
        results: list[Tensor | None] = [None] * len(ctx.needs_input_grad)
        for stream, value in zip(found, once(found.values(), *gradients, *flat), strict=True):
            results[places[stream]] = value
        return tuple(results)


def is_constant(statistic: Statistic) -> bool:
    """Whether no gradient flows through a statistic."""
    return not isinstance(statistic.leaf, Input) or statistic.leaf.detached


def _filled(call: Call, names: Names, flat: Sequence[Tensor]) -> None:
    tensors, params = names
    call.tensors = dict(zip(tensors, flat[: len(tensors)], strict=True))
    call.params = dict(zip(params, flat[len(tensors) :], strict=True))
