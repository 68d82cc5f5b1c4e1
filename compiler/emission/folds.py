"""`fold`: its body as a procedure of what is carried and of one entry of all that runs along its axis."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lossc.compiler.core import BINDING, Call, Local, Map, Node, Rename, mixed_axes, walk
from lossc.compiler.emission.facts import safe_number
from lossc.compiler.emission.guards import Guard, ahead, axes_of, projected, renamed
from lossc.compiler.emission.nested import apart, body_of
from lossc.compiler.emission.procedure import Emitted
from lossc.compiler.steep import singular

if TYPE_CHECKING:
    from lossc.compiler.emission.emitter import Emitter


def by_steps(node: Node) -> Node:
    """A fold whose body has its own variable and its own axis of steps, of which each step sees one entry.

    Whatever does not contain the variable is computed outside the body, where that axis is like any other; guards can
    be applied there to functions that may be steep. Calls in the body may bind a variable that looks the same.
    """
    if not isinstance(node, Call) or node.function != "fold":
        return node
    body, variable, *others = node.arguments
    axis, step = node.order[0], _step(node)
    fresh = apart(variable)
    carried: dict[Node, Node] = {variable: fresh}

    def moved(part: Node) -> Node:
        if part in carried or axis not in part.axes:
            return carried.get(part, part)
        if isinstance(part, Map) and any(isinstance(inner, Map) and singular(inner) for inner in walk(part)):
            return part.rebuild(tuple(map(moved, part.arguments)))
        return Rename(part, axis, step)

    for part in walk(body):
        binds = isinstance(part, Call) and part.function in BINDING and part.arguments[1] is variable
        if not binds and any(child in carried for child in part.children):
            carried[part] = part.rebuild(tuple(map(moved, part.children)))
    body = moved(body)
    consumed = tuple(dict.fromkeys((*node.consumed, *(body.axes & {step}))))
    return replace(node, arguments=(body, fresh, *others), consumed=consumed)


def _step(node: Call) -> str:
    return f"step of {node.order[0]}"


def emit_fold(emitter: Emitter, node: Call, guard: Guard) -> Emitted:
    """The last value, or all of them.

    Along axes that no step mixes, each step only has to be right at the entries seen of the value; of all values, a
    step is seen where it or a later one is.
    """
    builder = emitter.builder
    body, variable, start, _ = node.arguments
    assert isinstance(variable, Local)
    axis, step = node.order[0], _step(node)
    axes = builder.sorted(variable.order)
    every = axis in node.produced
    seen = projected(guard, axes_of(guard) - mixed_axes(body, variable))
    first = projected(seen, axes_of(seen) - {axis})
    begin = builder.expanded(builder.number(builder.tensor(emitter.emit(start, first))), axes)
    inside = renamed(ahead(seen, axis, None), step, axis) if step in builder.order else first
    procedure, captured = body_of(emitter, body, variable, axes, inside, step)
    given = (entry for entry in procedure.bound if entry.kind != "variable")
    steps = tuple(at for at, entry in enumerate(given) if entry.kind == "step")
    operands = (builder.size(axis), builder.arranged(begin, axes).at, *captured)
    value = builder.search("operations.fold", operands, (axis, *axes) if every else axes, procedure, steps=steps, every=every)
    value = builder.arranged(value, builder.sorted(value.axes))
    return emitter.guarded(value, guard, safe_number(node.domain))
