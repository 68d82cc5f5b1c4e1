"""Blocks of rows: how rows are cut, and how a procedure runs on one block after another within one set of buffers.

Allocating a tensor of several megabytes costs more than computing it, since its pages are mapped one by one. Wide
values are therefore written into buffers, which are reused as soon as nothing reads the value any more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossc.compiler.emission import Procedure, Slot
from lossc.runtime.backends.reference import lookup

Block = dict[str, tuple[int, int]]
"""Start and length along each axis that is cut."""

_LOG2E = 1 / math.log(2)

WIDE = 1 << 14
"""Entries from which on a value is worth a buffer."""

MASKS = frozenset({"torch.lt", "torch.le", "torch.gt", "torch.ge", "torch.eq", "torch.ne", "torch.logical_and",
                   "torch.logical_or", "torch.logical_not"})  # fmt: skip
NUMBERS = frozenset({"torch.add", "torch.mul", "torch.div", "torch.addcmul", "torch.abs", "torch.sqrt", "torch.log",
                     "torch.log1p", "torch.expm1", "torch.sigmoid", "torch.tanh", "torch.where",
                     "operations.exponential"})  # fmt: skip
"""Elementwise operations that write into a given tensor."""

VIEWS = frozenset({"torch.permute", "operations.align", "operations.expand", "torch.select", "torch.narrow", "torch.detach",
                   "operations.number"})  # fmt: skip
"""Operations whose result may be (a view of) their first argument."""


def cut(axes: Sequence[str], sizes: Mapping[str, int], rows: int) -> Iterator[Block]:
    """Blocks of at most `rows` rows (at least one), whole along the innermost axes; under torch.compile, one block."""
    if torch.compiler.is_compiling():
        yield {}
        return
    lengths: dict[str, int] = {}
    left = max(rows, 1)
    for axis in reversed(axes):
        lengths[axis] = min(max(sizes[axis], 1), left)
        left = left // lengths[axis] if lengths[axis] == sizes[axis] else 1
    yield from _product(list(axes), sizes, lengths)


def _product(axes: list[str], sizes: Mapping[str, int], lengths: Mapping[str, int]) -> Iterator[Block]:
    if not axes:
        yield {}
        return
    for start in range(0, sizes[axes[0]], lengths[axes[0]]):
        length = min(lengths[axes[0]], sizes[axes[0]] - start)
        for rest in _product(axes[1:], sizes, lengths):
            yield {axes[0]: (start, length), **rest}


def part(tensor: Tensor, axes: tuple[str, ...], block: Block) -> Tensor:
    """The entries of a tensor that belong to a block."""
    for dim, axis in enumerate(axes):
        if axis in block:
            tensor = tensor.narrow(dim, *block[axis])
    return tensor


@dataclass(frozen=True)
class Step:
    """One instruction: the slots that it reads and writes, and the buffers that become free after it."""

    operation: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    reads: tuple[tuple[int, int], ...]
    options: dict[str, Any]
    target: int
    free: tuple[int, ...]
    inplace: tuple[int, ...]
    """Places of arguments whose buffer is free after this very step."""


class BlockProgram:
    """A procedure over a block of rows. The outputs of `run` are valid until the next run."""

    def __init__(self, procedure: Procedure) -> None:
        self.procedure = procedure
        self.bound = procedure.bound
        self._steps = tuple(_steps(procedure))
        self._outputs = {
            name: value.at.index for name, value in procedure.outputs.items() if isinstance(value.at, Slot)
        }
        self._plain = {name: value.axes for name, value in procedure.outputs.items()}

    @property
    def axes(self) -> dict[str, tuple[str, ...]]:
        """The dimensions of each output."""
        return self._plain

    def run(self, values: list[Any], buffers: Buffers | None, into: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs on one block; an output that is computed elementwise may be written `into` a given tensor."""
        if buffers is not None:
            buffers.take_back()
        slots: list[Any] = [None] * self.procedure.slots
        for bound, value in zip(self.bound, values, strict=True):
            slots[bound.slot] = value
        targets = {self._outputs[name]: tensor for name, tensor in into.items()}
        for step in self._steps:
            arguments = list(step.arguments)
            for place, slot in step.reads:
                arguments[place] = slots[slot]
            slots[step.target] = _applied(step, arguments, buffers, targets.get(step.target))
            for slot in step.free:
                if buffers is not None:
                    buffers.give(slot)
                slots[slot] = None
        return {name: slots[slot] for name, slot in self._outputs.items()}


def _applied(step: Step, arguments: list[Any], buffers: Buffers | None, into: Tensor | None) -> Any:
    if buffers is None:
        return step.function(*arguments, **step.options)
    if step.operation in NUMBERS or step.operation in MASKS:
        tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
        shape = _shape(tensors)
        if math.prod(shape) >= WIDE and (step.operation != "torch.where" or tensors[-1].dtype == buffers.dtype):
            out = _output(step, arguments, shape, buffers, into)
            return _written(step, arguments, out)
    return step.function(*arguments, **step.options)


def _output(step: Step, arguments: list[Any], shape: torch.Size, buffers: Buffers, into: Tensor | None) -> Tensor:
    """Where a wide value goes: into the tensor requested, over an argument that is not read again, or into a buffer."""
    dtype = torch.bool if step.operation in MASKS else buffers.dtype
    if into is not None and into.shape == shape and into.dtype == dtype:
        return into
    for place in step.inplace:
        argument = arguments[place]
        slot = next(slot for at, slot in step.reads if at == place)
        if argument.shape == shape and argument.dtype == dtype and buffers.hand_over(slot, step.target):
            held: Tensor = argument
            return held
    return buffers.take(step.target, shape, dtype)


def _written(step: Step, arguments: list[Any], out: Tensor) -> Tensor:
    if step.operation == "operations.exponential":
        return _exponential(arguments[0], out)
    if step.operation == "torch.where":
        return _chosen(arguments, out)
    written: Tensor = step.function(*arguments, **step.options, out=out)
    return written


def _exponential(x: Tensor, out: Tensor) -> Tensor:
    """exp(x) as 2^(x log2 e), three times as fast as torch.exp; the error is |x| roundings, as of centring x itself."""
    if out.dtype != torch.float32:
        return torch.exp(x, out=out)
    return torch.exp2(torch.mul(x, _LOG2E, out=out), out=out)


def _chosen(arguments: list[Any], out: Tensor) -> Tensor:
    condition, x, y = (a if isinstance(a, Tensor) else torch.full((), a, dtype=out.dtype) for a in arguments)
    return torch.where(condition, x, y, out=out)


def _shape(tensors: list[Tensor]) -> torch.Size:
    first = tensors[0].shape
    if all(tensor.shape == first for tensor in tensors[1:]):
        return first
    return torch.broadcast_shapes(*(tensor.shape for tensor in tensors))  # type: ignore[no-any-return,no-untyped-call]


class Buffers:
    """Memory for wide values of one type of numbers, and masks."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._free: dict[torch.dtype, list[Tensor]] = {}
        self._held: dict[int, Tensor] = {}

    def take(self, slot: int, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """A tensor of this shape for the value of a slot."""
        number = math.prod(shape)
        free = self._free.setdefault(dtype, [])
        at = next((at for at in range(len(free) - 1, -1, -1) if free[at].numel() >= number), None)
        memory = torch.empty(number, dtype=dtype) if at is None else free.pop(at)
        self._held[slot] = memory
        return memory[:number].view(shape)

    def give(self, slot: int) -> None:
        """Marks the value of a slot as not read any more."""
        memory = self._held.pop(slot, None)
        if memory is not None:
            self._free[memory.dtype].append(memory)

    def take_back(self) -> None:
        """Frees all buffers: no value is read any more."""
        for slot in list(self._held):
            self.give(slot)

    def hand_over(self, slot: int, target: int) -> bool:
        """Moves the memory of one slot to another; False where that is impossible."""
        if slot not in self._held:
            return False
        self._held[target] = self._held.pop(slot)
        return True


def _steps(procedure: Procedure) -> Iterator[Step]:
    """The instructions with the slots that are free after each; a view keeps the slot that it looks into."""
    root: dict[int, int] = {}
    for instruction in procedure.instructions:
        first = next((a.index for a in instruction.arguments if isinstance(a, Slot)), instruction.target)
        viewed = instruction.operation in VIEWS and isinstance(instruction.arguments[0], Slot)
        root[instruction.target] = root.get(first, first) if viewed else instruction.target
    kept = {root.get(v.at.index, v.at.index) for v in procedure.outputs.values() if isinstance(v.at, Slot)}
    ends: list[tuple[int, ...]] = []
    for instruction in reversed(procedure.instructions):
        read = [a.index for a in instruction.arguments if isinstance(a, Slot)]
        roots = {root.get(slot, slot) for slot in (*read, instruction.target)}
        ends.append(tuple(sorted(roots - kept)))
        kept |= roots
    for instruction, free in zip(procedure.instructions, reversed(ends), strict=True):
        reads = tuple((at, a.index) for at, a in enumerate(instruction.arguments) if isinstance(a, Slot))
        arguments = tuple(None if isinstance(a, Slot) else a for a in instruction.arguments)
        memory = [root.get(slot, slot) for _, slot in reads]
        inplace = tuple(at for at, slot in reads if slot in free and memory.count(slot) == 1)
        yield Step(instruction.operation, lookup(instruction.operation), arguments, reads, dict(instruction.options),
                   instruction.target, free, inplace)  # fmt: skip
