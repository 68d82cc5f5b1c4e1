"""Calls of a model: the caller's network, called on other arguments."""

from __future__ import annotations

from lossc.compiler import core
from lossc.compiler.core import Node
from lossc.compiler.elaborate.context import Context, axes_text, declared_note, describe
from lossc.compiler.elaborate.misfit import found, wanted
from lossc.compiler.elaborate.types import fits
from lossc.compiler.kinds import NUMBERS, REAL, Kind, Signature
from lossc.compiler.values import WRONG, Value
from lossc.grammar import syntax


def model_call(ctx: Context, name: str, model: Value, call: syntax.Call) -> Value:
    """The call. Its result has the kind and axes of the model's declaration, and the axes that pass through."""
    signature = model.kind.signature
    assert signature is not None
    if len(call.arguments) != len(signature.parameters):
        number = len(signature.parameters)
        return ctx.wrong("E201", f"`{name}` takes {number} argument{'s' * (number != 1)}", call.span,
                         notes=declared_note(model))  # fmt: skip
    for argument in call.arguments:
        if argument.name is not None or argument.to is not None:
            return ctx.wrong("E202", f"the arguments of `{name}` have no names", argument.span)
    values = [ctx.value(argument.value) for argument in call.arguments]
    if any(value.wrong for value in values):
        return WRONG
    signature = _placed(signature, values)
    rows = _rows(signature)
    repeated = frozenset(rows) if any(set(rows) & value.axes for value in values) else frozenset[str]()
    for value, (kind, order), argument in zip(values, signature.parameters, call.arguments, strict=True):
        needed = tuple(axis for axis in order if axis not in repeated)
        if not _accepted(ctx, name, value, kind, needed, argument):
            return WRONG
    return _called(ctx, model, signature, values) if _foldable(ctx, name, signature, values, call) else WRONG


def _accepted(
    ctx: Context, name: str, value: Value, kind: Kind, order: tuple[str, ...], argument: syntax.Argument
) -> bool:
    if not fits(kind, value):
        ctx.wrong("E204", f"`{name}` expects {wanted(ctx, kind)}, and this is {found(value)}", argument.span,
                  label=describe(ctx, value), notes=declared_note(value))  # fmt: skip
        return False
    if not set(order) <= value.axes:
        ctx.wrong("E304", f"`{name}` needs {axes_text(ctx, order)} here", argument.span, label=describe(ctx, value))
        return False
    if kind.name == "label" and value.kind.codomain != kind.codomain:
        ctx.wrong("E209", f"`{name}` expects a label in `{ctx.written(kind.codomain or '')}`", argument.span,
                  label=describe(ctx, value), notes=declared_note(value))  # fmt: skip
        return False
    return True


def _placed(signature: Signature, values: list[Value]) -> Signature:
    """The signature for this call: rows that no argument has are replaced by those that the arguments have."""
    orders = [order for _, order in (*signature.parameters, signature.result)]
    rows, others = _rows(signature), through(values, orders)
    if not rows or not others or any(set(rows) & value.axes for value in values):
        return signature
    here = (min(others),)
    parameters = tuple((kind, here + order[1:]) for kind, order in signature.parameters)
    return Signature(parameters, (signature.result[0], here + signature.result[1][1:]))


def _rows(signature: Signature) -> tuple[str, ...]:
    """The first axis of all arguments and the result of a model; None where they differ."""
    firsts = {order[:1] for _, order in (*signature.parameters, signature.result)}
    return firsts.pop() if len(firsts) == 1 else ()


def _foldable(ctx: Context, name: str, signature: Signature, values: list[Value], call: syntax.Call) -> bool:
    """Axes that the model does not name, folded into its first axis, which all arguments and the result must have."""
    extra = through(values, [order for _, order in (*signature.parameters, signature.result)])
    if not extra or _rows(signature):
        return True
    ctx.wrong("E304", f"`{name}` has no place for {axes_text(ctx, extra)}", call.span,
              help="name it in the kind of the model, or let all kinds there begin with one batch axis")  # fmt: skip
    return False


def through(values: list[Value], orders: list[tuple[str, ...]]) -> frozenset[str]:
    """The axes of arguments that the kinds of a model do not name."""
    return frozenset[str]().union(*(value.axes for value in values)) - frozenset(axis for order in orders for axis in order)


def _called(ctx: Context, model: Value, signature: Signature, values: list[Value]) -> Value:
    kind, order = signature.result
    there = frozenset[str]().union(*(value.axes for value in values))
    consumed = tuple(sorted(there & {axis for _, named in signature.parameters for axis in named}))
    options = (order, tuple((of.name, named) for of, named in signature.parameters))
    arguments = tuple(core.where(value.present, value.node, core.ZERO) if not value.is_label and not value.is_mask
                      else value.node for value in values)  # fmt: skip
    node: Node = core.Call("model", (model.node, *arguments), consumed, order, kind.bounds, options)
    if kind.name == "prob" and kind.axis is not None:
        ctx.session.distributions[node] = kind.axis
    present = core.all_of(*(_present(value, order) for value in values))
    return Value(node, REAL if kind.name in NUMBERS else kind, present)


def _present(value: Value, order: tuple[str, ...]) -> Node | None:
    """Where all entries exist from which an entry of the result is made: along axes that it lacks, every one."""
    if value.present is None:
        return None
    lost = tuple(sorted(axis for axis in value.present.axes if axis not in order))
    return core.Reduce("all", lost, value.present) if lost else value.present
