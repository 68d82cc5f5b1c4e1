"""Comparisons of a value with an entry of itself, in which both sides must be the same floating-point numbers.

In `p >= topk[v -> k](p, 3)[k = 2]` one entry is compared with itself. A kernel would compute `p` a second time by other
operations, and rounding would decide the comparison. Such values are computed by torch instead. A tensor of the caller
needs no such care: it is the same each time it is read.
"""

from __future__ import annotations

from lossc.compiler.core import Along, Call, Map, Node, Reduce, Select, StopGrad, walk
from lossc.compiler.primitives import COMPARISONS


def compares_itself(node: Node, axis: str) -> bool:
    """Whether a node compares a computed value along `axis` with an entry picked from the same value."""
    if not isinstance(node, Map) or node.function not in COMPARISONS:
        return False
    left, right = map(_bare, node.arguments)
    return _is_picked(right, left, axis) or _is_picked(left, right, axis)


def _bare(node: Node) -> Node:
    return node.body if isinstance(node, StopGrad) else node


def _is_picked(entry: Node, value: Node, axis: str) -> bool:
    if axis not in value.axes or axis in entry.axes or not isinstance(value, Map | Along):
        return False
    return any(_picks(part, value, axis) for part in walk(entry)) or _at(value, entry, axis)


def _picks(part: Node, value: Node, axis: str) -> bool:
    """Whether a node picks entries of the value, by position or by order."""
    match part:
        case Select(body=body, axis=own) | Along(op="sort" | "topk", body=body, axis=own):
            return own == axis and _bare(body) is value
        case Call(function="sort", arguments=(body, *_), order=over):
            return axis in over and _bare(body) is value
        case Reduce(op="quantile" | "median", body=body, over=over):
            return axis in over and _bare(body) is value
    return False


def _at(value: Node, entry: Node, axis: str) -> bool:
    """Whether `entry` is `value` at one position. Selections have been moved down to the leaves."""
    value, entry = _bare(value), _bare(entry)
    if axis not in value.axes:
        return value is entry
    if isinstance(entry, Select) and entry.axis == axis:
        return entry.body is value
    if isinstance(value, Along) and value.op == "softmax" and isinstance(entry, Map) and entry.function == "exp":
        log = entry.arguments[0]
        return isinstance(log, Select) and isinstance(log.body, Along) and log.body.body is value.body
    if not isinstance(value, Map) or not isinstance(entry, Map) or value.function != entry.function:
        return False
    left = list(entry.arguments)
    for argument in value.arguments:
        found = next((each for each in left if _at(argument, each, axis)), None)
        if found is None:
            return False
        left.remove(found)
    return not left
