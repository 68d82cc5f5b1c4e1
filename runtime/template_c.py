"""The fixed half of a standalone module with C kernels: `standalone_c` pastes what is here behind the tables of one objective.

Statistics of rows come from one function of a kernel and gradients from another; all on rows between them is torch.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lossc.compiler.emission import Product
from lossc.runtime.backends.environment import in_type, shaped
from lossc.runtime.backends.native import STREAMING_BYTES, TYPES, _Call, merged
from lossc.runtime.backends.pool import POOL
from lossc.runtime.backends.seam import _Attached

Axes = tuple[str, ...]
Values = Mapping[str, tuple[Tensor, Axes]]

NAMES: Axes = ()
"""The tensors of the batch in the order of the program."""

SHAPES: tuple[Axes, ...] = ()
"""The axes of each."""

PARAMETER_NAMES: Axes = ()
MADE: dict[str, object] = {}
"""Axes that are made of others: the axis that each comes from, its extent, or several of which the least counts."""


class Known(NamedTuple):
    """What procedures read: tensors (those of rows under `@name`), parameters, extents, the type of the computation."""

    tensors: Mapping[str, Tensor]
    params: Mapping[str, Tensor]
    sizes: Mapping[str, int]
    like: Tensor

    def tensor(self, name: str) -> Tensor:
        return in_type(self.tensors[name], self.like)

    def having(self, tensors: Mapping[str, Tensor]) -> Known:
        return self._replace(tensors={**self.tensors, **tensors})

    def double(self) -> Known:
        """The same for what is worked out on rows, which is in double precision."""
        return self._replace(like=self.like.double())


Procedure = Callable[[Known], Values]


def known_of(like: Tensor, tensors: Sequence[Tensor], parameters: Sequence[Tensor], extents: Mapping[str, int]) -> Known:
    """The batch by name, with the extents of all axes."""
    sizes = dict(extents)
    for tensor, axes in zip(tensors, SHAPES, strict=True):
        sizes.update(zip(axes, tensor.shape, strict=True))
    for axis in MADE:
        sizes.setdefault(axis, made_extent(axis, sizes))
    named = dict(zip(NAMES, tensors, strict=True))
    return Known(named, dict(zip(PARAMETER_NAMES, parameters, strict=True)), sizes, like)


def made_extent(source: object, sizes: Mapping[str, int]) -> int:
    """The extent of an axis that is made of others."""
    while isinstance(source, str) and source in MADE:
        source = MADE[source]
    if isinstance(source, Product):
        return prod(made_extent(part, sizes) for part in source.axes)
    if isinstance(source, tuple):
        return min(made_extent(part, sizes) for part in source)
    return source if isinstance(source, int) else sizes[str(source)]


class Kernel(NamedTuple):
    """C functions over the rows of `streams`, which have the class axis `axis` and some of the axes `rows`.

    `statistics` computes the statistics of every row, `gradient` the gradients of `wants` from dL/d statistic. `slots` say
    what each function is passed, in order. `labels` are the statistics that are read at several labels of a row: the argument
    that holds the labels, and its further axes. A thread needs `scratch` bytes for each class.
    """

    source: str
    axis: str
    rows: Axes
    streams: tuple[tuple[str, str, Axes], ...]
    arguments: tuple[tuple[str, str], ...]
    labels: Mapping[str, tuple[str, Axes]]
    statistics: tuple[tuple[str, str, Axes], ...]
    slots: Mapping[str, tuple[tuple[str, str], ...]]
    wants: tuple[str, ...]
    scratch: int

    def axes_kept(self, name: str, axes: Axes) -> Axes:
        """The axes of a statistic as the functions have it."""
        return (*self.rows, *self.labels[name][1]) if name in self.labels else self.rows


STORED = {"number": torch.float64, "integer": torch.int64, "mask": torch.bool}


@cache
def library(source: str, real: str, types: tuple[str, ...]) -> ctypes.CDLL:
    """The kernels for numbers of these types, built by the compiler of the system and kept in the user's cache folder."""
    flags = ["-std=gnu11", "-O3", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-w", f"-DREAL={real}"]
    flags += [f"-DT{at}={type_}" for at, type_ in enumerate(types)]
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang") or "cc"
    tuned = [["-march=native", "-fopenmp", "-mprefer-vector-width=512"], ["-march=native", "-fopenmp"], ["-fopenmp"], []]
    try:
        machine = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").partition("\n\n")[0]
    except OSError:
        machine = ""
    machine = "".join(line for line in machine.splitlines() if line.startswith(("model name", "flags", "Features")))
    name = hashlib.sha256(repr((source, flags, compiler, machine)).encode()).hexdigest()[:32] + ".so"
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lossc"
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (base / name).exists():
        with tempfile.TemporaryDirectory(dir=base) as folder:
            text, target = Path(folder) / "kernels.c", Path(folder) / name
            text.write_text(source, encoding="utf-8")
            for extra in tuned:
                done = subprocess.run([compiler, *flags, *extra, text, "-o", target, "-lm"], capture_output=True, text=True)
                if done.returncode == 0:
                    break
            else:
                raise OSError(f"the C compiler failed: {done.stderr[:500]}")
            os.replace(target, base / name)
    return ctypes.CDLL(str(base / name))


class Call(NamedTuple):
    """What one call of a kernel reads."""

    kernel: Kernel
    sizes: Mapping[str, int]
    real: str
    streams: dict[str, tuple[Tensor, Axes]]
    arguments: dict[str, tuple[Tensor, Axes]]
    statistics: dict[str, Tensor]
    weights: dict[str, Tensor]

    def run(self, function: str) -> dict[tuple[str, str], Tensor]:
        """What is written, by kind and name."""
        kernel, written = self.kernel, dict[tuple[str, str], Tensor]()
        operands = [self.operand(kind, name, written) for kind, name in kernel.slots[function]]
        extents = [self.sizes[axis] for axis in kernel.rows]
        classes, threads = self.sizes[kernel.axis], torch.get_num_threads()
        kept, strides = merged(extents, [own or (0,) * len(extents) for _, own in operands])
        scratch = (classes + 15) // 16 * 16 * kernel.scratch + 256
        workspace = POOL.empty((scratch * threads,), torch.uint8)
        streaming = sum(value.nbytes for (kind, _), value in written.items() if kind == "gradient") > STREAMING_BYTES
        call = _Call(
            prod(extents), classes, len(kept), threads, int(streaming), scratch, (ctypes.c_int64 * len(kept))(*kept),
            (ctypes.c_void_p * len(operands))(*(tensor.data_ptr() for tensor, _ in operands)),
            (ctypes.c_int64 * len(strides))(*strides), workspace.data_ptr(),
        )  # fmt: skip
        types = tuple(TYPES[tensor.dtype] for tensor, _ in self.streams.values())
        getattr(library(kernel.source, self.real, types), function)(ctypes.byref(call))
        return written

    def operand(self, kind: str, name: str, written: dict[tuple[str, str], Tensor]) -> tuple[Tensor, tuple[int, ...] | None]:
        """The tensor of a slot, and its strides along rows where a row has its own entries."""
        kernel = self.kernel
        rows = [self.sizes[axis] for axis in kernel.rows]
        if kind in ("stream", "argument"):
            tensor, axes = (self.streams if kind == "stream" else self.arguments)[name]
            return tensor, tuple(tensor.stride(axes.index(axis)) if axis in axes else 0 for axis in kernel.rows)
        if kind == "labels":
            label, extra = kernel.labels[name]
            return shaped(*self.arguments[label], (*kernel.rows, *extra), self.sizes).to(torch.int64).contiguous(), None
        if kind == "extent":
            return torch.tensor(prod(self.sizes[axis] for axis in kernel.labels[name][1])), None
        if kind == "gradient":
            made = POOL.empty([*rows, self.sizes[kernel.axis]], self.streams[name][0].dtype)
        elif kind == "column":
            made = torch.zeros(self.sizes[kernel.axis], dtype=torch.float64)
        elif kind == "regular":
            made = self.statistics.get("", torch.empty(rows, dtype=torch.bool))
        else:
            made = self.on_rows(kind, name)
        written[kind, name] = made
        return made, None

    def on_rows(self, kind: str, name: str) -> Tensor:
        """A statistic or its coefficient, in the axes that the functions have."""
        type_, axes = next((type_, axes) for own, type_, axes in self.kernel.statistics if own == name)
        kept = self.kernel.axes_kept(name, axes)
        shape = [self.sizes[axis] for axis in kept]
        if kind == "coefficient":
            found, fresh = self.weights.get(name), torch.zeros(shape, dtype=torch.float64)
        else:
            found, fresh = self.statistics.get(name), torch.empty(shape, dtype=STORED[type_])
        return fresh if found is None else shaped(found, axes, kept, self.sizes).contiguous()


class Rows(torch.autograd.Function):
    """The statistics of all rows as functions of the streams."""

    @staticmethod
    def forward(ctx: Any, call: Call, *streams: Tensor) -> tuple[Tensor, ...]:
        ctx.call = call
        written = call.run("statistics")
        values = {"": written.get(("regular", ""), torch.empty(0, dtype=torch.bool))}
        for name, _, axes in call.kernel.statistics:
            kept = call.kernel.axes_kept(name, axes)
            values[name] = written["statistic", name].permute([kept.index(axis) for axis in axes])
        ctx.names = tuple(values)
        ctx.save_for_backward(*streams, *values.values())
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(value for value in values.values() if not value.is_floating_point()))
        return tuple(values.values())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        call: Call = ctx.call
        saved = ctx.saved_tensors
        streams = dict(zip(call.streams, saved, strict=False))
        held = dict(zip(ctx.names, saved[len(streams) :], strict=True))
        weights = {name: g.double() for name, g in zip(ctx.names, gradients, strict=True) if g is not None and name}
        placed = {name: (streams[name], axes) for name, (_, axes) in call.streams.items()}
        call = call._replace(streams=placed, statistics=held, weights=weights)
        written = call.run("gradient") if weights and call.kernel.wants else {}
        return None, *(gradient_of(call, name, written) for name in streams)


def gradient_of(call: Call, name: str, written: Mapping[tuple[str, str], Tensor]) -> Tensor | None:
    """The gradient of a stream, summed over the rows that it lacks."""
    tensor, axes = call.streams[name]
    if ("column", name) in written:
        return written["column", name].to(tensor.dtype)
    gradient = written.get(("gradient", name))
    if gradient is None:
        return None
    lacking = [at for at, axis in enumerate((*call.kernel.rows, call.kernel.axis)) if axis not in axes]
    return gradient.sum(lacking, dtype=torch.float64).to(tensor.dtype) if lacking else gradient


def with_statistics(kernel: Kernel, arguments: Procedure, known: Known) -> Known:
    """The same with the statistics of a kernel, under `@name`."""
    streams = {name: stream(kernel, source, axes, known) for name, source, axes in kernel.streams}
    with torch.no_grad():
        values = arguments(known.double())
    typed = {name: (values[name][0].detach().to(STORED[type_]), values[name][1]) for name, type_ in kernel.arguments}
    real = "double" if known.like.dtype == torch.float64 else "float"
    held = {name: (tensor.detach(), axes) for name, (tensor, axes) in streams.items()}
    call = Call(kernel, known.sizes, real, held, typed, {}, {})
    found = Rows.apply(call, *(tensor for tensor, _ in streams.values()))  # type: ignore[no-untyped-call]
    return known.having({f"@{name}": value for (name, *_), value in zip(kernel.statistics, found[1:], strict=True)})


def stream(kernel: Kernel, source: str, axes: Axes, known: Known) -> tuple[Tensor, Axes]:
    """A stream with its row axes in the order of the kernel and the class axis last."""
    place, _, name = source.partition(" ")
    tensor = (known.params if place == "parameter" else known.tensors)[name]
    if tensor.dtype == torch.float64 or known.like.dtype == torch.float64 or tensor.dtype not in TYPES:
        tensor = tensor if tensor.dtype == torch.bool else tensor.to(known.like.dtype)
    order = (*(axis for axis in kernel.rows if axis in axes), kernel.axis)
    tensor = tensor.permute([axes.index(axis) for axis in order])
    return (tensor if tensor.stride(-1) == 1 or tensor.shape[-1] <= 1 else tensor.contiguous()), order


class Delivered(NamedTuple):
    """A stream or row value that a torch operation delivers, with its axes, and what the operation reads.

    `attached` is the operation as it is differentiated, of which only the entries of the mask `@seen` are seen. What is read
    is a `tensor` or a `parameter`, with its name.
    """

    procedure: Procedure
    attached: Procedure
    name: str
    axes: Axes
    reads: tuple[tuple[str, str], ...]

    def value(self, known: Known, read: Sequence[Tensor], upstream: Tensor | None = None) -> Tensor:
        """Its value; with the gradient that arrives at it, to be differentiated."""
        tensors, params = dict(known.tensors), dict(known.params)
        for (place, name), value in zip(self.reads, read, strict=True):
            (params if place == "parameter" else tensors)[name] = value
        procedure = self.procedure
        if upstream is not None:
            tensors["@seen"], procedure = upstream != 0, self.attached
        value, axes = procedure(known._replace(tensors=tensors, params=params))[self.name]
        return shaped(value, axes, self.axes, known.sizes)


class Provided(torch.autograd.Function):
    """What an operation delivers; where no gradient arrives none leaves it, though the operation has no slope there."""

    @staticmethod
    def forward(ctx: Any, delivered: Delivered, known: Known, *read: Tensor) -> Tensor:
        ctx.delivered, ctx.known = delivered, known
        ctx.save_for_backward(*read)
        return delivered.value(known, read).contiguous()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[2:]
        with torch.enable_grad():
            held = [value.detach().requires_grad_(need) for value, need in zip(ctx.saved_tensors, needed, strict=True)]
            value = ctx.delivered.value(ctx.known, held, upstream)
        wanted = [value for value in held if value.requires_grad]
        if not value.requires_grad:
            return (None,) * (2 + len(needed))
        found = iter(torch.autograd.grad(value, wanted, upstream.to(value.dtype), allow_unused=True))
        return None, None, *(next(found) if need else None for need in needed)


def provided(delivered: Delivered, known: Known) -> Tensor:
    """What an operation delivers."""
    read = [(known.params if place == "parameter" else known.tensors)[name] for place, name in delivered.reads]
    value: Tensor = Provided.apply(delivered, known, *read)  # type: ignore[no-untyped-call]
    return value


def with_delivered(delivered: Delivered, known: Known) -> Known:
    """The same with what an operation delivers, under `@name`."""
    return known.having({f"@{delivered.name}": provided(delivered, known)})


class Stage(NamedTuple):
    """Row values of which statistics are functions too: `receiving` are those statistics, with their axes and row values.

    A row value is one of `values`, which `slopes` attach to the `leaves` that it is made of, or one of `mixed`.
    """

    values: Procedure
    slopes: Procedure
    leaves: Mapping[str, tuple[tuple[str, str, Axes], ...]]
    mixed: tuple[Delivered, ...]
    sensitivities: Procedure
    receiving: tuple[tuple[str, Axes, tuple[str, ...]], ...]


def through_stage(stage: Stage, known: Known) -> Known:
    """The same with statistics that pass gradient to the row values in their bodies."""
    rows: dict[str, tuple[Tensor, Axes]] = {}
    for mixed in stage.mixed:
        rows[mixed.name] = provided(mixed, known), mixed.axes
    with torch.no_grad():
        values, slopes, sensitivities = stage.values(known), stage.slopes(known), stage.sensitivities(known)
    for name, (computed, axes) in values.items():
        value = computed.detach()
        for at, (place, leaf, order) in enumerate(stage.leaves[name]):
            made_of = in_type((known.params if place == "parameter" else known.tensors)[leaf], known.like)
            if made_of.requires_grad:
                parts = shaped(made_of, order, axes, known.sizes), shaped(*slopes[f"{name} {at}"], axes, known.sizes)
                value = _Attached.apply(value, *parts)  # type: ignore[no-untyped-call]
        rows[name] = value, axes
    found = {}
    for name, axes, sources in stage.receiving:
        value = known.tensors[f"@{name}"]
        for source in sources:
            slope = shaped(*sensitivities[f"{name} {source}"], axes, known.sizes)
            value = _Attached.apply(value, shaped(*rows[source], axes, known.sizes), slope)  # type: ignore[no-untyped-call]
        found[f"@{name}"] = value
    return known.having(found)
