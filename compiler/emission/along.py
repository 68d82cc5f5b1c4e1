"""Rules for operations along an axis: cumulative sums and maxima, softmax, shifts, ranks, orders."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from lossc.compiler.core import Along, Const
from lossc.compiler.emission.guards import Guard, ahead, axes_of, extended, projected
from lossc.compiler.emission.procedure import Emitted, Scalar, Slot

if TYPE_CHECKING:
    from lossc.compiler.emission.emitter import Emitter

RUNNING = ("cumsum", "cumprod", "cummax", "cumlogsumexp", "scan")


def emit_along(emitter: Emitter, node: Along, guard: Guard) -> Emitted:
    mask = None if node.where is None else emitter.emit(node.where, projected(guard, axes_of(guard) - {node.axis}))
    inner = extended(_seen(emitter, node, guard), node.where)
    body = emitter.emit(node.body, inner)
    label = None if node.by is None else emitter.builder.integer(emitter.emit(node.by))
    if node.op != "shift" or node.where is not None:
        body = emitter.builder.number(body)
    operands = {"body": emitter.builder.tensor(body)}
    if mask is not None:
        operands["mask"] = mask
    if label is not None:
        operands["label"] = label
    if node.op in ("scan", "sort") and node.option is not None:
        operands["option"] = emitter.builder.tensor(emitter.number(node.option, inner))
    if node.op == "shift" and node.fill is not None:
        operands["fill"] = emitter.number(node.fill, guard)
    return _call(emitter, node, operands)


def _seen(emitter: Emitter, node: Along, guard: Guard) -> Guard:
    """The guard of the body: an entry is seen if some seen entry of the result is computed from it."""
    if node.op == "shift":
        return ahead(guard, node.axis, _whole(emitter, node), node.where, node.by)
    if node.op in RUNNING:
        return ahead(guard, node.axis, None, None, node.by)
    return projected(guard, axes_of(guard) - {node.axis, node.new or node.axis})


def _call(emitter: Emitter, node: Along, operands: dict[str, Emitted]) -> Emitted:
    builder = emitter.builder
    axes = builder.sorted({node.axis}.union(*(value.axes for value in operands.values())))
    body = builder.expanded(operands["body"], axes)
    dim = axes.index(node.axis)

    def place(name: str) -> Slot | Scalar:
        if name not in operands:
            return None
        value = operands[name]
        return value.at if value.literal else builder.arranged(value, axes).at

    arguments: list[Slot | Scalar] = [body.at, place("mask")]
    options: dict[str, Scalar] = {"dim": dim}
    match node.op:
        case "softmax" | "log_softmax":
            pass
        case "sort":
            arguments.append(place("option") if node.option is not None else body.at)
        case "topk":
            options = {"count": _whole(emitter, node), "dim": dim}
            emitter.minima[node.axis] = max(emitter.minima.get(node.axis, 0), _whole(emitter, node))
        case "shift":
            empty: Scalar = {"mask": False, "integer": 0, "number": 0.0}[body.type]
            arguments += [place("label"), place("fill") if node.fill is not None else empty]
            options = {"amount": _whole(emitter, node), "dim": dim}
        case "scan":
            arguments += [place("label"), place("option")]
        case _:
            arguments.append(place("label"))
    value = builder.call(f"operations.{node.op}", arguments, axes, body.type, **options)
    if "mask" in operands and node.op in (*RUNNING, "rank", "shift"):
        value = emitter.elementwise("torch.where", (operands["mask"], value, Emitted(0.0)))
    return emitter.relabelled(value, node.axis, node.new) if node.new else value


def _whole(emitter: Emitter, node: Along) -> int:
    """The amount of a shift, or the number of `topk`: a whole number literal of the spec."""
    amount = node.option
    if isinstance(amount, Const) and isinstance(amount.value, Fraction) and amount.value.denominator == 1:
        return int(amount.value)
    if amount is None and node.op == "shift":
        return 1
    emitter.unsupported(node, f"`{node.op}` by an amount that is not a whole number")

