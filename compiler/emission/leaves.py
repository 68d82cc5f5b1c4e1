"""Rules for operations on the leaves of a group of weights, which is laid out flat along its last dimension."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lossc.compiler.core import Call
from lossc.compiler.emission.procedure import Emitted, Slot

if TYPE_CHECKING:
    from lossc.compiler.emission.emitter import Emitter


def emit_leaf(emitter: Emitter, node: Call) -> Emitted:
    """The value of a call whose function begins with `leaf:`; its first option names the group."""
    op = node.function.removeprefix("leaf:")
    shapes = emitter.builder.bind("leaves", str(node.options[0]))
    return _RULES.get(op, _reduced)(emitter, node, op, shapes)


def _operand(emitter: Emitter, node: Call) -> tuple[Emitted, tuple[str, ...]]:
    """The argument with the axis of the call last, and its other axes."""
    builder = emitter.builder
    (axis,) = node.consumed
    value = builder.expanded(builder.number(builder.tensor(emitter.emit(node.arguments[0]))), (axis,))
    rest = builder.sorted(set(value.axes) - {axis})
    return builder.arranged(value, (*rest, axis)), rest


def _reduced(emitter: Emitter, node: Call, op: str, shapes: Slot) -> Emitted:
    builder = emitter.builder
    value, rest = _operand(emitter, node)
    where = node.given("where")
    mask = None if where is None else builder.arranged(emitter.emit(where), value.axes).at
    found = builder.call("operations.leafwise", (value.at, mask, shapes), (*rest, *node.produced), op=op)
    return builder.arranged(found, builder.sorted(found.axes))


def _spread(emitter: Emitter, node: Call, _: str, shapes: Slot) -> Emitted:
    value, rest = _operand(emitter, node)
    found = emitter.builder.call("operations.spread", (value.at, shapes), (*rest, *node.produced))
    return emitter.builder.arranged(found, emitter.builder.sorted(found.axes))


def _sort(emitter: Emitter, node: Call, _: str, shapes: Slot) -> Emitted:
    value, _rest = _operand(emitter, node)
    found = emitter.builder.call("operations.sorted_leaves", (value.at, shapes), value.axes)
    return emitter.builder.arranged(found, emitter.builder.sorted(found.axes))


def _svdvals(emitter: Emitter, node: Call, _: str, shapes: Slot) -> Emitted:
    value, rest = _operand(emitter, node)
    found = emitter.builder.call("operations.leaf_svdvals", (value.at, shapes), (*rest, *node.produced))
    return emitter.builder.arranged(found, emitter.builder.sorted(found.axes))


def _rank(emitter: Emitter, node: Call, _: str, shapes: Slot) -> Emitted:
    return emitter.builder.call("operations.leaf_ranks", (shapes, emitter.builder.like), node.produced)


_RULES: dict[str, Callable[[Emitter, Call, str, Slot], Emitted]] = {
    "spread": _spread, "sort": _sort, "svdvals": _svdvals, "rank": _rank,
}  # fmt: skip
