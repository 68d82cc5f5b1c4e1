"""Emission: core graphs as a straight-line program of torch operations.

`emit(roots)` is the one entry: it prepares the graphs, fixes an order of axes, and returns a `Procedure` whose outputs
carry the names of the roots. A root may come with a mask outside of which it is not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lossc.compiler.core import BINDING, Along, Call, Const, Input, Local, Node, Param, Rename, Slice, walk
from lossc.compiler.emission.builder import Builder, Extent
from lossc.compiler.emission.emitter import Emitter
from lossc.compiler.emission.guards import ALL, extended
from lossc.compiler.emission.opaque import differentiated
from lossc.compiler.emission.prepare import prepared, recursion_for
from lossc.compiler.emission.procedure import Bound, Emitted, Instruction, Procedure, Slot
from lossc.compiler.emission.untaken import perhaps_untaken
from lossc.grammar.source import Span

__all__ = ["Bound", "Emitted", "Extent", "Instruction", "Procedure", "Slot", "axis_order", "emit", "made_extents"]


def emit(
    roots: Mapping[str, Node], *, seen: Mapping[str, Node] | None = None, spans: dict[Node, Span] | None = None,
    differentiable: bool = True,
) -> Procedure:  # fmt: skip
    """The program that computes the roots; `seen` masks the entries of some of them that count.

    One that is not to be differentiated needs no safe numbers in place of what is excluded.
    """
    with recursion_for(roots):
        ready = prepared(roots)
        masks = prepared(seen or {})
        everything = (*ready.values(), *masks.values())
        builder = Builder(axis_order(everything))
        builder.extents = made_extents(everything)
        untaken = perhaps_untaken(everything) if differentiable else frozenset()
        tracked = differentiated(everything)
        emitter = Emitter(builder, spans, guards=differentiable, tracked=tracked, untaken=untaken)
        outputs = {}
        for name, root in ready.items():
            value = emitter.emit(root, extended(ALL, masks.get(name)))
            outputs[name] = builder.tensor(value)
    bound = tuple(sorted(builder.bound.values(), key=lambda entry: entry.slot))
    return Procedure(bound, tuple(builder.instructions), outputs, emitter.minima, tuple(emitter.squares))


def axis_order(roots: Iterable[Node]) -> dict[str, int]:
    """A fixed order of all axes: the dimensions of the largest tensors first, so that these are not transposed."""
    nodes = list(walk(*roots))
    orders = [node.order for node in nodes if isinstance(node, Input | Param)]
    orders.sort(key=lambda order: (-len(order), order))
    axes = [axis for order in orders for axis in order]
    for node in nodes:
        axes.extend(sorted(node.axes))
        if isinstance(node, Rename):
            axes.extend((node.old, node.new))
        elif isinstance(node, Call):
            axes.extend((*node.order, *node.produced))
    return {axis: at for at, axis in enumerate(dict.fromkeys(axes))}


def made_extents(roots: Iterable[Node]) -> dict[str, Extent]:
    """The axes made inside the program, each with what its extent is that of (of several axes: the least), or its extent."""
    nodes = list(walk(*roots))
    own = {axis for node in nodes if isinstance(node, Input) for axis in node.order}
    found: dict[str, Extent] = {}
    for node in nodes:
        match node:
            case Rename(old=old, new=new) if new not in own and not _comes_from(old, new, found):
                found.setdefault(new, old)
            case Slice(new=new, start=start, stop=stop) if new not in own:
                found.setdefault(new, stop - start)
            case Along(op="sort", axis=axis, new=str() as new) if new not in own:
                found.setdefault(new, axis)
            case Along(op="topk", option=Const() as number, new=str() as new) if new not in own:
                found.setdefault(new, int(float(number)))
            case Call(function="svdvals" | "eigvals", order=order, produced=(new,)) if new not in own:
                found.setdefault(new, order)
            case Call(function="model" | "extern", produced=made):
                kept = [axis for axis in made if axis not in own and (axis not in found or _is_open(found[axis]))]
                found.update(dict.fromkeys(kept, node))
            case Call(function="leaf:svdvals", produced=(_, new)) if new not in own:
                found.setdefault(new, node)
    return found


def _is_open(extent: Extent) -> bool:
    """Whether it is told by a call inside a search, whose variable has no value around it."""
    return isinstance(extent, Node) and bool(_open_locals(extent))


def _open_locals(root: Node) -> frozenset[Node]:
    """The variables in a graph that no search in it binds."""
    found: dict[Node, frozenset[Node]] = {}
    for node in walk(root):
        inside = frozenset[Node]().union(*(found[child] for child in node.children))
        if isinstance(node, Call) and node.function in BINDING and isinstance(node.arguments[1], Local):
            body, variable, *others = node.arguments
            binds = node.function != "grad" or bool(others)
            inside = (found[body] - {variable} if binds else inside).union(*(found[other] for other in others))
        found[node] = frozenset((node,)) if isinstance(node, Local) else inside
    return found[root]


def _comes_from(axis: Extent, other: str, made: Mapping[str, Extent]) -> bool:
    """Whether an axis is another, or was made from it: renamed to and fro, one of the two is the first."""
    while isinstance(axis, str) and axis != other and axis in made:
        axis = made[axis]
    return axis == other
