"""Calls of one kernel on one batch: the memory that its slots point to, and its results as tensors of the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Literal

import torch
from torch import Tensor

from lossc.compiler.core import Input, walk
from lossc.compiler.kernels import Argument, Kernel
from lossc.compiler.kernels.c import Function, Slot
from lossc.compiler.table import Statistic, Stream
from lossc.runtime.backends.environment import Environment, stored
from lossc.runtime.backends.native import MOST, TYPES, Native
from lossc.runtime.backends.places import Built, Layout, Place, StreamForm, in_form
from lossc.runtime.backends.pool import empty_on
from lossc.runtime.backends.row_arguments import Arguments

Axes = tuple[str, ...]
CPU = torch.device("cpu")


@dataclass
class Given:
    """The inputs of a kernel's calls: streams and row values, each with its axes, extents, and the statistics so far.

    With `double`, loops over classes run in double precision; row values always do.
    """

    streams: dict[str, tuple[Tensor, Axes]]
    arguments: dict[str, tuple[Tensor, Axes]]
    sizes: Mapping[str, int]
    double: bool
    statistics: Mapping[str, Tensor] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    device: torch.device = CPU


@dataclass
class Written:
    """The results of a call, by stream and statistic.

    `columns` are sums over rows, in double precision; `regular` the flags of regular rows.
    """

    statistics: dict[str, Tensor] = field(default_factory=dict)
    regular: Tensor | None = None
    gradients: dict[str, Tensor] = field(default_factory=dict)
    columns: dict[str, Tensor] = field(default_factory=dict)


def _awaited(argument: Argument) -> Iterator[str]:
    """The statistics from which a row value is computed."""
    return (part.name for part in walk(argument.value) if isinstance(part, Input) and part.name.startswith("@"))


class KernelCalls:
    """One kernel, ready to be called.

    Statistics are in double precision, with their row axes in alphabetical order, as in the table.
    """

    def __init__(self, kernel: Kernel, number: int) -> None:
        """`number` distinguishes the kernels of one table."""
        self.kernel = kernel
        self.flags = f"@regular {number}"
        self._forms = {stream.name: StreamForm(axes_of(stream), kernel) for stream in kernel.streams}
        self._statistics = frozenset((self.flags, *(f"@{s.name}" for s in kernel.every)))
        self.named = {s.name: s for s in kernel.every}
        self.extra = {point.statistic.name: point for point in kernel.points if point.extra}
        extra = dict.fromkeys(axis for point in kernel.points for axis in point.extra)
        self.axes = (*kernel.rows, kernel.axis, *extra)
        leaves = {argument.leaf: argument.leaf.name for argument in kernel.arguments}
        self._labels = {point.statistic.name: leaves[at] for point in kernel.points if (at := point.statistic.at) in leaves}
        self._kept = {s.name: (self.axes_kept(s), s.rows) for s in kernel.every}
        self._natives: dict[object, Built] = {}
        self._layouts: dict[object, Layout] = {}
        self._reached = tuple(stream.name for stream in kernel.differentiable)
        self._arguments = Arguments(kernel.arguments)
        self._early: Arguments | None = None
        self._awaited = frozenset(name for argument in kernel.arguments for name in _awaited(argument))

    # -------------------------------------------------------------------------------------- calls

    def given(self, known: Environment) -> Given:
        """The inputs that all functions of the kernel read."""
        streams = {stream.name: self._stream(stream, known) for stream in self.kernel.streams}
        arguments = (self._arguments if self._awaited <= known.tensors.keys() else self._first(known)).run(known)
        kept = {name: tensor for name, tensor in known.tensors.items() if name in self._statistics}
        return Given(streams, arguments, known.sizes, known.like.dtype == torch.float64, kept, device=known.like.device)

    def _first(self, known: Environment) -> Arguments:
        """The inputs without row values that only gradients read and that need statistics of later kernels."""
        if self._early is None:
            there = [each for each in self.kernel.arguments if set(_awaited(each)) <= known.tensors.keys()]
            self._early = Arguments(there)
        return self._early

    def statistics(self, given: Given) -> dict[str, Tensor]:
        """The statistics of all rows, by the names of their leaves."""
        return self._delivered(self.call("statistics", given, ()))

    def visit(self, given: Given, wanted: frozenset[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The statistics, and the gradients of the wanted streams for the weights among the tensors."""
        wants = self.wants(wanted)
        written = self.call("visit" if wants else "statistics", given, wants)
        return self._delivered(written), dict(self._gradients(written, given))

    def gradient(self, given: Given, wanted: frozenset[str]) -> dict[str, Tensor]:
        """The gradients of the wanted streams, from the statistics and their coefficients."""
        wants = self.wants(wanted)
        if not wants or not any(name in self.named for name in given.weights):
            return {}
        return dict(self._gradients(self.call("gradient", given, wants), given))

    def wants(self, wanted: frozenset[str]) -> tuple[str, ...]:
        return tuple(name for name in self._reached if name in wanted)

    def call(self, function: Function, given: Given, wants: tuple[str, ...]) -> Written:
        """Runs a function of the kernel over all rows."""
        layout = self._layout(function, given, wants)
        written = Written()
        tensors = [self._tensor(place, given, written) for place in layout.places]
        layout.native.run(layout.extents, layout.classes, tensors, layout.strides, layout.bytes_written)
        return written

    def _layout(self, function: Function, given: Given, wants: tuple[str, ...]) -> Layout:
        """Whatever calls of a function with tensors of the same form have in common."""
        forms = [(x.dtype, x.stride()) for held in (given.streams, given.arguments) for x, _ in held.values()]
        key = (function, wants, given.double, *[given.sizes[axis] for axis in self.axes], *forms)
        found = self._layouts.get(key)
        if found is None:
            if len(self._layouts) >= MOST:
                self._layouts.clear()
            found = self._layouts[key] = self._laid_out(function, given, wants)
        return found

    def _laid_out(self, function: Function, given: Given, wants: Sequence[str]) -> Layout:
        native, sizes = self._native(function, given, wants), given.sizes
        places = tuple(self._place(slot, given) for slot in native.slots)
        bytes_ = sum(prod(place.shape) * place.dtype.itemsize for place in places if place.slot.kind == "gradient")
        strides, extents = tuple(place.strides for place in places), tuple(sizes[axis] for axis in self.kernel.rows)
        return Layout(native, places, strides, extents, sizes[self.kernel.axis], bytes_)

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
        """A function of the kernel, compiled on first use."""
        return Native(self.kernel, function, real, types, wants)

    # -------------------------------------------------------------------------------------- what is read

    def _stream(self, stream: Stream, known: Environment) -> tuple[Tensor, Axes]:
        """Its tensor with the row axes in the kernel's order, without those that it lacks, and the class axis last."""
        tensor = _tensor_of(stream, known)
        if tensor.dtype not in TYPES:
            tensor = tensor.to(torch.int64)
        elif tensor.dtype == torch.float64 or (known.like.dtype == torch.float64 and tensor.is_floating_point()):
            tensor = tensor.to(known.like.dtype)
        form = self._forms[stream.name]
        tensor = form.turned(tensor)
        return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] <= 1 else tensor.contiguous(), form.axes

    # -------------------------------------------------------------------------------------- slots

    def _place(self, slot: Slot, given: Given) -> Place:
        """The form of the memory that a slot points to."""
        name, sizes = slot.name, given.sizes
        strides, dtype, axes = None, torch.float64, self.kernel.rows
        match slot.kind:
            case "stream" | "argument":
                strides = self._by_row(*(given.streams if slot.kind == "stream" else given.arguments)[name])
            case "labels":
                dtype, axes = torch.int64, (*self.kernel.rows, *self.extra[name].extra)
            case "extent":
                dtype, axes = torch.int64, self.extra[name].extra
            case "regular":
                dtype = torch.bool
            case "statistic":
                dtype, axes = stored(self.named[name]), self.axes_kept(self.named[name])
            case "coefficient":
                axes = self.axes_kept(self.named[name])
            case "column":
                axes = (self.kernel.axis,)
            case "gradient":
                dtype, axes = given.streams[name][0].dtype, (*self.kernel.rows, self.kernel.axis)
        return Place(slot, strides, axes, tuple(sizes[axis] for axis in axes), dtype)

    def _by_row(self, tensor: Tensor, axes: Axes) -> tuple[int, ...]:
        return tuple(tensor.stride(axes.index(axis)) if axis in axes else 0 for axis in self.kernel.rows)

    def axes_kept(self, statistic: Statistic) -> Axes:
        """The axes of a statistic in the kernel's own order."""
        point = self.extra.get(statistic.name)
        return (*self.kernel.rows, *(point.extra if point else ()))

    def _tensor(self, place: Place, given: Given, written: Written) -> Tensor:
        """The tensor that a slot points to in one call."""
        name = place.slot.name
        match place.slot.kind:
            case "stream":
                return given.streams[name][0]
            case "argument":
                return given.arguments[name][0]
            case "labels":
                return in_form(*given.arguments[self._labels[name]], place, given.sizes)
            case "extent":
                return torch.tensor(prod(place.shape), device=given.device)
            case "regular":
                known = given.statistics.get(self.flags)
                if known is None:
                    known = written.regular = torch.empty(place.shape, dtype=place.dtype)
                return known
            case "statistic":
                return self._statistic(place, given, written)
            case "coefficient":
                weight = given.weights.get(name)
                if weight is None:
                    return torch.zeros(place.shape, dtype=place.dtype, device=given.device)
                return in_form(weight, self.named[name].rows, place, given.sizes)
            case "column":
                written.columns[name] = torch.zeros(place.shape, dtype=place.dtype, device=given.device)
                return written.columns[name]
        written.gradients[name] = empty_on(given.device, place.shape, place.dtype)
        return written.gradients[name]

    def _statistic(self, place: Place, given: Given, written: Written) -> Tensor:
        """The tensor into which a statistic is written, or from which it is read once it is known."""
        name = place.slot.name
        known = given.statistics.get(f"@{name}")
        if known is not None:
            return in_form(known, self.named[name].rows, place, given.sizes)
        written.statistics[name] = torch.empty(place.shape, dtype=place.dtype, device=given.device)
        return written.statistics[name]

    # -------------------------------------------------------------------------------------- what is written

    def _delivered(self, written: Written) -> dict[str, Tensor]:
        found = {}
        for name, value in written.statistics.items():
            axes, rows = self._kept[name]
            found[f"@{name}"] = value if axes == rows else value.permute([axes.index(axis) for axis in rows])
        return found if written.regular is None else {**found, self.flags: written.regular}

    def _gradients(self, written: Written, given: Given) -> Iterator[tuple[str, Tensor]]:
        """Gradients with the dimensions of their streams, summed over the row axes that a stream lacks."""
        for name, gradient in written.gradients.items():
            form = self._forms[name]
            if form.lacking:
                gradient = gradient.sum(form.lacking, dtype=torch.float64).to(given.streams[name][0].dtype)
            yield name, form.returned(gradient)
        for name, column in written.columns.items():
            yield name, column.to(given.streams[name][0].dtype)


def axes_of(stream: Stream) -> Axes:
    """The axes of the dimensions of a stream's tensor."""
    direct = stream.provider in ("tensor", "parameter")
    return tuple(getattr(stream.leaf, "order", ())) if direct else tuple(sorted(stream.leaf.axes))


def _tensor_of(stream: Stream, known: Environment) -> Tensor:
    if stream.provider == "parameter":
        return known.params[stream.name]
    return known.tensors[stream.name if stream.provider == "tensor" else f"@{stream.name}"]
