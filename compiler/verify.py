"""What makes a core graph well formed, as a table, and the check of it that runs after each pass.

A pass calls `verified(name, roots)`; with LOSSC_VERIFY=1 in the environment (as in the tests), every node reachable
from the roots is checked against the statements for its type.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, get_args

from lossc.compiler.core import (
    Along,
    AlongOp,
    Call,
    Const,
    Draw,
    Index,
    Input,
    Local,
    Map,
    Node,
    Param,
    Reduce,
    ReduceOp,
    Rename,
    Select,
    Size,
    Slice,
    StopGrad,
    walk,
)
from lossc.compiler.faults import InternalError
from lossc.compiler.primitives import PRIMITIVES


@dataclass(frozen=True)
class Statement:
    """A property of every well-formed node of a type."""

    text: str
    holds: Callable[[Any], bool]


def _names(names: object) -> bool:
    """Distinct axis names, in a tuple."""
    return isinstance(names, tuple) and all(isinstance(n, str) and n for n in names) and len(set(names)) == len(names)


def _mask_or_none(node: Node | None) -> bool:
    return node is None or (isinstance(node, Node) and node.is_mask)


def _exact(node: Const) -> bool:
    return isinstance(node.value, Fraction) or node.value in ("pi", "inf")


def _arity(node: Map) -> bool:
    arity = PRIMITIVES[node.function].arity
    return len(node.arguments) == arity if arity is not None else len(node.arguments) >= 2


def _masks_in_logic(node: Map) -> bool:
    masks = {"and": 2, "or": 2, "not": 1, "where": 1}.get(node.function, 0)
    return all(argument.is_mask for argument in node.arguments[:masks])


def _flat(node: Map) -> bool:
    return node.function not in ("add", "mul") or not any(
        isinstance(argument, Map) and argument.function == node.function for argument in node.arguments
    )


def _groups(node: Reduce) -> bool:
    if node.groups is None:
        return True
    label, axis = node.groups
    others = (node.body.axes | (node.where.axes if node.where else frozenset())) - frozenset(node.over)
    return not label.is_mask and bool(label.axes & frozenset(node.over)) and axis not in others


def _inner_axes(node: Reduce | Along) -> frozenset[str]:
    return frozenset().union(*(child.axes for child in node.children))


def _position(at: object) -> bool:
    if isinstance(at, Node):
        return not at.is_mask
    return isinstance(at, int) and not isinstance(at, bool) and at >= 0


def _new_axis(node: Along) -> bool:
    if node.op not in ("sort", "topk"):
        return node.new is None
    return isinstance(node.new, str) and node.new not in _inner_axes(node) - {node.axis}


_OPTIONAL = ("sort", "scan", "shift", "topk")

SPECIFICATION: dict[type[Node], tuple[Statement, ...]] = {
    Input: (
        Statement("its dimensions are distinct axis names", lambda n: _names(n.order)),
        Statement("it has a name", lambda n: isinstance(n.name, str) and bool(n.name)),
    ),
    Local: (
        Statement("its dimensions are distinct axis names", lambda n: _names(n.order)),
        Statement("it has a name", lambda n: isinstance(n.name, str) and bool(n.name)),
    ),
    Const: (Statement("it is a rational, pi or inf", _exact),),
    Param: (
        Statement("its dimensions are distinct axis names", lambda n: _names(n.order)),
        Statement("its role is known", lambda n: n.role in ("param", "learn", "state", "run")),
    ),
    Index: (Statement("the axis is a name", lambda n: isinstance(n.axis, str)),),
    Size: (Statement("the axis is a name", lambda n: isinstance(n.axis, str)),),
    Draw: (
        Statement("its dimensions are distinct axis names", lambda n: _names(n.order)),
        Statement("the distribution is known", lambda n: n.distribution in ("normal", "uniform")),
    ),
    Map: (
        Statement("the function is in the table of primitives", lambda n: n.function in PRIMITIVES),
        Statement("every argument is a node", lambda n: all(isinstance(a, Node) for a in n.arguments)),
        Statement("it has as many arguments as the function takes", _arity),
        Statement("`and`, `or`, `not` and a condition are over masks", _masks_in_logic),
        Statement("sums and products are flat", _flat),
    ),
    Reduce: (
        Statement("the operation is known", lambda n: n.op in get_args(ReduceOp)),
        Statement("it reduces distinct named axes", lambda n: _names(n.over) and bool(n.over)),
        Statement("the value or the mask has each reduced axis", lambda n: frozenset(n.over) <= _inner_axes(n)),
        Statement("`where` is a mask", lambda n: _mask_or_none(n.where)),
        Statement("`any` and `all` are over masks", lambda n: n.op not in ("any", "all") or n.body.is_mask),
        Statement("groups are labels along a reduced axis, on an axis of their own", _groups),
        Statement("a quantile has a level", lambda n: n.op != "quantile" or n.option is not None),
        Statement(
            "only quantile, std and var take an option",
            lambda n: n.option is None or n.op in ("quantile", "std", "var"),
        ),
    ),
    Select: (
        Statement("the selected axis is there", lambda n: n.axis in n.body.axes),
        Statement("the position is an index or a number >= 0, never a mask", lambda n: _position(n.at)),
    ),
    Slice: (
        Statement("the sliced axis is there", lambda n: n.axis in n.body.axes),
        Statement("the new axis is not", lambda n: n.new not in n.body.axes - {n.axis}),
        Statement("0 <= start < stop", lambda n: 0 <= n.start < n.stop),
    ),
    Rename: (
        Statement("the renamed axis is there", lambda n: n.old in n.body.axes),
        Statement("the new name is not", lambda n: n.new not in n.body.axes),
    ),
    Along: (
        Statement("the operation is known", lambda n: n.op in get_args(AlongOp)),
        Statement("the value or the mask has the axis", lambda n: n.axis in _inner_axes(n)),
        Statement("`where` is a mask", lambda n: _mask_or_none(n.where)),
        Statement("`by` is a label", lambda n: n.by is None or not n.by.is_mask),
        Statement("only sort and topk make an axis, and a new one", _new_axis),
        Statement("only sort, scan, shift and topk take an option", lambda n: n.option is None or n.op in _OPTIONAL),
        Statement("scan and topk have their option", lambda n: n.option is not None or n.op not in ("scan", "topk")),
        Statement("only shift is filled", lambda n: n.fill is None or n.op == "shift"),
    ),
    StopGrad: (Statement("it holds a node", lambda n: isinstance(n.body, Node)),),
    Call: (
        Statement("names are those of all arguments, or none", lambda n: len(n.names) in (0, len(n.arguments))),
        Statement("consumed axes are distinct names", lambda n: _names(n.consumed)),
        Statement("produced axes are distinct names", lambda n: _names(n.produced)),
        Statement(
            "some argument has each consumed axis",
            lambda n: frozenset(n.consumed) <= frozenset().union(*(a.axes for a in n.arguments)),
        ),
    ),
}  # fmt: skip
"""Every node type with what is true of it; a type that is not here is no part of the core."""


def violation(node: Node) -> str | None:
    """The first statement that this node violates (its parts are not checked), or None."""
    statements = SPECIFICATION.get(type(node))
    if statements is None:
        return "it is of a type of the core"
    return next((s.text for s in statements if not s.holds(node)), None)


def verify(*roots: Node) -> None:
    """Raises InternalError where a node reachable from `roots` is not well formed."""
    for node in walk(*roots):
        broken = violation(node)
        if broken is not None:
            raise InternalError(f"a core graph is not well formed: {outline(node)} should satisfy: {broken}")


def verified(after: str, roots: Iterable[Node]) -> None:
    """`verify` under LOSSC_VERIFY=1, naming the pass that produced the graph."""
    if os.environ.get("LOSSC_VERIFY", "0") in ("", "0"):
        return
    try:
        verify(*roots)
    except InternalError as fault:
        raise InternalError(f"after the pass `{after}`: {fault}") from fault


def outline(node: Node) -> str:
    """The node and its parts, one level deep, with their axes."""
    parts = ", ".join(f"{type(part).__name__}[{', '.join(sorted(part.axes))}]" for part in node.children)
    telling = ("function", "op", "name", "axis", "over", "value")
    labels = " ".join(str(getattr(node, name)) for name in telling if hasattr(node, name))
    return f"{type(node).__name__} {labels}({parts})"
