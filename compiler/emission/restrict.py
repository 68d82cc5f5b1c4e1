"""Selections of fixed positions and of labels, moved towards the leaves.

Positions that are not selected are then never computed, so that nothing of them, NaN included, reaches a value or a
gradient; and a gather precedes the elementwise functions of what it reads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lossc.compiler.core import (
    Along,
    Call,
    Index,
    Map,
    Node,
    Reduce,
    Rename,
    Select,
    Slice,
    StopGrad,
    add,
    const,
    own_axes,
)


@dataclass(frozen=True)
class Cut:
    """Positions `start` to `stop` of `axis` on the axis `new`, or, without `new`, the position `start` alone."""

    axis: str
    start: int
    stop: int
    new: str | None = None

    def of(self, node: Node) -> Node:
        if self.new is None:
            return Select(node, self.axis, self.start)
        return Slice(node, self.axis, self.new, self.start, self.stop)

    def index(self) -> Node:
        return const(self.start) if self.new is None else add(Index(self.new), const(self.start))


class Restrictor:
    """Moves selections; remembers the result for each node and selection."""

    def __init__(self) -> None:
        self._cut: dict[tuple[Node, Cut], Node] = {}
        self._gathered: dict[tuple[Node, str, Node | int], Node] = {}

    def step(self, node: Node) -> Node:
        """One node whose parts have been handled already."""
        if isinstance(node, Slice):
            return self.cut(node.body, Cut(node.axis, node.start, node.stop, node.new))
        if isinstance(node, Select):
            if isinstance(node.at, int):
                return self.cut(node.body, Cut(node.axis, node.at, node.at + 1))
            return self.gathered(node.body, node.axis, node.at)
        return node

    def cut(self, node: Node, cut: Cut) -> Node:
        if cut.axis not in node.axes:
            return node
        key = (node, cut)
        if key not in self._cut:
            self._cut[key] = self._cut_inside(node, cut)
        return self._cut[key]

    def _cut_inside(self, node: Node, cut: Cut) -> Node:
        if isinstance(node, Index):
            return cut.index()
        if cut.new is not None and cut.new in own_axes(node):
            return cut.of(node)
        match node:
            case Rename(body=body, old=old, new=new) if new == cut.axis:
                return self.cut(body, replace(cut, axis=old))
            case Slice(body=body, axis=axis, new=new, start=start) if new == cut.axis:
                return self.cut(body, replace(cut, axis=axis, start=start + cut.start, stop=start + cut.stop))
            case Select(body=body, axis=axis, at=Node() as at) if axis == cut.axis:
                return Select(body, axis, self.cut(at, cut))
            case Map() | StopGrad() | Reduce() | Along() | Rename() | Select() | Slice() | Call() if node.children:
                if cut.axis not in own_axes(node) and not (isinstance(node, Call) and node.is_opaque):
                    return node.rebuild(tuple(self.cut(child, cut) for child in node.children))
        return cut.of(node)

    def gathered(self, node: Node, axis: str, at: Node | int) -> Node:
        """The node at a label or position, with selections at the leaves."""
        if axis not in node.axes:
            return node
        key = (node, axis, at)
        if key not in self._gathered:
            if isinstance(node, Map | StopGrad):
                children = tuple(self.gathered(child, axis, at) for child in node.children)
                self._gathered[key] = node.rebuild(children)
            else:
                self._gathered[key] = Select(node, axis, at)
        return self._gathered[key]
