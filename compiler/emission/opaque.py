"""Rules for calls that run the caller's code or bind a variable: models, and gradients inside an objective.

Their arguments are seen whole, whatever is seen of their value: a network mixes its inputs, and one call serves all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

from lossc.compiler.core import Call, Input, Local, Node, Param, mixed_axes, walk
from lossc.compiler.emission.calls import whole
from lossc.compiler.emission.facts import safe_number
from lossc.compiler.emission.folds import emit_fold
from lossc.compiler.emission.guards import Guard, axes_of, projected
from lossc.compiler.emission.leaves import emit_leaf
from lossc.compiler.emission.nested import body_of, opened
from lossc.compiler.emission.procedure import Emitted, Slot

if TYPE_CHECKING:
    from lossc.compiler.emission.emitter import Emitter


def emit_opaque(emitter: Emitter, node: Call, guard: Guard) -> Emitted | None:
    """The value of a call, which most functions compute whole, with a guard only on the result.

    None if there is no rule for the function.
    """
    if node.function in _SEEN_IN_PART:
        return _SEEN_IN_PART[node.function](emitter, node, guard)
    rule = emit_leaf if node.function.startswith("leaf:") else _RULES.get(node.function)
    if rule is None:
        return None
    return emitter.guarded(emitter.emit(node), guard, safe_number(node.domain)) if guard else rule(emitter, node)


def differentiated(roots: Iterable[Node], variable: Node | None = None) -> frozenset[Node]:
    """The tensors and parameters by which some `grad` differentiates; the whole program uses one variable for each.

    In the body of a search, only those of gradients that depend on its variable.
    """
    calls = [node for node in walk(*roots) if isinstance(node, Call) and node.function == "grad"]
    calls = [call for call in calls if variable is None or variable in walk(call)]
    return frozenset(call.arguments[1] for call in calls if isinstance(call.arguments[1], Input | Param))


# ------------------------------------------------------------------------------------------------ models


def _model(emitter: Emitter, node: Call) -> Emitted:
    """A call of a model. Axes that it does not name are folded into its first one, as further rows."""
    model, *arguments = node.arguments
    assert isinstance(model, Input)
    result, parameters = cast("tuple[tuple[str, ...], tuple[tuple[str, tuple[str, ...]], ...]]", node.options)
    builder = emitter.builder
    extra = builder.sorted(node.axes - set(result))
    operands = [
        _folded(emitter, _of_kind(emitter, argument, kind), order, extra)
        for argument, (kind, order) in zip(arguments, parameters, strict=True)
    ]
    function = builder.bind("function", model.name)
    how = "operations.held" if model.detached else "operations.called"
    value = builder.call(how, (function, builder.like, *operands), result)
    if extra:
        axes = (result[0], *extra, *result[1:])
        sizes = [builder.size(axis) for axis in axes[: len(extra) + 1]]
        value = builder.call("operations.unfolded", (value.at, *sizes), axes)
    return builder.arranged(value, builder.sorted(value.axes))


def _of_kind(emitter: Emitter, argument: Node, kind: str) -> Emitted:
    value = emitter.builder.tensor(emitter.emit(argument))
    if kind in ("label", "int"):
        return emitter.builder.integer(value)
    return value if kind == "mask" and value.type == "mask" else emitter.builder.number(value)


def _folded(emitter: Emitter, value: Emitted, order: tuple[str, ...], extra: tuple[str, ...]) -> Slot | float:
    """The argument with its dimensions as declared."""
    builder = emitter.builder
    axes = (*order[:1], *extra, *order[1:])
    value = builder.arranged(builder.expanded(value, axes), axes)
    return builder.call("operations.folded", (value.at,), order, value.type, number=len(extra)).at if extra else value.at


# ------------------------------------------------------------------------------------------------ gradients


def _grad(emitter: Emitter, node: Call, guard: Guard) -> Emitted:
    """d (sum u) / d x, where x is one tensor throughout u.

    Along axes on which u is elementwise, only those entries of u are seen whose gradient is.
    """
    builder = emitter.builder
    body, variable, *of = opened(node)
    if isinstance(variable, Local) and of:
        value = builder.expanded(builder.number(builder.tensor(emitter.emit(of[0]))), variable.order)
        emitter.locals[variable] = builder.call("operations.tracked", (value.at,), value.axes)
    x = emitter.locals[variable] if isinstance(variable, Local) else emitter.bound(cast("Input | Param", variable))
    seen = projected(guard, axes_of(guard) - mixed_axes(body, variable))
    u = builder.tensor(builder.number(emitter.emit(body, seen)))
    gradient = builder.call("operations.gradient", (u.at, x.at), x.axes)
    return emitter.guarded(builder.arranged(gradient, builder.sorted(x.axes)), guard, 0.0)


# ------------------------------------------------------------------------------------------------ searches


def _worst(emitter: Emitter, node: Call) -> Emitted:
    builder = emitter.builder
    body, variable = opened(node)[:2]
    norm, apart = node.options
    assert isinstance(variable, Local) and isinstance(norm, str) and isinstance(apart, tuple)
    axes = builder.sorted(variable.order)
    procedure, captured = body_of(emitter, body, variable, builder.sorted(body.axes))
    places = [_place(emitter, node.given(name), axes) for name in ("start", "radius", "step_size")]
    if places[0] is None:
        places[0] = builder.call("operations.zeros", (builder.like, *map(builder.size, axes)), axes).at
    dims = tuple(at for at, axis in enumerate(axes) if axis not in apart)
    return builder.search(
        "operations.worst", (*places, *captured), axes, procedure, steps=whole(node.given("steps")), norm=norm, dims=dims
    )


def _place(emitter: Emitter, node: Node | None, axes: tuple[str, ...]) -> Slot | float | None:
    return None if node is None else emitter.builder.arranged(emitter.builder.number(emitter.emit(node)), axes).at


def _root(emitter: Emitter, node: Call, guard: Guard) -> Emitted:
    """The root as a constant, with the gradient of its equation where it is seen."""
    builder = emitter.builder
    if node not in emitter.roots:
        emitter.roots[node] = _searched(emitter, node)
    body, found, slope = emitter.roots[node]
    axes = builder.sorted(node.axes)
    value = builder.expanded(builder.number(builder.tensor(emitter.emit(body, guard))), axes)
    root = builder.call("operations.implicit", (found, value.at, slope), axes)
    return emitter.guarded(root, guard, safe_number(node.domain))


def _searched(emitter: Emitter, node: Call) -> tuple[Node, Slot, Slot]:
    """The body of a root, over a variable that has its value from here on; that value, and the slope there."""
    builder = emitter.builder
    body, variable, low, high = opened(node)
    assert isinstance(variable, Local)
    axes = builder.sorted(variable.order)
    procedure, captured = body_of(emitter, body, variable, axes)
    ends = [builder.expanded(builder.number(builder.tensor(emitter.emit(end))), axes).at for end in (low, high)]
    found = builder.search("operations.root", (*ends, *captured), axes, procedure)
    emitter.locals[variable] = builder.call("operations.found_or", (found.at, ends[0]), axes)
    slope = builder.search("operations.root_slope", (emitter.locals[variable].at, *captured), axes, procedure)
    assert isinstance(found.at, Slot)
    assert isinstance(slope.at, Slot)
    return body, found.at, slope.at


# ------------------------------------------------------------------------------------------------ functions in Python


def _extern(emitter: Emitter, node: Call) -> Emitted:
    """A call of an extern. Axes that it does not name come first, in all arguments and the result."""
    _, target, result, parameters = cast(
        "tuple[str, str, tuple[str, ...], tuple[tuple[str, tuple[str, ...]], ...]]", node.options
    )
    builder = emitter.builder
    extra = builder.sorted(node.axes - set(result))
    operands = []
    for argument, (kind, order) in zip(node.arguments, parameters, strict=True):
        axes = (*extra, *order)
        operands.append(builder.arranged(builder.expanded(_of_kind(emitter, argument, kind), axes), axes).at)
    function = builder.bind("function", f"extern:{target}")
    value = builder.call("operations.called", (function, builder.like, *operands), (*extra, *result))
    return builder.arranged(value, builder.sorted(value.axes))


_RULES: dict[str, Callable[[Emitter, Call], Emitted]] = {
    "extern": _extern,
    "model": _model, "worst": _worst,
}  # fmt: skip
_SEEN_IN_PART: dict[str, Callable[[Emitter, Call, Guard], Emitted]] = {"root": _root, "grad": _grad, "fold": emit_fold}
