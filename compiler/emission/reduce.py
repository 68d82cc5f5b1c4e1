"""Rules for reductions: masked, by groups, and sums of outer products as contractions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossc.compiler.core import ZERO, Index, Map, Node, Reduce, all_of, apply
from lossc.compiler.emission.arithmetic import product
from lossc.compiler.emission.facts import may_be_infinite
from lossc.compiler.emission.guards import Guard, extended, projected
from lossc.compiler.emission.procedure import Emitted, ValueType

if TYPE_CHECKING:
    from lossc.compiler.emission.emitter import Emitter

_TYPES: dict[str, ValueType] = {"any": "mask", "all": "mask", "argmax": "integer"}

_OPERATIONS = {"median": "operations.masked_quantile"}

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def emit_reduce(emitter: Emitter, node: Reduce, guard: Guard) -> Emitted:
    if node.groups is not None:
        return _grouped(emitter, node, guard)
    mask = None if node.where is None else emitter.emit(node.where, guard)
    if node.op == "count":
        return _count(emitter, node, mask)
    if node.op == "sum" and mask is None and (factors := _contraction(node)):
        return _contracted(emitter, node, factors, guard)
    body = emitter.emit(node.body, extended(guard, node.where))
    value = reduced(emitter, node, body, mask, _option(emitter, node, guard))
    return emitter.guarded(value, guard, 0.0) if node.op == "logsumexp" and mask is not None else value


def reduced(
    emitter: Emitter, node: Reduce, body: Emitted, mask: Emitted | None, option: Emitted | None = None
) -> Emitted:
    """The reduction of a value that has been emitted."""
    builder = emitter.builder
    type_ = _TYPES.get(node.op, "number")
    body = builder.tensor(body if type_ == "mask" and body.type == "mask" else builder.number(body))
    covered = body.axes + (mask.axes if mask is not None else ())
    body = builder.expanded(body, set(body.axes) | (set(node.over) - set(covered)))
    axes = builder.sorted((*body.axes, *(mask.axes if mask is not None else ())))
    x = builder.arranged(body, axes).at
    dims = tuple(at for at, axis in enumerate(axes) if axis in node.over)
    kept = [axis for axis in axes if axis not in node.over]
    if node.op == "sum" and mask is None:
        return builder.call("torch.sum", (x,), kept, dim=dims)
    arguments = [x, None if mask is None else builder.arranged(mask, axes).at]
    if node.op in ("var", "std", "quantile", "median"):
        default = 0.5 if node.op == "median" else 0.0
        arguments.append(default if option is None else option.at)
    operation = _OPERATIONS.get(node.op, f"operations.masked_{node.op}")
    return builder.call(operation, arguments, kept, type_, dims=dims)


def _option(emitter: Emitter, node: Reduce, guard: Guard) -> Emitted | None:
    if node.option is None:
        return None
    if node.option.axes:
        emitter.unsupported(node, f"`{node.op}` with an option that differs from row to row")
    return emitter.number(node.option, guard)


def _count(emitter: Emitter, node: Reduce, mask: Emitted | None) -> Emitted:
    """The number of admitted entries; along an axis that the mask lacks, its extent."""
    builder = emitter.builder
    covered = () if mask is None else mask.axes
    factors = [
        builder.call("operations.constant", (builder.size(axis), builder.like), ())
        for axis in node.over
        if axis not in covered
    ]
    if mask is not None:
        dims = tuple(at for at, axis in enumerate(mask.axes) if axis in node.over)
        kept = [axis for axis in mask.axes if axis not in node.over]
        if dims:
            factors.insert(0, builder.call("operations.masked_count", (mask.at, builder.like), kept, dims=dims))
        else:
            factors.insert(0, builder.number(mask))
    return product(emitter, factors)


# ------------------------------------------------------------------------------------------------ contractions


def _contraction(node: Reduce) -> tuple[Node, ...]:
    """The factors of a sum of products none of which has all axes: the product itself would be larger than each."""
    body = node.body
    if not isinstance(body, Map) or body.function != "mul" or len(body.axes) > len(_LETTERS):
        return ()
    factors = body.arguments
    outer = all(factor.axes != body.axes for factor in factors)
    shared = all(any(axis in factor.axes for factor in factors) for axis in node.over)
    return factors if outer and shared and not any(map(may_be_infinite, factors)) else ()


def _contracted(emitter: Emitter, node: Reduce, factors: tuple[Node, ...], guard: Guard) -> Emitted:
    builder = emitter.builder
    values = [emitter.number(factor, guard) for factor in factors]
    scalars = [value for value in values if value.literal or not value.axes]
    tensors = [value for value in values if value not in scalars]
    letters = dict(zip(builder.sorted(node.body.axes), _LETTERS, strict=False))
    present = {axis for value in tensors for axis in value.axes}
    if not set(node.over) <= present:
        return reduced(emitter, node, product(emitter, values), None)
    kept = [axis for axis in builder.sorted(present) if axis not in node.over]
    inputs = ",".join("".join(letters[axis] for axis in value.axes) for value in tensors)
    equation = f"{inputs}->{''.join(letters[axis] for axis in kept)}"
    total = builder.call("torch.einsum", (equation, *(value.at for value in tensors)), kept)
    return product(emitter, (total, *scalars))


# ------------------------------------------------------------------------------------------------ groups


def _grouped(emitter: Emitter, node: Reduce, guard: Guard) -> Emitted:
    """A reduction by groups: by scatter-add at labels where that suffices, otherwise over the members of each group."""
    assert node.groups is not None
    label, group = node.groups
    member = all_of(node.where, apply("le", ZERO, label))
    assert member is not None
    if node.op not in ("sum", "count", "mean", "any", "all") or not label.axes <= set(node.over):
        same = all_of(member, apply("eq", label, Index(group)))
        return emitter.emit(Reduce(node.op, node.over, node.body, same, None, node.option), guard)
    outer = projected(guard, node.axes - {group})
    mask = emitter.emit(member, outer)
    if node.op == "count":
        return _added_up(emitter, node, mask, mask)
    body = emitter.emit(node.body, extended(outer, member))
    if node.op in ("any", "all"):
        if node.op == "all":
            body = emitter.elementwise("torch.logical_not", (body,), "mask")
        hits = emitter.elementwise("torch.logical_and", (body, mask), "mask")
        number = _added_up(emitter, node, hits, hits)
        return emitter.elementwise("torch.gt" if node.op == "any" else "torch.eq", (number, Emitted(0.0)), "mask")
    total = _added_up(emitter, node, body, mask)
    if node.op == "sum":
        return total
    return emitter.elementwise("operations.ratio", (total, _added_up(emitter, node, mask, mask)))


def _added_up(emitter: Emitter, node: Reduce, body: Emitted, mask: Emitted) -> Emitted:
    """The sums of the admitted entries by label."""
    builder = emitter.builder
    assert node.groups is not None
    label = builder.integer(emitter.emit(node.groups[0]))
    other = tuple(axis for axis in node.over if axis not in label.axes)
    entry = Reduce("sum", other, node.body)
    if other:
        total = reduced(emitter, entry, body, mask)
    else:
        total = emitter.elementwise("torch.where", (mask, builder.tensor(builder.number(body)), Emitted(0.0)))
    total = builder.expanded(total, label.axes)
    rest = [axis for axis in total.axes if axis not in label.axes]
    x = builder.arranged(total, (*label.axes, *rest))
    axes = (node.groups[1], *rest)
    sums = builder.call("operations.group_sum", (x.at, label.at, builder.size(node.groups[1])), axes)
    return builder.arranged(sums, builder.sorted(axes))
