"""Appends instructions to a procedure, aligning operands by axis names and emitting equal instructions once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from lossc.compiler.core import Node
from lossc.compiler.emission.extents import Extent, Product
from lossc.compiler.emission.procedure import Bound, Emitted, Instruction, Procedure, Scalar, Slot, ValueType


class Builder:
    """`order` is the position of every axis; the axes of every value ascend in it."""

    def __init__(self, order: dict[str, int]) -> None:
        self.order = order
        self.extents: dict[str, Extent] = {}
        self.path = "body"
        self.bodies = 0
        self.measured: Callable[[Node, str], Slot] | None = None
        self.bound: dict[tuple[str, str], Bound] = {}
        self.instructions: list[Instruction] = []
        self._known: dict[object, Slot] = {}
        self._next = 0

    # -------------------------------------------------------------------------------------- slots

    def _slot(self) -> Slot:
        self._next += 1
        return Slot(self._next - 1)

    def bind(self, kind: str, name: str, axes: tuple[str, ...] = (), type_: ValueType = "number") -> Slot:
        """The slot into which the caller puts this tensor, parameter or extent."""
        key = (kind, name)
        if key not in self.bound:
            self.bound[key] = Bound(kind, name, self._slot().index, axes, type_)  # type: ignore[arg-type]
        return Slot(self.bound[key].slot)

    @property
    def like(self) -> Slot:
        return self.bind("like", "")

    def size(self, axis: str) -> Slot | int:
        """The extent of an axis: that of the axis from which it was made, a number, or bound by the caller."""
        source: Extent = axis
        while isinstance(source, str) and source in self.extents:
            axis, source = source, self.extents[source]
        if isinstance(source, Node):
            assert self.measured is not None
            return self.measured(source, axis)
        if isinstance(source, tuple):
            axes, of = (source.axes, "operations.together") if isinstance(source, Product) else (source, "operations.least")
            extent = self.call(of, [self.size(part) for part in axes], ()).at
            assert isinstance(extent, Slot)
            return extent
        return source if isinstance(source, int) else self.bind("size", source)

    def call(
        self, operation: str, arguments: Iterable[Slot | Scalar], axes: Iterable[str], type_: ValueType = "number",
        **options: Scalar,
    ) -> Emitted:  # fmt: skip
        """One instruction, or an equal one that was emitted before."""
        operands = tuple(arguments)
        key = (operation, tuple((type(operand), operand) for operand in operands), tuple(options.items()))
        if key not in self._known:
            target = self._known[key] = self._slot()
            self.instructions.append(Instruction(target.index, operation, operands, tuple(options.items())))
        return Emitted(self._known[key], tuple(axes), type_)

    def search(
        self, operation: str, arguments: Iterable[Slot | Scalar], axes: Iterable[str], body: Procedure, **options: Scalar
    ) -> Emitted:
        """One instruction that calls a procedure."""
        target = self._slot()
        settings = (("body", body), *options.items())
        self.instructions.append(Instruction(target.index, operation, tuple(arguments), settings))
        return Emitted(target, tuple(axes))

    # -------------------------------------------------------------------------------------- types

    def tensor(self, value: Emitted) -> Emitted:
        """The value as a tensor; a literal becomes a constant in the type of the computation."""
        if not value.literal:
            return value
        return self.call("operations.constant", (value.at, self.like), ())

    def number(self, value: Emitted) -> Emitted:
        """The value in the type of the computation; a mask counts as 0 and 1."""
        if value.literal or value.type == "number":
            return value
        return self.call("operations.number", (value.at, self.like), value.axes)

    def integer(self, value: Emitted) -> Emitted:
        """The value as an index."""
        if value.type == "integer" and not value.literal:
            return value
        plain = self.number(self.tensor(value))
        return self.call("operations.integer", (plain.at,), value.axes, "integer")

    # -------------------------------------------------------------------------------------- axes

    def sorted(self, axes: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted(set(axes), key=self.order.__getitem__))

    def arranged(self, value: Emitted, axes: Sequence[str]) -> Emitted:
        """The tensor with exactly the dimensions `axes`, in that order; those that it lacks get extent 1."""
        value = self.tensor(value)
        wanted = [axis for axis in axes if axis in value.axes]
        if tuple(wanted) != value.axes:
            dims = tuple(value.axes.index(axis) for axis in wanted)
            value = self.call("torch.permute", (value.at,), wanted, value.type, dims=dims)
        missing = tuple(at for at, axis in enumerate(axes) if axis not in value.axes)
        if not missing:
            return value
        return self.call("operations.align", (value.at,), axes, value.type, dims=missing)

    def aligned(self, values: Sequence[Emitted]) -> tuple[list[Slot | float], tuple[str, ...]]:
        """The operands, broadcast against each other, and the axes of the result; literals stay literals."""
        axes = self.sorted(axis for value in values for axis in value.axes)
        places: list[Slot | float] = []
        for value in values:
            first = axes.index(value.axes[0]) if value.axes else len(axes)
            places.append(value.at if value.literal else self.arranged(value, axes[first:]).at)
        return places, axes

    def expanded(self, value: Emitted, axes: Iterable[str]) -> Emitted:
        """The tensor with the full extent along every one of `axes`."""
        value = self.tensor(value)
        for axis in self.sorted(set(axes) - set(value.axes)):
            result = self.sorted((*value.axes, axis))
            arguments = (value.at, self.size(axis))
            value = self.call("operations.expand", arguments, result, value.type, dim=result.index(axis))
        return value
