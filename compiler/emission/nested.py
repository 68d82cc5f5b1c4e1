"""Procedures inside a program: the body of a search or fold, as a function of the variable that it binds.

Whatever does not depend on the variable is computed once, outside, and passed in.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from lossc.compiler.core import Call, Local, Node, substitute
from lossc.compiler.emission.builder import Builder
from lossc.compiler.emission.guards import ALL, Guard
from lossc.compiler.emission.procedure import Bound, Emitted, Procedure, Slot, ValueType

if TYPE_CHECKING:
    from lossc.compiler.emission.emitter import Emitter


class Inner(Builder):
    """Builds the body of a search or fold; it binds the variable, in slot 0, and slots of the program around it.

    A body that is called for each entry along the axis `step` sees values that have this axis without it: one entry at
    a time.
    """

    def __init__(self, around: Builder, variable: Local, step: str | None = None) -> None:
        super().__init__(around.order)
        self.step = step
        around.bodies += 1
        self.path = f"{around.path}_{around.bodies}"
        self.around = around
        self.extents = around.extents
        self.variable = Emitted(super().bind("variable", "", variable.order), self.sorted(variable.order))

    def bind(self, kind: str, name: str, axes: tuple[str, ...] = (), type_: ValueType = "number") -> Slot:
        return self.captured(self.around.bind(kind, name, axes, type_), axes, type_)

    def captured(self, slot: Slot, axes: tuple[str, ...], type_: ValueType) -> Slot:
        """The slot for a value of the outer program."""
        return super().bind("captured", str(slot.index), axes, type_)

    def capture(self, value: Emitted) -> Emitted:
        if not isinstance(value.at, Slot):
            return value
        if self.step in value.axes:
            rest = tuple(axis for axis in value.axes if axis != self.step)
            whole = self.around.arranged(value, (self.step, *rest)).at
            assert isinstance(whole, Slot)
            return Emitted(super().bind("step", str(whole.index), rest, value.type), rest, value.type)
        return Emitted(self.captured(value.at, value.axes, value.type), value.axes, value.type)


def body_of(
    emitter: Emitter, body: Node, variable: Local, axes: tuple[str, ...], guard: Guard = ALL, step: str | None = None
) -> tuple[Procedure, list[Slot]]:
    """The body as a procedure with the one output `value`, over `axes`, and the outer slots passed to it."""
    builder = Inner(emitter.builder, variable, step)
    inner = emitter.inside(builder, body, variable)
    value = builder.number(builder.tensor(inner.emit(body, guard)))
    value = builder.arranged(builder.expanded(value, axes), axes)
    bound: tuple[Bound, ...] = tuple(sorted(builder.bound.values(), key=lambda entry: entry.slot))
    captured = [Slot(int(entry.name)) for entry in bound if entry.kind in ("captured", "step")]
    return Procedure(bound, tuple(builder.instructions), {"value": value}, name=builder.path), captured


_FRESH = count(1)


def opened(node: Call) -> tuple[Node, ...]:
    """The arguments of a call with its variable renamed, so that it differs from all others that look the same."""
    body, variable, *rest = node.arguments
    if not isinstance(variable, Local) or (node.function == "grad" and not rest):
        return node.arguments
    fresh = apart(variable)
    return (substitute(body, {variable: fresh}), fresh, *rest)


def apart(variable: Node) -> Local:
    """A copy of a variable, equal to no other."""
    assert isinstance(variable, Local)
    return replace(variable, depth=-next(_FRESH))
