"""The gradient of values on rows with respect to their leaves, as graphs, by one reverse pass.

A zero gradient is never passed on, even through an infinite or NaN slope: excluded values stay without influence.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeAlias

from lossc.compiler.core import (
    INFINITY,
    ONE,
    ZERO,
    Const,
    Index,
    Map,
    Node,
    Reduce,
    Rename,
    Select,
    Size,
    apply,
    const,
    div,
    mul,
    neg,
    sub,
    where,
)
from lossc.compiler.core.node import Axes
from lossc.compiler.core.operations import StopGrad
from lossc.compiler.derivative import product, slope_at, total
from lossc.compiler.rows.faults import NoRowsError

Links: TypeAlias = Mapping[Node, Sequence[tuple[Node, Node]]]
"""Of a leaf that was worked out elsewhere, the values that it depends on, each with d leaf / d value."""


def derivatives(
    values: Sequence[tuple[Node, Node]], sources: Collection[Node], links: Links | None = None
) -> dict[Node, Node]:
    """dL/d source for each source that the values depend on, from pairs (value, dL/d value).

    Raises NoRowsError where the gradient would pass through an operation that has no closed derivative here.
    """
    back = _Back(sources, links or {})
    return back.run(values)


class _Back:
    def __init__(self, sources: Collection[Node], links: Links) -> None:
        self.sources = frozenset(sources)
        self.links = links
        self._terms: dict[Node, list[Node]] = {}
        self._reaching: set[Node] = set()

    def run(self, values: Sequence[tuple[Node, Node]]) -> dict[Node, Node]:
        order = list(self._ordered([value for value, _ in values]))
        for node in order:
            if node in self.sources or any(child in self._reaching for child in self._passing(node)):
                self._reaching.add(node)
        for value, upstream in values:
            self._add(value, upstream, value.axes)
        found: dict[Node, Node] = {}
        for node in reversed(order):
            gradient = total(*self._terms.pop(node, ()))
            if gradient is not ZERO:
                if node in self.sources:
                    found[node] = gradient
                self._pass_on(node, gradient)
        return found

    def _ordered(self, roots: Sequence[Node]) -> Iterator[Node]:
        """Every node once, after everything that it depends on, including linked nodes."""
        seen: set[Node] = set()
        stack = [(root, False) for root in roots]
        while stack:
            node, expanded = stack.pop()
            if expanded:
                yield node
            elif node not in seen:
                seen.add(node)
                stack.append((node, True))
                stack.extend((child, False) for child in self._passing(node))

    def _passing(self, node: Node) -> tuple[Node, ...]:
        """The nodes of which a node may pass gradient to."""
        linked = tuple(value for value, _ in self.links.get(node, ()))
        if node.is_mask or isinstance(node, StopGrad) or (isinstance(node, Reduce) and node.op in ("count", "argmax")):
            return linked
        if isinstance(node, Reduce | Select):
            return (node.children[0], *linked)
        return (*node.children, *linked)

    def _add(self, node: Node, gradient: Node, axes: Axes) -> None:
        """Adds a summand to dL/d node; it holds for every entry of `axes`, and is summed over those that the node lacks."""
        if node not in self._reaching or gradient is ZERO:
            return
        extra = axes - node.axes
        there = tuple(sorted(extra & gradient.axes))
        repeated = [Size(axis) for axis in sorted(extra - gradient.axes)]
        summed = Reduce("sum", there, gradient) if there else gradient
        self._terms.setdefault(node, []).append(mul(*repeated, summed) if repeated else summed)

    # -------------------------------------------------------------------------------------- through one node

    def _pass_on(self, node: Node, gradient: Node) -> None:
        for value, slope in self.links.get(node, ()):
            self._add(value, _times(gradient, slope), node.axes | value.axes)
        if not any(child in self._reaching for child in self._passing(node)):
            return
        match node:
            case StopGrad():
                pass
            case Map(function="where", arguments=(condition, then, otherwise)):
                self._add(then, where(condition, gradient, ZERO), node.axes)
                self._add(otherwise, where(condition, ZERO, gradient), node.axes)
            case Map(arguments=arguments):
                for at, argument in enumerate(arguments):
                    if argument in self._reaching:
                        self._add(argument, _times(gradient, slope_at(node, at)), node.axes)
            case Reduce(groups=None):
                self._through_reduction(node, gradient)
            case Select(body=body, axis=axis, at=int() as at):
                self._add(body, where(apply("eq", Index(axis), const(at)), gradient, ZERO), node.axes | {axis})
            case Rename(body=body, old=old, new=new):
                renamed = Rename(gradient, new, old) if new in gradient.axes else gradient
                self._add(body, renamed, (node.axes - {new}) | {old})
            case _:
                if not node.children:
                    return
                raise NoRowsError(f"no gradient on rows passes through `{type(node).__name__}`")

    def _through_reduction(self, node: Reduce, gradient: Node) -> None:
        body, axes = node.body, node.axes | frozenset(node.over)
        match node.op:
            case "sum":
                share = gradient
            case "mean":
                share = div(gradient, apply("max", count_of(node), ONE))
            case "logsumexp":
                finite = apply("ne", node, neg(INFINITY))
                share = where(finite, _times(gradient, apply("exp", sub(body, node))), ZERO)
            case "max" | "min":
                attained = apply("eq", body, node)
                ties = Reduce("sum", node.over, where(attained, ONE, ZERO), node.where)
                share = where(attained, div(gradient, ties), ZERO)
            case _:
                raise NoRowsError(f"no gradient on rows passes through `{node.op}`")
        self._add(body, where(node.where, share, ZERO), axes)


def _times(gradient: Node, slope: Node) -> Node:
    if slope is ZERO or slope is ONE or isinstance(slope, Const):
        return product(gradient, slope)
    return where(apply("ne", gradient, ZERO), product(gradient, slope), ZERO)


def count_of(node: Reduce) -> Node:
    """How many entries a reduction admits."""
    covered = node.where.axes if node.where is not None else frozenset()
    counted = tuple(axis for axis in node.over if axis in covered)
    sizes = [Size(axis) for axis in node.over if axis not in covered]
    return mul(*sizes, *([Reduce("sum", counted, ONE, node.where)] if counted else []))
