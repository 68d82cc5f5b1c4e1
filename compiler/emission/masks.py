"""The conditions of guards as masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossc.compiler.emission.guards import Ahead, Condition, Guard, Lifted, Read, Renamed, axes_of, projected
from lossc.compiler.emission.procedure import Emitted

if TYPE_CHECKING:
    from lossc.compiler.emission.emitter import Emitter


def emit_condition(emitter: Emitter, condition: Condition, before: Guard) -> Emitted:
    """The mask of a condition, emitted under the guard before it."""
    match condition:
        case Lifted():
            return _lifted(emitter, condition)
        case Renamed(guard=guard, old=old, new=new):
            return emitter.relabelled(emitter.mask_of(guard), new, old)
        case Ahead():
            return _ahead(emitter, condition)
        case Read():
            return _read(emitter, condition)
    return emitter.emit(condition, before)


def _lifted(emitter: Emitter, condition: Lifted) -> Emitted:
    mask = emitter.mask_of(condition.guard)
    dims = tuple(at for at, axis in enumerate(mask.axes) if axis in condition.over)
    kept = [axis for axis in mask.axes if axis not in condition.over]
    return emitter.builder.call("operations.masked_any", (mask.at, None), kept, "mask", dims=dims) if dims else mask


def _ahead(emitter: Emitter, condition: Ahead) -> Emitted:
    """Where an entry along an axis is read by values computed from earlier entries."""
    builder, guard, axis = emitter.builder, condition.guard, condition.axis
    rows = projected(guard, axes_of(guard) - {axis})
    where = None if condition.where is None else emitter.emit(condition.where, rows)
    label = None if condition.by is None else builder.integer(emitter.emit(condition.by))
    others = [value for value in (where, label) if value is not None]
    mask = builder.expanded(emitter.mask_of(guard), (axis, *(own for value in others for own in value.axes)))
    places = [None if value is None else builder.arranged(value, mask.axes).at for value in (mask, where, label)]
    dim = mask.axes.index(axis)
    return builder.call("operations.ahead", places, mask.axes, "mask", amount=condition.amount, dim=dim)


def _read(emitter: Emitter, condition: Read) -> Emitted:
    """Where an entry along an axis is read at a position that the guard admits."""
    builder = emitter.builder
    at = builder.integer(emitter.emit(condition.at))
    mask = emitter.mask_of(condition.guard) if condition.guard else None
    axes = {*at.axes, *(mask.axes if mask is not None else ())}
    kept = builder.sorted(axes & condition.rest)
    new = builder.sorted(axes - condition.rest)
    places = [None if x is None else builder.arranged(x, (*kept, *new)).at for x in (at, mask)]
    operands = (*places, builder.size(condition.axis))
    found = builder.call("operations.read", operands, (*kept, condition.axis), "mask", number=len(new))
    return builder.arranged(found, builder.sorted(found.axes))
