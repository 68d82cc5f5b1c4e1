"""The emitted program: a list of torch operations in single assignment.

The runtime executes the list by looking the operations up; `lossc compile -o` prints the same list as Python. Nothing of
a spec's text is in it but the names of its tensors and parameters, as data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Scalar: TypeAlias = "float | int | bool | str | tuple[int, ...] | None"

ValueType = Literal["number", "integer", "mask"]


@dataclass(frozen=True)
class Slot:
    """The value that one instruction, or one entry of the signature, has put into a numbered place."""

    index: int


@dataclass(frozen=True)
class Instruction:
    """`target = operation(*arguments, **options)`; an argument is a slot or a literal, an option a literal or a
    procedure that the operation calls.
    """

    target: int
    operation: str
    arguments: tuple[Slot | Scalar, ...]
    options: tuple[tuple[str, Scalar | Procedure], ...] = ()


@dataclass(frozen=True)
class Emitted:
    """A value of the program: where it is (or a literal), the axes of its dimensions in order, and its type."""

    at: Slot | float
    axes: tuple[str, ...] = ()
    type: ValueType = "number"

    @property
    def literal(self) -> bool:
        return not isinstance(self.at, Slot)


@dataclass(frozen=True)
class Bound:
    """What the caller must put into a slot before the first instruction.

    `like` is a tensor of the type and on the device of the computation; `tensor` and `param` are a tensor of the batch and
    a parameter by name, `axes` being the order of its dimensions; `size` is the extent of an axis, `function` a function of
    the caller, `leaves` the shapes of the leaves of a group of weights. A procedure inside another has its `variable`, in
    slot 0, and what is `captured` from the slots around it: whole, or of each `step` of a fold the entry there.
    """

    kind: Literal["like", "tensor", "param", "size", "function", "leaves", "variable", "captured", "step"]
    name: str
    slot: int
    axes: tuple[str, ...] = ()
    type: ValueType = "number"


@dataclass(frozen=True)
class Procedure:
    """A straight-line program from bound slots to named outputs; one inside another has a name of its own."""

    bound: tuple[Bound, ...]
    instructions: tuple[Instruction, ...]
    outputs: dict[str, Emitted]
    minima: dict[str, int] = field(default_factory=dict)
    """The least extent that some axes must have (`topk`)."""
    squares: tuple[tuple[str, str], ...] = ()
    """The axes of matrices that must be square."""
    name: str = ""

    def names(self, kind: str) -> tuple[str, ...]:
        """The tensors, parameters or axes that must be bound."""
        return tuple(bound.name for bound in self.bound if bound.kind == kind)

    @property
    def slots(self) -> int:
        """The number of slots."""
        used = [bound.slot for bound in self.bound] + [instruction.target for instruction in self.instructions]
        return max(used, default=-1) + 1

    @property
    def differentiates(self) -> bool:
        """Whether a gradient is taken inside, so that the program needs autograd even where nobody asks for gradients."""
        return any(instruction.operation == "operations.gradient" for instruction in self.instructions)

    @property
    def inner(self) -> tuple[Procedure, ...]:
        """The procedures that its operations call."""
        options = (value for instruction in self.instructions for _, value in instruction.options)
        return tuple(value for value in options if isinstance(value, Procedure))

    def last_uses(self) -> Iterator[tuple[Instruction, tuple[int, ...]]]:
        """Each instruction with the slots that nothing reads after it, so that their tensors can be let go."""
        kept = {value.at.index for value in self.outputs.values() if isinstance(value.at, Slot)}
        ends: list[tuple[int, ...]] = []
        for instruction in reversed(self.instructions):
            read = {argument.index for argument in instruction.arguments if isinstance(argument, Slot)}
            ends.append(tuple(sorted(read - kept)))
            kept |= read
        yield from zip(self.instructions, reversed(ends), strict=True)
