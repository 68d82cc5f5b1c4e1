"""Procedures inside a program: the expression of a search, as a function of the variable that it binds.

What does not depend on the variable is computed once, outside, and handed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossc.compiler.core import Local, Node
from lossc.compiler.emission.builder import Builder
from lossc.compiler.emission.procedure import Bound, Emitted, Procedure, Slot, ValueType

if TYPE_CHECKING:
    from lossc.compiler.emission.emitter import Emitter


class Inner(Builder):
    """Builds the body of a search; what it binds are the variable, in slot 0, and slots of the program around it."""

    def __init__(self, around: Builder, variable: Local) -> None:
        super().__init__(around.order)
        around.bodies += 1
        self.path = f"{around.path}_{around.bodies}"
        self.around = around
        self.extents = around.extents
        self.variable = Emitted(super().bind("variable", "", variable.order), self.sorted(variable.order))

    def bind(self, kind: str, name: str, axes: tuple[str, ...] = (), type_: ValueType = "number") -> Slot:
        return self.captured(self.around.bind(kind, name, axes, type_), axes, type_)

    def captured(self, slot: Slot, axes: tuple[str, ...], type_: ValueType) -> Slot:
        """The place of a value of the program around."""
        return super().bind("captured", str(slot.index), axes, type_)

    def capture(self, value: Emitted) -> Emitted:
        if not isinstance(value.at, Slot):
            return value
        return Emitted(self.captured(value.at, value.axes, value.type), value.axes, value.type)


def body_of(emitter: Emitter, body: Node, variable: Local, axes: tuple[str, ...]) -> tuple[Procedure, list[Slot]]:
    """The body as a procedure with the one output `value`, over `axes`, and the slots that it is handed."""
    builder = Inner(emitter.builder, variable)
    inner = emitter.inside(builder, body, variable)
    value = builder.number(builder.tensor(inner.emit(body)))
    value = builder.arranged(builder.expanded(value, axes), axes)
    bound: tuple[Bound, ...] = tuple(sorted(builder.bound.values(), key=lambda entry: entry.slot))
    captured = [Slot(int(entry.name)) for entry in bound if entry.kind == "captured"]
    return Procedure(bound, tuple(builder.instructions), {"value": value}, name=builder.path), captured
