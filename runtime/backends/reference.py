"""The reference backend: an emitted procedure, executed one PyTorch operation after another.

It is differentiable any number of times, in single and double precision, and can be traced by `torch.compile`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from lossc.compiler.emission import Bound, Procedure, Slot
from lossc.compiler.faults import InternalError
from lossc.runtime import operations
from lossc.runtime.tracing import outside_traces

Value: TypeAlias = "Tensor | int | Callable[..., Tensor] | tuple[tuple[int, ...], ...]"
"""What may be bound: a tensor or a parameter, an extent, a function of the caller, the shapes of leaves."""


class Step(NamedTuple):
    """One instruction with its function looked up; `reads` has the positions of those arguments that are slots."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    reads: tuple[tuple[int, int], ...]
    options: dict[str, Any]
    target: int
    dead: tuple[int, ...]


class Executable:
    """A procedure ready to run: `run` takes the values listed in `bound`, in order, and returns the outputs by name."""

    native: frozenset[str] = frozenset()
    """The tensors that may be of another floating type than the computation."""

    heads = False

    def __init__(self, procedure: Procedure) -> None:
        self.procedure = procedure
        self.bound: tuple[Bound, ...] = procedure.bound
        self._slots = procedure.slots
        self._differentiates = procedure.differentiates
        self._steps = tuple(_step(instruction, dead) for instruction, dead in procedure.last_uses())
        self._outputs = tuple((name, value.at.index) for name, value in procedure.outputs.items()
                              if isinstance(value.at, Slot))  # fmt: skip

    def run(self, values: Sequence[Value], weigh: object = None) -> dict[str, Tensor]:
        """The outputs. A tensor is released after its last use. No gradient is formed early, so `weigh` is not used."""
        return self._differentiating(values) if self._differentiates else self._run(values)

    def _differentiating(self, values: Sequence[Value]) -> dict[str, Tensor]:
        """The same for a procedure that takes gradients inside, where the graph of a trace has to break."""
        return outside_traces(self._differentiated, values)

    def _differentiated(self, values: Sequence[Value]) -> dict[str, Tensor]:
        """Runs with autograd enabled, so that gradients are taken inside even during evaluation."""
        attached = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            outputs = self._run([v.clone() if isinstance(v, Tensor) and v.is_inference() else v for v in values])
        return outputs if attached else {name: value.detach() for name, value in outputs.items()}

    def _run(self, values: Sequence[Value]) -> dict[str, Tensor]:
        slots: list[Any] = [None] * self._slots
        for bound, value in zip(self.bound, values, strict=True):
            slots[bound.slot] = value
        for function, arguments, reads, options, target, dead in self._steps:
            given = list(arguments)
            for place, slot in reads:
                given[place] = slots[slot]
            slots[target] = function(*given, **options) if options else function(*given)
            for slot in dead:
                slots[slot] = None
        return {name: slots[slot] for name, slot in self._outputs}


def _step(instruction: Any, dead: tuple[int, ...]) -> Step:
    arguments = tuple(None if isinstance(a, Slot) else a for a in instruction.arguments)
    reads = tuple((at, a.index) for at, a in enumerate(instruction.arguments) if isinstance(a, Slot))
    function = lookup(instruction.operation)
    options = {name: Body(value) if isinstance(value, Procedure) else value for name, value in instruction.options}
    return Step(function, arguments, reads, options, instruction.target, dead)


class Body:
    """A procedure that an operation calls, as a function of its variables and captured values."""

    def __init__(self, procedure: Procedure) -> None:
        self._executable = Executable(procedure)

    def __call__(self, *values: Value) -> Tensor:
        (value,) = self._executable.run(values).values()
        return value


_ROOTS: Mapping[str, Any] = {"torch": torch, "operations": operations}


def lookup(operation: str) -> Callable[..., Any]:
    """The function that an instruction names: `torch.…` or `operations.…`.

    Raises InternalError where there is none.
    """
    head, *path = operation.split(".")
    found: Any = _ROOTS.get(head)
    for name in path:
        found = getattr(found, name, None)
    if not callable(found):
        raise InternalError(f"there is no operation `{operation}`")
    function: Callable[..., Any] = found
    return function
