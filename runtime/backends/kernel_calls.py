"""The calls of one kernel on one batch: what its slots point to, and its results as tensors of the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import torch
from torch import Tensor

from lossc.compiler.core import Node
from lossc.compiler.emission import emit
from lossc.compiler.kernels import Argument, Kernel
from lossc.compiler.kernels.c import Function, Slot
from lossc.compiler.table import Statistic, Stream
from lossc.runtime.backends.native import TYPES, Native, Operand
from lossc.runtime.backends.pool import POOL
from lossc.runtime.backends.reference import Executable
from lossc.runtime.backends.seam import Environment, shaped

STORED = {"argmax": torch.int64, "any": torch.bool}


@dataclass
class Buffers:
    """What a call writes, by stream and statistic; `columns` are sums over rows in double precision.

    `regular` has the flags of regular rows.
    """

    statistics: dict[str, Tensor] = field(default_factory=dict)
    regular: dict[str, Tensor] = field(default_factory=dict)
    gradients: dict[str, Tensor] = field(default_factory=dict)
    columns: dict[str, Tensor] = field(default_factory=dict)


def in_double(known: Environment) -> Environment:
    """The same for what is worked out on rows: in double precision, which costs nothing there."""
    return replace(known, like=known.like.double())


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
        self._natives: dict[object, Native] = {}
        self._arguments: dict[tuple[str, ...], Executable] = {}

    # -------------------------------------------------------------------------------------- calls

    def statistics(self, known: Environment) -> dict[str, Tensor]:
        """The statistics of all rows, by the names of their leaves."""
        written = self._call("statistics", known, (), {})
        return {**self._delivered(written.statistics), **written.regular}

    def visit(self, known: Environment, wanted: frozenset[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The statistics, and the gradients of the wanted streams for the weights that are among the tensors."""
        wants = self._wants(wanted)
        written = self._call("visit" if wants else "statistics", known, wants, {})
        return {**self._delivered(written.statistics), **written.regular}, self._gradients(written, known)

    def gradient(self, known: Environment, weights: Mapping[str, Tensor], wanted: frozenset[str]) -> dict[str, Tensor]:
        """The gradients of the wanted streams from dL/d statistic."""
        wants = self._wants(wanted)
        if not wants or not any(name in self.named for name in weights):
            return {}
        return self._gradients(self._call("gradient", known, wants, weights), known)

    def _wants(self, wanted: frozenset[str]) -> tuple[str, ...]:
        return tuple(stream.name for stream in self.kernel.differentiable if stream.name in wanted)

    def _call(
        self, function: Function, known: Environment, wants: Sequence[str], weights: Mapping[str, Tensor]
    ) -> Buffers:
        streams = {stream.name: self._stream(stream, known) for stream in self.kernel.streams}
        native = self._native(function, known, {name: tensor.dtype for name, tensor in streams.items()}, wants)
        extents = [known.sizes[axis] for axis in self.kernel.rows]
        written = Buffers()
        arguments = self._evaluated(native, known)
        operands = [self._operand(slot, known, streams, arguments, weights, written) for slot in native.source.slots]
        bytes_ = sum(gradient.nbytes for gradient in written.gradients.values())
        native.run(extents, known.sizes[self.kernel.axis], operands, bytes_)
        return written

    def _native(
        self, function: Function, known: Environment, types: Mapping[str, torch.dtype], wants: Sequence[str]
    ) -> Native:
        key = (function, known.like.dtype, tuple(types.values()), tuple(wants))
        if key not in self._natives:
            real = "double" if known.like.dtype == torch.float64 else "float"
            named = {name: TYPES[dtype] for name, dtype in types.items()}
            self._natives[key] = Native(self.kernel, function, real, named, wants)  # type: ignore[arg-type]
        return self._natives[key]

    # -------------------------------------------------------------------------------------- what is read

    def _stream(self, stream: Stream, known: Environment) -> Tensor:
        """Its tensor with row axes in the order of the kernel, those that it lacks left out, and the class axis last."""
        tensor, axes = _tensor_of(stream, known)
        if tensor.dtype not in TYPES:
            tensor = tensor.to(torch.int64)
        elif tensor.dtype == torch.float64:
            tensor = tensor.to(known.like.dtype)
        order = [*(axis for axis in self.kernel.rows if axis in axes), self.kernel.axis]
        tensor = tensor.permute([axes.index(axis) for axis in order])
        return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] <= 1 else tensor.contiguous()

    def _strides(self, tensor: Tensor, axes: Sequence[str]) -> tuple[int, ...]:
        return tuple(tensor.stride(axes.index(axis)) if axis in axes else 0 for axis in self.kernel.rows)

    def _evaluated(self, native: Native, known: Environment) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
        """The arguments that a function reads."""
        names = tuple(slot.name for slot in native.source.slots if slot.kind == "argument")
        names += tuple(
            self._label_of(name).leaf.name for name in self.extra if Slot("labels", name) in native.source.slots
        )
        if names not in self._arguments:
            values: dict[str, Node] = {a.leaf.name: a.value for a in self.kernel.arguments if a.leaf.name in names}
            self._arguments[names] = Executable(emit(values))
        return in_double(known).run(self._arguments[names])

    def _label_of(self, statistic: str) -> Argument:
        at = self.named[statistic].at
        return next(argument for argument in self.kernel.arguments if argument.leaf is at)

    # -------------------------------------------------------------------------------------- slots

    def _operand(
        self, slot: Slot, known: Environment, streams: Mapping[str, Tensor],
        arguments: Mapping[str, tuple[Tensor, tuple[str, ...]]], weights: Mapping[str, Tensor], written: Buffers,
    ) -> Operand:  # fmt: skip
        name = slot.name
        match slot.kind:
            case "stream":
                axes = _tensor_of(self._named_stream(name), known)[1]
                ordered = [axis for axis in self.kernel.rows if axis in axes]
                return Operand(streams[name], self._strides(streams[name], ordered))
            case "argument":
                tensor, axes = arguments[name]
                tensor = self._typed(tensor, name)
                return Operand(tensor, self._strides(tensor, axes))
            case "labels":
                tensor, axes = arguments[self._label_of(name).leaf.name]
                wanted = (*self.kernel.rows, *self.extra[name].extra)
                return Operand(shaped(tensor, axes, wanted, known.sizes).to(torch.int64).contiguous())
            case "extent":
                return Operand(torch.tensor(prod(known.sizes[axis] for axis in self.extra[name].extra)))
            case "regular":
                return Operand(self._regular(known, written))
            case "statistic":
                return Operand(self._statistic(self.named[name], known, written))
            case "coefficient":
                return Operand(self._coefficient(self.named[name], known, weights.get(name)))
            case "column":
                written.columns[name] = torch.zeros(known.sizes[self.kernel.axis], dtype=torch.float64)
                return Operand(written.columns[name])
        shape = [known.sizes[axis] for axis in (*self.kernel.rows, self.kernel.axis)]
        written.gradients[name] = POOL.empty(shape, streams[name].dtype)
        return Operand(written.gradients[name])

    def _typed(self, tensor: Tensor, leaf: str) -> Tensor:
        type_ = next(argument.type for argument in self.kernel.arguments if argument.leaf.name == leaf)
        return tensor.to({"number": torch.float64, "integer": torch.int64, "mask": torch.bool}[type_])

    def _named_stream(self, name: str) -> Stream:
        return next(stream for stream in self.kernel.streams if stream.name == name)

    def _axes_of(self, statistic: Statistic) -> tuple[str, ...]:
        """The axes of a statistic as the kernel keeps it."""
        point = self.extra.get(statistic.name)
        return (*self.kernel.rows, *(point.extra if point else ()))

    def _statistic(self, statistic: Statistic, known: Environment, written: Buffers) -> Tensor:
        """Where a statistic is written, or read when it is known."""
        axes = self._axes_of(statistic)
        if f"@{statistic.name}" in known.tensors:
            return shaped(known.tensors[f"@{statistic.name}"], statistic.rows, axes, known.sizes).contiguous()
        dtype = torch.bool if statistic.leaf.is_mask else STORED.get(statistic.op, torch.float64)
        written.statistics[statistic.name] = torch.empty([known.sizes[axis] for axis in axes], dtype=dtype)
        return written.statistics[statistic.name]

    def _regular(self, known: Environment, written: Buffers) -> Tensor:
        if self.flags in known.tensors:
            return known.tensors[self.flags]
        written.regular[self.flags] = torch.empty([known.sizes[axis] for axis in self.kernel.rows], dtype=torch.bool)
        return written.regular[self.flags]

    def _coefficient(self, statistic: Statistic, known: Environment, weight: Tensor | None) -> Tensor:
        axes = self._axes_of(statistic)
        if weight is None:
            return torch.zeros([known.sizes[axis] for axis in axes], dtype=torch.float64)
        return shaped(weight, statistic.rows, axes, known.sizes).to(torch.float64).contiguous()

    # -------------------------------------------------------------------------------------- what is written

    def _delivered(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = {}
        for name, value in values.items():
            axes = self._axes_of(self.named[name])
            found[f"@{name}"] = value.permute([axes.index(axis) for axis in self.named[name].rows])
        return found

    def _gradients(self, written: Buffers, known: Environment) -> dict[str, Tensor]:
        return dict(self._shaped_gradients(written, known))

    def _shaped_gradients(self, written: Buffers, known: Environment) -> Iterator[tuple[str, Tensor]]:
        """Gradients with the dimensions of their streams, summed over the rows that a stream lacks."""
        for name, gradient in written.gradients.items():
            tensor, axes = _tensor_of(self._named_stream(name), known)
            have = (*self.kernel.rows, self.kernel.axis)
            extra = [at for at, axis in enumerate(have) if axis not in axes]
            if extra:
                gradient = gradient.sum(extra, dtype=known.like.dtype).to(tensor.dtype)
                have = tuple(axis for axis in have if axis in axes)
            yield name, gradient.permute([have.index(axis) for axis in axes])
        for name, column in written.columns.items():
            tensor, _ = _tensor_of(self._named_stream(name), known)
            yield name, column.to(tensor.dtype)


def _tensor_of(stream: Stream, known: Environment) -> tuple[Tensor, tuple[str, ...]]:
    """The tensor of a stream and the axes of its dimensions."""
    axes = tuple(getattr(stream.leaf, "order", sorted(stream.leaf.axes)))
    if stream.provider == "parameter":
        return known.params[stream.name], axes
    if stream.provider == "tensor":
        return known.tensors[stream.name], axes
    return known.tensors[f"@{stream.name}"], tuple(sorted(stream.leaf.axes))
