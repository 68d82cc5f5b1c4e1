"""The emitted program: a list of torch operations in static single assignment form.

The runtime executes the list by looking up the operations; `lossc compile -o` prints the same list as Python. From the
text of the spec it contains only the names of tensors and parameters, as data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Scalar: TypeAlias = "float | int | bool | str | tuple[int, ...] | None"

ValueType = Literal["number", "integer", "mask"]


@dataclass(frozen=True)
class Slot:
    """A numbered place, which holds the value of one instruction or of one entry of the signature."""

    index: int


@dataclass(frozen=True)
class Instruction:
    """`target = operation(*arguments, **options)`.

    An argument is a slot or a literal; an option is a literal, or a procedure that the operation calls.
    """

    target: int
    operation: str
    arguments: tuple[Slot | Scalar, ...]
    options: tuple[tuple[str, Scalar | Procedure], ...] = ()


@dataclass(frozen=True)
class Emitted:
    """A value of the program: its slot (or a literal), the axes of its dimensions in order, and its type."""

    at: Slot | float
    axes: tuple[str, ...] = ()
    type: ValueType = "number"

    @property
    def literal(self) -> bool:
        return not isinstance(self.at, Slot)


@dataclass(frozen=True)
class Bound:
    """What the caller must put into a slot before the first instruction, by `kind`.

    | kind | value |
    |---|---|
    | `like` | a tensor with the type and device of the computation |
    | `tensor`, `param` | a tensor of the batch, or a parameter, by name; `axes` are its dimensions in order |
    | `size` | the extent of an axis |
    | `function` | a function of the caller |
    | `leaves` | the shapes of the leaves of a group of weights |
    | `variable` | in a procedure inside another, its variable, in slot 0 |
    | `captured` | in a procedure inside another, a value of an outer slot |
    | `step` | in the body of a fold, the current entry of a value of an outer slot |
    """

    kind: Literal["like", "tensor", "param", "size", "function", "leaves", "variable", "captured", "step"]
    name: str
    slot: int
    axes: tuple[str, ...] = ()
    type: ValueType = "number"


@dataclass(frozen=True)
class Procedure:
    """A straight-line program from bound slots to named outputs.

    Procedures inside another one have a name of their own.
    """

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
        """Whether a gradient is taken inside, so that autograd is needed even where the caller wants no gradient."""
        return any(instruction.operation == "operations.gradient" for instruction in self.instructions)

    @property
    def inner(self) -> tuple[Procedure, ...]:
        """The procedures that its operations call."""
        options = (value for instruction in self.instructions for _, value in instruction.options)
        return tuple(value for value in options if isinstance(value, Procedure))

    def last_uses(self) -> Iterator[tuple[Instruction, tuple[int, ...]]]:
        """Each instruction with the slots that nothing reads after it, whose tensors can be released."""
        kept = {value.at.index for value in self.outputs.values() if isinstance(value.at, Slot)}
        ends: list[tuple[int, ...]] = []
        for instruction in reversed(self.instructions):
            read = {argument.index for argument in instruction.arguments if isinstance(argument, Slot)}
            ends.append(tuple(sorted(read - kept)))
            kept |= read
        yield from zip(self.instructions, reversed(ends), strict=True)
