"""The calls of one kernel on one batch: what its slots point to, and its results as tensors of the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Literal, Protocol

import torch
from torch import Tensor

from lossc.compiler.emission import emit
from lossc.compiler.kernels import Argument, Kernel
from lossc.compiler.kernels.c import Function, Slot
from lossc.compiler.table import Statistic, Stream
from lossc.runtime.backends.environment import Environment, in_double, shaped
from lossc.runtime.backends.native import TYPES, Native, Operand
from lossc.runtime.backends.pool import POOL
from lossc.runtime.backends.reference import Executable

Axes = tuple[str, ...]
STORED = {"argmax": torch.int64, "any": torch.bool}


@dataclass
class Given:
    """What the calls of a kernel are given: streams and arguments, each with its axes, extents, and statistics so far.

    `double` says that loops over classes are in double precision; row values always are.
    """

    streams: dict[str, tuple[Tensor, Axes]]
    arguments: dict[str, tuple[Tensor, Axes]]
    sizes: Mapping[str, int]
    double: bool
    statistics: Mapping[str, Tensor] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        return next(iter(self.streams.values()))[0].device


@dataclass
class Written:
    """What a call writes, by stream and statistic; `columns` are sums over rows in double precision.

    `regular` are the flags of regular rows.
    """

    statistics: dict[str, Tensor] = field(default_factory=dict)
    regular: Tensor | None = None
    gradients: dict[str, Tensor] = field(default_factory=dict)
    columns: dict[str, Tensor] = field(default_factory=dict)


class Built(Protocol):
    """One function of a kernel for streams of given types: the slots of its data, and a run over all rows."""

    @property
    def slots(self) -> tuple[Slot, ...]: ...

    def run(self, extents: Sequence[int], classes: int, operands: Sequence[Operand], bytes_written: int) -> None: ...


class KernelCalls:
    """One kernel ready to be called.

    Statistics are in double precision, with the axes of their rows in alphabetical order, as in the table.
    """

    def __init__(self, kernel: Kernel, number: int) -> None:
        """`number` tells the kernels of one table apart."""
        self.kernel = kernel
        self.flags = f"@regular {number}"
        self.named = {s.name: s for s in kernel.every}
        self.extra = {point.statistic.name: point for point in kernel.points if point.extra}
        self._natives: dict[object, Built] = {}
        self._arguments = Executable(emit({argument.leaf.name: argument.value for argument in kernel.arguments}))

    # -------------------------------------------------------------------------------------- calls

    def given(self, known: Environment) -> Given:
        """What all functions read."""
        streams = {stream.name: self._stream(stream, known) for stream in self.kernel.streams}
        values = in_double(known).run(self._arguments)
        arguments = {a.leaf.name: self._typed(a, *values[a.leaf.name]) for a in self.kernel.arguments}
        kept = {name: tensor for name, tensor in known.tensors.items() if name[1:] in self.named or name == self.flags}
        return Given(streams, arguments, known.sizes, known.like.dtype == torch.float64, kept)

    def statistics(self, given: Given) -> dict[str, Tensor]:
        """The statistics of all rows, by the names of their leaves."""
        return self._delivered(self.call("statistics", given, ()))

    def visit(self, given: Given, wanted: frozenset[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The statistics, and the gradients of the wanted streams for the weights that are among the tensors."""
        wants = self.wants(wanted)
        written = self.call("visit" if wants else "statistics", given, wants)
        return self._delivered(written), dict(self._gradients(written, given))

    def gradient(self, given: Given, wanted: frozenset[str]) -> dict[str, Tensor]:
        """The gradients of the wanted streams from the statistics and their weights."""
        wants = self.wants(wanted)
        if not wants or not any(name in self.named for name in given.weights):
            return {}
        return dict(self._gradients(self.call("gradient", given, wants), given))

    def wants(self, wanted: frozenset[str]) -> tuple[str, ...]:
        return tuple(stream.name for stream in self.kernel.differentiable if stream.name in wanted)

    def call(self, function: Function, given: Given, wants: Sequence[str]) -> Written:
        """Runs a function over all rows."""
        native = self._native(function, given, wants)
        written = Written()
        operands = [self._operand(slot, given, written) for slot in native.slots]
        bytes_ = sum(gradient.nbytes for gradient in written.gradients.values())
        native.run([given.sizes[axis] for axis in self.kernel.rows], given.sizes[self.kernel.axis], operands, bytes_)
        return written

    def _native(self, function: Function, given: Given, wants: Sequence[str]) -> Built:
        types = {name: TYPES[tensor.dtype] for name, (tensor, _) in given.streams.items()}
        key = (function, given.double, tuple(types.values()), tuple(wants))
        if key not in self._natives:
            real: Literal["float", "double"] = "double" if given.double else "float"
            self._natives[key] = self.built(function, real, types, wants)
        return self._natives[key]

    def built(
        self, function: Function, real: Literal["float", "double"], types: Mapping[str, str], wants: Sequence[str]
    ) -> Built:
        """A function of the kernel, compiled."""
        return Native(self.kernel, function, real, types, wants)

    # -------------------------------------------------------------------------------------- what is read

    def _stream(self, stream: Stream, known: Environment) -> tuple[Tensor, Axes]:
        """Its tensor with row axes in the order of the kernel, those that it lacks left out, and the class axis last."""
        tensor, axes = _tensor_of(stream, known)
        if tensor.dtype not in TYPES:
            tensor = tensor.to(torch.int64)
        elif tensor.dtype == torch.float64 or (known.like.dtype == torch.float64 and tensor.is_floating_point()):
            tensor = tensor.to(known.like.dtype)
        order = (*(axis for axis in self.kernel.rows if axis in axes), self.kernel.axis)
        tensor = tensor.permute([axes.index(axis) for axis in order])
        return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] <= 1 else tensor.contiguous(), order

    def _typed(self, argument: Argument, tensor: Tensor, axes: Axes) -> tuple[Tensor, Axes]:
        return tensor.to({"number": torch.float64, "integer": torch.int64, "mask": torch.bool}[argument.type]), axes

    def _label_of(self, statistic: str) -> str:
        at = self.named[statistic].at
        return next(argument.leaf.name for argument in self.kernel.arguments if argument.leaf is at)

    # -------------------------------------------------------------------------------------- slots

    def _operand(self, slot: Slot, given: Given, written: Written) -> Operand:
        name = slot.name
        match slot.kind:
            case "stream":
                return self._by_row(*given.streams[name])
            case "argument":
                return self._by_row(*given.arguments[name])
            case "labels":
                wanted = (*self.kernel.rows, *self.extra[name].extra)
                labels = shaped(*given.arguments[self._label_of(name)], wanted, given.sizes)
                return Operand(labels.to(torch.int64).contiguous())
            case "extent":
                return Operand(torch.tensor(prod(given.sizes[axis] for axis in self.extra[name].extra), device=given.device))
            case "regular":
                return Operand(self._regular(given, written))
            case "statistic":
                return Operand(self._statistic(self.named[name], given, written))
            case "coefficient":
                return Operand(self._coefficient(self.named[name], given))
            case "column":
                written.columns[name] = torch.zeros(given.sizes[self.kernel.axis], dtype=torch.float64, device=given.device)
                return Operand(written.columns[name])
        shape = [given.sizes[axis] for axis in (*self.kernel.rows, self.kernel.axis)]
        written.gradients[name] = _empty(shape, given.streams[name][0].dtype, given.device)
        return Operand(written.gradients[name])

    def _by_row(self, tensor: Tensor, axes: Axes) -> Operand:
        strides = [tensor.stride(axes.index(axis)) if axis in axes else 0 for axis in self.kernel.rows]
        return Operand(tensor, tuple(strides))

    def axes_kept(self, statistic: Statistic) -> Axes:
        """The axes of a statistic as the kernel keeps it."""
        point = self.extra.get(statistic.name)
        return (*self.kernel.rows, *(point.extra if point else ()))

    def _statistic(self, statistic: Statistic, given: Given, written: Written) -> Tensor:
        """Where a statistic is written, or read when it is known."""
        axes = self.axes_kept(statistic)
        known = given.statistics.get(f"@{statistic.name}")
        if known is not None:
            return shaped(known, statistic.rows, axes, given.sizes).contiguous()
        shape = [given.sizes[axis] for axis in axes]
        written.statistics[statistic.name] = torch.empty(shape, dtype=stored(statistic), device=given.device)
        return written.statistics[statistic.name]

    def _regular(self, given: Given, written: Written) -> Tensor:
        if self.flags in given.statistics:
            return given.statistics[self.flags]
        written.regular = torch.empty([given.sizes[axis] for axis in self.kernel.rows], dtype=torch.bool)
        return written.regular

    def _coefficient(self, statistic: Statistic, given: Given) -> Tensor:
        axes = self.axes_kept(statistic)
        weight = given.weights.get(statistic.name)
        if weight is None:
            return torch.zeros([given.sizes[axis] for axis in axes], dtype=torch.float64, device=given.device)
        return shaped(weight, statistic.rows, axes, given.sizes).to(torch.float64).contiguous()

    # -------------------------------------------------------------------------------------- what is written

    def _delivered(self, written: Written) -> dict[str, Tensor]:
        found = {}
        for name, value in written.statistics.items():
            axes, rows = self.axes_kept(self.named[name]), self.named[name].rows
            found[f"@{name}"] = value if axes == rows else value.permute([axes.index(axis) for axis in rows])
        return found if written.regular is None else {**found, self.flags: written.regular}

    def _gradients(self, written: Written, given: Given) -> Iterator[tuple[str, Tensor]]:
        """Gradients with the dimensions of their streams, summed over the rows that a stream lacks."""
        for name, gradient in written.gradients.items():
            tensor, own = given.streams[name]
            have = (*self.kernel.rows, self.kernel.axis)
            extra = [at for at, axis in enumerate(have) if axis not in own]
            if extra:
                gradient = gradient.sum(extra, dtype=torch.float64).to(tensor.dtype)
                have = tuple(axis for axis in have if axis in own)
            axes = next(axes_of(stream) for stream in self.kernel.streams if stream.name == name)
            yield name, gradient.permute([have.index(axis) for axis in axes])
        for name, column in written.columns.items():
            yield name, column.to(given.streams[name][0].dtype)


def _empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    return POOL.empty(shape, dtype) if device.type == "cpu" else torch.empty(tuple(shape), dtype=dtype, device=device)


def stored(statistic: Statistic) -> torch.dtype:
    """The type in which a statistic is kept."""
    return torch.bool if statistic.leaf.is_mask else STORED.get(statistic.op, torch.float64)


def axes_of(stream: Stream) -> Axes:
    """The axes of the dimensions of a stream's tensor."""
    direct = stream.provider in ("tensor", "parameter")
    return tuple(getattr(stream.leaf, "order", ())) if direct else tuple(sorted(stream.leaf.axes))


def _tensor_of(stream: Stream, known: Environment) -> tuple[Tensor, Axes]:
    axes = axes_of(stream)
    if stream.provider == "parameter":
        return known.params[stream.name], axes
    return known.tensors[stream.name if stream.provider == "tensor" else f"@{stream.name}"], axes
