"""Named quantities that the caller gives in place of the values from which they are computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from lossc.compiler.core import Map, Node, Rename, Select, Slice, add, mul, walk

_FLAT = {"add": add, "mul": mul}
"""Functions whose operands stand side by side: `nll - m` with `nll = a - b` is the sum of a, -b and -m."""


def with_given(root: Node, given: Mapping[Node, Node]) -> Node:
    """The graph with every quantity in `given` replaced, even if it has become part of a larger sum or product."""
    parts = [quantity for quantity in given if isinstance(quantity, Map) and quantity.function in _FLAT]
    done: dict[Node, Node] = dict(given)
    for node in walk(root):
        if node not in done:
            own = _covered(node, parts, given) if isinstance(node, Map) and node.function in _FLAT else []
            rest, leaves = _without(node.children, own), [given[part] for part in own]
            children = tuple(done[child] for child in rest)
            if leaves:
                assert isinstance(node, Map)
                done[node] = _FLAT[node.function](*children, *leaves)
            else:
                done[node] = _rebuilt(node, children) if children else node
    return done[root]


def _rebuilt(node: Node, children: tuple[Node, ...]) -> Node:
    """The node over other operands.

    Where a value no longer varies along an axis, a selection along it is the value itself.
    """
    axis = node.old if isinstance(node, Rename) else node.axis if isinstance(node, Select | Slice) else None
    return children[0] if axis is not None and axis not in children[0].axes else node.rebuild(children)


def _covered(node: Map, parts: Iterable[Map], given: Mapping[Node, Node]) -> list[Map]:
    """The quantities all of whose operands occur in a sum or product, the largest first, each operand used once."""
    left = Counter(node.arguments)
    found: list[Map] = []
    for part in sorted(parts, key=lambda part: -len(part.arguments)):
        wanted = Counter(part.arguments)
        while part.function == node.function and wanted <= left and given[part].axes <= node.axes:
            left -= wanted
            found.append(part)
    return found


def _without(operands: tuple[Node, ...], parts: Iterable[Map]) -> list[Node]:
    kept = list(operands)
    for part in parts:
        for operand in part.arguments:
            kept.remove(operand)
    return kept
