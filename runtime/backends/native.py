"""A compiled kernel function and its calling convention: data pointers, strides, extents, threads."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from lossc.compiler.kernels import Kernel
from lossc.compiler.kernels.c import Function, source
from lossc.runtime.backends.pool import POOL
from lossc.runtime.backends.toolchain import load

TYPES = {torch.float32: "f32", torch.float64: "f64", torch.bfloat16: "bf16", torch.float16: "f16", torch.bool: "bool",
         torch.int64: "i64"}  # fmt: skip
"""Storage types as kernels name them."""

WORTH_A_THREAD = 1 << 16
"""Entries of scores for which a thread is woken up: some 40 us of work, where waking and awaiting it costs 10 to 20."""

MOST = 1000
"""Shapes of which frames are kept."""

STREAMING_BYTES = 8 << 20
"""Gradients larger than this are stored past the caches."""


class _Call(ctypes.Structure):
    """The struct `call_t` of the C prelude."""

    _fields_ = (
        ("rows", ctypes.c_int64), ("classes", ctypes.c_int64), ("dimensions", ctypes.c_int64), ("threads", ctypes.c_int64),
        ("streaming", ctypes.c_int64), ("scratch", ctypes.c_int64), ("extents", ctypes.POINTER(ctypes.c_int64)),
        ("data", ctypes.POINTER(ctypes.c_void_p)), ("strides", ctypes.POINTER(ctypes.c_int64)), ("workspace", ctypes.c_void_p),
    )  # fmt: skip


Strides: TypeAlias = "tuple[tuple[int, ...] | None, ...]"
"""Of what each slot points to, those of its row axes where a row has its own entries."""


class Frame(NamedTuple):
    """The rows of a call: how many there are, and their axes as the C code sees them, with the strides of all operands."""

    rows: int
    dimensions: int
    extents: Any
    strides: Any
    pointers: Any


def _framed(extents: tuple[int, ...], strides: Strides) -> Frame:
    kept, steps = merged(extents, [each or (0,) * len(extents) for each in strides])
    return Frame(prod(extents), len(kept), (ctypes.c_int64 * len(kept))(*kept),
                 (ctypes.c_int64 * len(steps))(*steps), ctypes.c_void_p * len(strides))  # fmt: skip


class Native:
    """One function of one kernel for given storage types of its streams, built on first use."""

    def __init__(
        self, kernel: Kernel, function: Function, real: Literal["float", "double"], types: Mapping[str, str],
        wants: Sequence[str],
    ) -> None:  # fmt: skip
        self.source = source(kernel, function, real, types, wants)
        self.slots = self.source.slots
        self._real = 4 if real == "float" else 8
        self._library = load(self.source.text)
        self._function = getattr(self._library, function)
        self._function.argtypes = (ctypes.POINTER(_Call),)
        self._frames: dict[object, Frame] = {}

    def run(
        self, extents: tuple[int, ...], classes: int, tensors: Sequence[Tensor], strides: Strides, bytes_written: int
    ) -> None:
        """Runs over all rows; `tensors` and `strides` are those of the slots, in the order of the source."""
        frame = self._frame(extents, strides)
        threads = min(torch.get_num_threads(), 1 + frame.rows * classes // WORTH_A_THREAD)
        scratch = self._scratch(classes)
        workspace = POOL.empty((scratch * threads,), torch.uint8) if scratch else None
        call = _Call(
            frame.rows, classes, frame.dimensions, threads, int(bytes_written > STREAMING_BYTES), scratch,
            frame.extents, frame.pointers(*[tensor.data_ptr() for tensor in tensors]), frame.strides,
            workspace.data_ptr() if workspace is not None else None,
        )  # fmt: skip
        self._function(ctypes.byref(call))

    def _frame(self, extents: tuple[int, ...], strides: Strides) -> Frame:
        """Whatever calls over these rows have in common."""
        found = self._frames.get((extents, strides))
        if found is None:
            if len(self._frames) >= MOST:
                self._frames.clear()
            found = self._frames[extents, strides] = _framed(extents, strides)
        return found

    def _scratch(self, classes: int) -> int:
        """Bytes of scratch memory for each thread: values kept for each class, and sums of gradients without row axes."""
        padded = (classes + 15) // 16 * 16
        size = padded * (self.source.held * self._real + len(self.source.columns) * 8)
        return size + 256 if size else 0


def merged(extents: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """Row axes that are contiguous in every operand, merged into one: extents, and strides for each operand."""
    kept: list[int] = []
    columns: list[list[int]] = []
    for at, extent in enumerate(extents):
        column = [each[at] for each in strides]
        if extent == 1:
            continue
        if kept and all(outer == inner * extent for outer, inner in zip(columns[-1], column, strict=True)):
            kept[-1] *= extent
            columns[-1] = column
        else:
            kept.append(extent)
            columns.append(column)
    if not kept:
        kept, columns = [1], [[0] * len(strides)]
    return kept, [column[operand] for operand in range(len(strides)) for column in columns]
