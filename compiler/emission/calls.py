"""Rules for calls of linear algebra: the axes that a function names come last, all others are batch dimensions."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING

from lossc.compiler.core import Call, Const, Node
from lossc.compiler.emission.guards import Guard, axes_of, extended, projected
from lossc.compiler.emission.procedure import Emitted, Scalar, Slot

if TYPE_CHECKING:
    from lossc.compiler.emission.emitter import Emitter


def emit_call(emitter: Emitter, node: Call, guard: Guard) -> Emitted | None:
    """The value of a call; None if this module has no rule for the function."""
    rule = _RULES.get(node.function)
    return None if rule is None else rule(emitter, node, guard)


def _norm(emitter: Emitter, node: Call, guard: Guard) -> Emitted:
    builder = emitter.builder
    value = builder.expanded(emitter.number(node.arguments[0], guard), node.consumed)
    dims = tuple(value.axes.index(axis) for axis in node.consumed)
    kept = [axis for axis in value.axes if axis not in node.consumed]
    return builder.call("operations.norm", (value.at,), kept, dims=dims)


def _of_matrices(emitter: Emitter, node: Call, guard: Guard) -> Emitted:
    """A function of matrices. Where its value is not seen its argument is the identity, at which it is regular."""
    builder = emitter.builder
    inner = projected(guard, axes_of(guard) - set(node.order))
    matrix = _with_axes(emitter, node.arguments[0], inner, node.order)
    others = [_with_axes(emitter, argument, inner, node.order[:1]) for argument in node.arguments[1:]]
    seen = emitter.mask_of(inner) if inner and node.function != "svdvals" else None
    operands = (matrix, *others, *(() if seen is None else (seen,)))
    rest = builder.sorted({axis for value in operands for axis in value.axes} - set(node.order))
    arguments: list[Slot | Scalar] = [builder.arranged(matrix, (*rest, *node.order)).at]
    arguments += [builder.arranged(other, (*rest, *node.order[:1])).at for other in others]
    if node.function != "svdvals":
        emitter.squares[(node.order[0], node.order[1])] = None
        arguments.append(None if seen is None else builder.arranged(seen, (*rest, "", "")).at)
    value = builder.call(f"operations.{node.function}", arguments, (*rest, *node.produced))
    return builder.arranged(value, builder.sorted(value.axes))


def _with_axes(emitter: Emitter, node: Node, guard: Guard, axes: tuple[str, ...]) -> Emitted:
    return emitter.builder.expanded(emitter.number(node, guard), axes)


def _sinkhorn(emitter: Emitter, node: Call, guard: Guard) -> Emitted:
    builder = emitter.builder
    inner = projected(guard, axes_of(guard) - set(node.order))
    where = node.given("where")
    mask = None if where is None else emitter.emit(where, inner)
    given = {
        name: builder.tensor(emitter.number(part, extended(inner, where if name == "cost" else None)))
        for name, part in zip(("cost", *node.names[1:]), node.arguments, strict=True)
        if name not in ("where", "steps")
    }
    operands = (*given.values(), *(() if mask is None else (mask,)))
    rest = builder.sorted({axis for value in operands for axis in value.axes} - set(node.order))
    axes = (*rest, *node.order)
    given["cost"] = builder.expanded(given["cost"], node.order)
    places = [builder.arranged(given[name], axes).at if name in given else None for name in ("cost", "eps", "a", "b")]
    places.append(None if mask is None else builder.arranged(mask, axes).at)
    value = builder.call("operations.sinkhorn", places, axes, steps=whole(node.given("steps")))
    return builder.arranged(value, builder.sorted(axes))


def _of_all(emitter: Emitter, node: Call, guard: Guard) -> Emitted:
    """The rank of each entry among all entries of several axes, which come last, or these entries in the order of a key."""
    builder = emitter.builder
    inner = projected(guard, axes_of(guard) - {*node.order, *node.produced})
    where, key = node.given("where"), node.given("by")
    mask = None if where is None else emitter.emit(where, inner)
    value, by = (None if part is None else builder.expanded(emitter.number(part, extended(inner, where)), node.order)
                 for part in (node.arguments[0], key))  # fmt: skip
    found = [operand for operand in (value, mask, by) if operand is not None]
    rest = builder.sorted({axis for operand in found for axis in operand.axes} - set(node.order))
    places = [None if x is None else builder.arranged(x, (*rest, *node.order)).at for x in (value, mask, by)]
    operands = places[:2] if node.function == "rank" else [*places[:2], places[0] if by is None else places[2]]
    axes = (*rest, *node.produced)
    result = builder.call(f"operations.{node.function}_of_all", operands, axes, count=len(node.order))
    return builder.arranged(result, builder.sorted(axes))


def whole(node: Node | None) -> int:
    """A whole number literal of the spec."""
    assert isinstance(node, Const) and isinstance(node.value, Fraction)
    return int(node.value)


_RULES: dict[str, Callable[[Emitter, Call, Guard], Emitted]] = {
    "norm": _norm,
    "svdvals": _of_matrices,
    "eigvals": _of_matrices,
    "logdet": _of_matrices,
    "solve": _of_matrices,
    "sinkhorn": _sinkhorn,
    "rank": _of_all,
    "sort": _of_all,
}
