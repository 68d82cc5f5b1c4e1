"""Emission: core graphs as a straight-line program of torch operations.

`emit(roots)` is the one entry: it prepares the graphs, fixes an order of axes, and returns a `Procedure` whose outputs have the
names of the roots. A root may come with a mask outside of which it is not seen.

| modules | what they do |
|---|---|
| `procedure` | the emitted program as data: slots, instructions, outputs |
| `prepare`, `centre`, `coefficients`, `restrict` | the graph in a form that computes safely: centred logits, … |
| `emitter` | nodes to instructions, under a guard |
| `guards`, `bounds`, `masks`, `facts`, `untaken` | which entries are seen, and what must be finite where they are not |
| `builder`, `extents` | appends instructions, aligned by axes; the extents of axes made inside |
| `arithmetic`, `reduce`, `along`, `calls`, `leaves` | the rules of single families of nodes |
| `opaque`, `nested`, `folds` | models, gradients, searches and folds: procedures inside a procedure |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lossc.compiler.core import Call, Input, Node, Param, Rename, walk
from lossc.compiler.emission.builder import Builder
from lossc.compiler.emission.emitter import Emitter
from lossc.compiler.emission.extents import Extent, Product, complete_extents, made_by, made_extents
from lossc.compiler.emission.guards import ALL, extended
from lossc.compiler.emission.opaque import differentiated
from lossc.compiler.emission.prepare import prepared, recursion_for
from lossc.compiler.emission.procedure import Bound, Emitted, Instruction, Procedure, Slot
from lossc.compiler.emission.untaken import perhaps_untaken
from lossc.grammar.source import Span

__all__ = [
    "Bound",
    "Emitted",
    "Extent",
    "Instruction",
    "Procedure",
    "Product",
    "Slot",
    "axis_order",
    "complete_extents",
    "emit",
    "made_by",
    "made_extents",
]


def emit(
    roots: Mapping[str, Node], *, seen: Mapping[str, Node] | None = None, spans: dict[Node, Span] | None = None,
    differentiable: bool = True,
) -> Procedure:  # fmt: skip
    """The procedure that computes the roots; `seen` has masks of the entries that count, for some of them.

    Unless it is `differentiable`, excluded entries are not replaced by safe numbers.
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
    """A fixed order of all axes: the order in the largest tensors first, so that these need no transposing."""
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
