"""Compiled row programs: computation around the sweeps over classes costs one call instead of dozens of operations."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor

from lossc.compiler.core import Node
from lossc.compiler.emission import Procedure
from lossc.compiler.rows import NoRowsError, Output, RowProgram, row_program
from lossc.runtime.backends.environment import Environment
from lossc.runtime.backends.native import TYPES
from lossc.runtime.backends.toolchain import ToolchainError, load

LARGEST = 1 << 18
"""Entries of a loop from which on torch, which shares work among threads, does as well."""

MOST = 1000
"""Shapes for which what is ready is kept."""

DTYPES = {"integer": torch.int64, "mask": torch.bool}
REALS: dict[torch.dtype, Literal["float", "double"]] = {torch.float32: "float", torch.float64: "double"}


class Ready(NamedTuple):
    """A row program for tensors of given types, shapes and strides."""

    function: Callable[..., int]
    extents: Any
    strides: Any
    pointers: Any
    outputs: tuple[tuple[str, tuple[int, ...], torch.dtype], ...]


class Rows:
    """Values on rows; `run` returns them, or None where only PyTorch operations can compute them."""

    def __init__(self, values: Mapping[str, Node], outputs: Sequence[Output]) -> None:
        self._ready: dict[object, Ready | None] = {}
        self._functions: dict[object, Callable[..., int] | None] = {}
        self._program: RowProgram | None = None
        try:
            self._program = row_program(values, outputs)
        except NoRowsError:
            return
        self._readings = tuple((reading.kind == "param", reading.name) for reading in self._program.readings)
        self._axes = self._program.axes

    def serves(self, sizes: Mapping[str, int]) -> bool:
        """Whether there is a program for these extents, as far as is known."""
        if self._program is None or any(axis not in sizes for axis in self._axes):
            return False
        return max((prod(sizes[axis] for axis in loop) for loop in self._program.loops), default=0) <= LARGEST

    def run(self, known: Environment, *, double: bool = False) -> dict[str, Tensor] | None:
        """The values by name, in the type of the computation or in `double` precision, without gradient."""
        if self._program is None or torch.compiler.is_compiling() or not known.like.is_cpu:
            return None
        tensors, params, sizes = known.tensors, known.params, known.sizes
        read = [params[name] if is_param else tensors[name] for is_param, name in self._readings]
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in read):
            return None
        dtype = torch.float64 if double else known.like.dtype
        key = (dtype, *[sizes.get(axis) for axis in self._axes], *[(x.dtype, x.stride()) for x in read])
        if key not in self._ready:
            if len(self._ready) >= MOST:
                self._ready.clear()
            self._ready[key] = self._prepared(sizes, read, dtype)
        ready = self._ready[key]
        return None if ready is None else _called(ready, read)

    def _prepared(self, sizes: Mapping[str, int], read: Sequence[Tensor], dtype: torch.dtype) -> Ready | None:
        program = self._program
        if program is None or not self.serves(sizes):
            return None
        types = tuple(x.dtype for x in read)
        if (types, dtype) not in self._functions:
            self._functions[types, dtype] = _function(program, types, dtype)
        function = self._functions[types, dtype]
        if function is None:
            return None
        strides = [stride for x in read for stride in x.stride()]
        outputs = tuple(
            (out.name, tuple(sizes[axis] for axis in out.axes), DTYPES.get(out.type, dtype))
            for out in program.outputs
        )
        extents = [sizes[axis] for axis in program.axes]
        return Ready(function, (ctypes.c_int64 * len(extents))(*extents), (ctypes.c_int64 * len(strides))(*strides),
                     ctypes.c_void_p * (len(read) + len(outputs)), outputs)  # fmt: skip


def _function(program: RowProgram, types: Sequence[torch.dtype], dtype: torch.dtype) -> Callable[..., int] | None:
    """The program for inputs of these types, built on first use; None where it cannot be built."""
    if any(each not in TYPES for each in types):
        return None
    try:
        found = load(program.text([TYPES[each] for each in types], REALS[dtype])).on_rows
    except ToolchainError:
        return None
    found.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_double)
    return cast(Callable[..., int], found)


def _called(ready: Ready, read: Sequence[Tensor]) -> dict[str, Tensor]:
    found = {name: torch.empty(shape, dtype=dtype) for name, shape, dtype in ready.outputs}
    data = ready.pointers(*[x.data_ptr() for x in read], *[x.data_ptr() for x in found.values()])
    if ready.function(ready.extents, data, ready.strides, 1.0):
        raise MemoryError("there is no memory left for values on rows")
    return found


def outputs_of(procedure: Procedure) -> list[Output]:
    """The outputs of a procedure, with their axes and types, as a row program has to deliver them."""
    return [Output(name, value.axes, value.type) for name, value in procedure.outputs.items()]
