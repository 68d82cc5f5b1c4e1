"""The backend `triton`: the kernels of statistic tables in Triton, on a GPU.

Where the upstream gradient of a sum over rows is expected, one kernel computes statistics and gradients, and its second
sweep over a row finds the row in the cache. Otherwise these are two kernels, and between them the seam runs in PyTorch.
Without a GPU, Triton's interpreter (`TRITON_INTERPRET=1`) runs the same kernels on CPU tensors, slowly; that is how
they are tested.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lossc.compiler.kernels import NoKernelError
from lossc.compiler.kernels.c import Function
from lossc.compiler.kernels.triton import TritonSource, entries_read, triton_source
from lossc.runtime.backends.c import Compiled
from lossc.runtime.backends.cache import kept
from lossc.runtime.backends.environment import Environment
from lossc.runtime.backends.kernel_calls import KernelCalls
from lossc.runtime.backends.native import Strides, merged
from lossc.runtime.backends.seam import Weights
from lossc.runtime.backends.toolchain import ToolchainError

LARGEST_BYTES = 1 << 16
"""Of all entries that a program holds at once."""

CONFIGURATIONS = ((1024, 4), (2048, 4), (2048, 8), (4096, 8), (8192, 16), (16384, 32))
"""Classes in a block and warps of a program, of which the fastest is taken. On sm_90 registers suffice for up to 16 classes a
thread; with 32 they are kept in memory."""

ROUNDS = 3


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@cache
def has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


class TritonFunction:
    """One function of one kernel for given storage types of its streams; its file is built on first use, and kept."""

    def __init__(
        self, calls: KernelCalls, function: Function, real: str, types: Mapping[str, str], wants: Sequence[str]
    ) -> None:
        self._calls = calls
        self._make: Callable[[int], TritonSource] = lambda dimensions: triton_source(
            calls.kernel, function, real, types, wants, dimensions
        )
        first = self._make(1)
        self.slots, self._sharp = first.slots, first.sharp
        self._bytes = max(1, entries_read(calls.kernel, types))
        self._kernels: dict[int, Any] = {}
        self._chosen: dict[int, tuple[int, int]] = {}

    def run(
        self, extents: tuple[int, ...], classes: int, tensors: Sequence[Tensor], strides: Strides, bytes_written: int
    ) -> None:
        """Runs over all rows."""
        rows = prod(extents)
        if not rows or not classes:
            return
        kept_, merged_ = merged(extents, [each or (0,) * len(extents) for each in strides])
        kernel = self._kernel(len(kept_))
        named = [at for at, slot in enumerate(self.slots) if slot.kind in ("stream", "argument")]
        steps = [stride for at in named for stride in merged_[at * len(kept_) : (at + 1) * len(kept_)]]
        arguments = [*map(_pointer, tensors), *steps, classes, *kept_]

        def launch(block: int, warps: int) -> None:
            kernel[(rows,)](*arguments, BLOCK=block, num_warps=warps, enable_fp_fusion=not self._sharp)

        with _current(tensors[0].device):
            launch(*self._configuration(classes, launch))

    def _kernel(self, dimensions: int) -> Any:
        if dimensions not in self._kernels:
            source = self._make(dimensions)
            self._kernels[dimensions] = getattr(_module(source.text), source.function)
        return self._kernels[dimensions]

    def _configuration(self, classes: int, launch: Callable[[int, int], None]) -> tuple[int, int]:
        """The fastest block size and number of warps for a number of classes, measured on first use."""
        widest = 1 << max(4, (classes - 1).bit_length())
        if widest not in self._chosen:
            fitting = [(block, warps) for block, warps in CONFIGURATIONS
                       if block <= widest and block * self._bytes <= LARGEST_BYTES]  # fmt: skip
            adds = any(slot.kind == "column" for slot in self.slots)
            if interpreted() or adds or len(fitting) < 2:
                self._chosen[widest] = fitting[0] if fitting else (min(widest, 1024), 4)
            else:
                self._chosen[widest] = min(fitting, key=lambda each: _time(lambda: launch(*each)))
        return self._chosen[widest]


def _current(device: torch.device) -> AbstractContextManager[object]:
    """Triton launches on the current device, which need not be that of the tensors."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _time(run: Callable[[], None]) -> float:
    """Milliseconds on the device; infinite where the device cannot run a configuration."""
    try:
        run()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        for _ in range(ROUNDS):
            run()
        end.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(end))
    except RuntimeError:
        return float("inf")


def _pointer(tensor: Tensor) -> Tensor:
    return tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor


@cache
def _module(text: str) -> Any:
    """The module of a generated file, from which Triton reads the source of its functions."""
    name = f"triton_{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"
    def write(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    file = kept(f"{name}.py", write)
    spec = importlib.util.spec_from_file_location(f"lossc_{name}", file)
    if spec is None or spec.loader is None:
        raise ToolchainError(f"{file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TritonCalls(KernelCalls):
    """The calls of one kernel."""

    def built(
        self, function: Function, real: Literal["float", "double"], types: Mapping[str, str], wants: Sequence[str]
    ) -> TritonFunction:
        return TritonFunction(self, function, real, types, wants)


class TritonTable(Compiled):
    """Runs one table; an `Operator`. A table without kernels, and any call off the GPU, runs on the backend `torch`."""

    name = "triton"
    ahead = True
    calls = TritonCalls

    def run(self, environment: Environment, weights: Weights | None = None) -> dict[str, Tensor]:
        """The roots of the table; `weights` are the upstream gradients expected at them."""
        if torch.compiler.is_compiling() or not self.serves(environment.like.device):
            return self.other.run(environment)
        if not has_triton():
            self.give_up(ToolchainError("triton is not installed"))
            return self.other.run(environment)
        try:
            return self._run(environment, weights or {})
        except NoKernelError as reason:
            self.give_up(reason)
            return self.other.run(environment)

    def serves(self, device: torch.device) -> bool:
        return not self._unable and (device.type == "cuda" or interpreted())


__all__ = ["TritonTable", "has_triton", "interpreted"]
