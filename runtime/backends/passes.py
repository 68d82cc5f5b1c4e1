"""Passes over the class axis, one block of rows after another: statistic passes, and gradient passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossc.compiler.sweeps import Contribution, GradientSweep, Sweep
from lossc.compiler.table import Table
from lossc.runtime.backends.blocks import Block, BlockProgram, Buffers, cut, part
from lossc.runtime.backends.environment import Environment, in_type, stored
from lossc.runtime.backends.pool import POOL

Axes = tuple[str, ...]


@dataclass
class Call:
    """The environment of one call, outside autograd.

    `gradient` says whether a gradient may be asked for, `exact` whether entries may be infinite or NaN; `rows` is the
    size of a block.
    """

    tensors: dict[str, Tensor]
    params: dict[str, Tensor]
    sizes: Mapping[str, int]
    like: Tensor
    gradient: bool
    rows: int
    exact: bool = True

    @property
    def environment(self) -> Environment:
        return Environment(self.tensors, self.params, self.sizes, self.like)

    def buffers(self) -> Buffers | None:
        """Buffers shared by the values of a pass; None off the CPU, where torch's own allocator serves."""
        like = self.like
        return Buffers(like.dtype) if like.device.type == "cpu" and not torch.compiler.is_compiling() else None

    def empty(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """An uninitialized tensor; on the CPU from the pool."""
        if self.like.device.type == "cpu" and not torch.compiler.is_compiling():
            return POOL.empty(shape, dtype)
        return torch.empty(shape, dtype=dtype, device=self.like.device)

    def bound(self, program: BlockProgram, block: Block) -> list[Any]:
        """The arguments of a program for a block."""
        values: list[Any] = []
        for entry in program.bound:
            if entry.kind == "like":
                values.append(self.like)
            elif entry.kind == "size":
                values.append(block[entry.name][1] if entry.name in block else self.sizes[entry.name])
            else:
                held = self.tensors if entry.kind == "tensor" else self.params
                values.append(part(held[entry.name], entry.axes, block))
        return values

    def shape(self, axes: Axes, block: Block) -> list[int]:
        return [block[axis][1] if axis in block else self.sizes[axis] for axis in axes]


class StatisticPass:
    """One pass that computes statistics."""

    def __init__(self, sweep: Sweep, table: Table) -> None:
        self.cut = sweep.cut
        self.program = BlockProgram(sweep.procedure)
        self.statistics = {s.name: s for s in table.statistics if s.name in sweep.procedure.outputs}

    def run(self, call: Call) -> dict[str, Tensor]:
        """The statistics of all rows, by the names of their leaves; empty tensors where there are no rows."""
        buffers = call.buffers()
        found: dict[str, Tensor] = {}
        for block in cut(self.cut, call.sizes, call.rows):
            outputs = self.program.run(call.bound(self.program, block), buffers, {})
            for name, value in outputs.items():
                rows = self.statistics[name].rows
                value = arranged(value, self.program.axes[name], rows).expand(call.shape(rows, block))
                if f"@{name}" not in found:
                    found[f"@{name}"] = value.new_empty(call.shape(rows, {}))
                part(found[f"@{name}"], rows, block).copy_(value)
        for name, s in self.statistics.items() if not found else ():
            found[f"@{name}"] = in_type(call.like.new_empty(call.shape(s.rows, {}), dtype=stored(s)), call.like)
        return found


@dataclass(frozen=True)
class Source:
    """A differentiable stream: its name, the axes of its dimensions, whether it is a parameter."""

    stream: str
    name: str
    axes: Axes
    param: bool

    def of(self, tensors: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> Tensor:
        return (params if self.param else tensors)[self.name]


class Target:
    """The gradient of one stream while it is accumulated.

    Where one pass writes every entry exactly once, it has the type of the stream; otherwise blocks are added up from 0
    in the type of the computation.
    """

    def __init__(self, source: Source, call: Call, passes: list[Axes]) -> None:
        """`passes` has, for each pass that reaches the stream, the axes along which the pass cuts its rows."""
        tensor = source.of(call.tensors, call.params)
        self.axes = source.axes
        self.dtype = tensor.dtype
        self.once = len(passes) == 1 and set(passes[0]) <= set(source.axes)
        if self.once:
            self.value = call.empty(tensor.shape, tensor.dtype)
        else:
            self.value = torch.zeros(tensor.shape, dtype=call.like.dtype, device=tensor.device)

    def add(self, dense: list[Tensor], picked: list[tuple[Tensor, Tensor]], block: Block, dim: int) -> None:
        """Adds values over a block, and values at classes, all in the dimensions of the stream."""
        place = part(self.value, self.axes, block)
        if not self.once:
            for value in dense:
                place.add_(value)
            total = place
        elif dense and (dense[0] is place or dense[0].dtype == place.dtype):
            total = place if dense[0] is place else place.copy_(dense[0].expand(place.shape))
            for value in dense[1:]:
                total.add_(value)
        else:
            total = _total(dense, picked, place)
        for value, at in picked if total.numel() else ():  # among no classes every label is *none*
            total.scatter_add_(dim, at, value)
        if total is not place:
            place.copy_(total)


def _total(dense: list[Tensor], picked: list[tuple[Tensor, Tensor]], place: Tensor) -> Tensor:
    """The sum over a block, in the type of the computation."""
    dtype = dense[0].dtype if dense else picked[0][0].dtype
    total = torch.zeros(place.shape, dtype=dtype, device=place.device)
    for value in dense:
        total.add_(value)
    return total


class GradientPass:
    """One pass that computes gradients."""

    def __init__(self, sweep: GradientSweep, table: Table) -> None:
        self.cut = sweep.cut
        self.axis = table.axis
        self.program = BlockProgram(sweep.procedure)
        self.streams: dict[str, list[Contribution]] = {}
        for entry in sorted(sweep.contributions, key=lambda entry: entry.at is not None):
            self.streams.setdefault(entry.stream, []).append(entry)

    def run(self, call: Call, targets: Mapping[str, Target]) -> None:
        """Adds what this pass contributes to the targets."""
        buffers = call.buffers()
        for block in cut(self.cut, call.sizes, call.rows):
            into = dict(self._into(targets, block))
            outputs = self.program.run(call.bound(self.program, block), buffers, into)
            for stream, entries in self.streams.items():
                self._add(targets[stream], entries, outputs, call, block)

    def _into(self, targets: Mapping[str, Target], block: Block) -> Any:
        """The memory into which the first value of a stream that is written once may go directly."""
        for stream, entries in self.streams.items():
            target, first = targets[stream], entries[0]
            if target.once and first.at is None and self.program.axes[first.output] == target.axes:
                yield first.output, part(target.value, target.axes, block)

    def _add(
        self, target: Target, entries: list[Contribution], outputs: dict[str, Tensor], call: Call, block: Block
    ) -> None:
        dense: list[Tensor] = []
        picked: list[tuple[Tensor, Tensor]] = []
        for entry in entries:
            value, have = outputs[entry.output], self.program.axes[entry.output]
            if entry.at is None:
                dense.append(reduced(value, have, target.axes))
            else:
                at = outputs[entry.at], self.program.axes[entry.at]
                picked.append(self._picked((value, have), at, target, call, block))
        target.add(dense, picked, block, target.axes.index(self.axis))

    def _picked(
        self, value: tuple[Tensor, Axes], at: tuple[Tensor, Axes], target: Target, call: Call, block: Block
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Values with the classes at which they are added, flattened over the axes that the stream lacks.

        A class that is out of range makes the row NaN.
        """
        rows = tuple(axis for axis in target.axes if axis != self.axis)
        every = dict.fromkeys((*rows, *value[1], *at[1]))
        axes = (*rows, *(axis for axis in every if axis not in rows))
        shape = call.shape(axes, block)
        number, index = (
            arranged(x, have, axes).expand(shape).reshape(*shape[: len(rows)], -1) for x, have in (value, at)
        )
        dim, last = target.axes.index(self.axis), call.sizes[self.axis] - 1
        number = torch.where(index > last, torch.nan, number)
        return number.movedim(-1, dim), index.clamp(0, last).movedim(-1, dim)


def arranged(tensor: Tensor, have: Axes, want: Axes) -> Tensor:
    """The tensor with the dimensions `want`; those that it lacks get extent 1."""
    tensor = tensor.permute([have.index(axis) for axis in want if axis in have])
    for at, axis in enumerate(want):
        if axis not in have:
            tensor = tensor.unsqueeze(at)
    return tensor


def reduced(tensor: Tensor, have: Axes, want: Axes) -> Tensor:
    """The sum over all axes outside `want`, with the dimensions `want`."""
    extra = [at for at, axis in enumerate(have) if axis not in want]
    return (
        arranged(tensor.sum(extra), tuple(a for a in have if a in want), want)
        if extra
        else arranged(tensor, have, want)
    )
