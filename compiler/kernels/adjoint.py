"""The seam of a separable root, taken apart: which rows it sums, and with what factors.

`numerator = sum[b where m](w * f)` says that each row has dL/df = (dL/dnumerator) * w where m. The factors w depend on
no statistic, so they are known before the kernel runs; f is a function of the statistics of one row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lossc.compiler.core import (
    ONE,
    ZERO,
    Index,
    Map,
    Node,
    Reduce,
    Select,
    Size,
    StopGrad,
    all_of,
    apply,
    const,
    differentiable,
    div,
    mul,
    walk,
    where,
)
from lossc.compiler.core.node import Axes


class CoupledError(Exception):
    """A value is not a sum over rows with factors that are known before the statistics."""


@dataclass(frozen=True)
class Share:
    """A function of one row: dL/d `value` is `factor` where `mask` holds, and 0 elsewhere."""

    value: Node
    factor: Node
    mask: Node | None

    @property
    def seed(self) -> Node:
        return where(self.mask, self.factor, ZERO)


def shares(root: Node, weight: Node, is_statistic: Callable[[Node], bool]) -> Iterator[Share]:
    """The functions of one row that a root sums, where dL/d root is `weight`. CoupledError if rows mix."""
    yield from _Splitting(is_statistic).split(root, weight, None, frozenset())


@dataclass(frozen=True)
class _Splitting:
    is_statistic: Callable[[Node], bool]

    def split(self, node: Node, factor: Node, mask: Node | None, over: Axes) -> Iterator[Share]:
        """The shares of a node that is summed `over` axes, multiplied by `factor`, where `mask` holds."""
        if not differentiable(node):
            return
        factor, mask, over = _summed(node, factor, mask, over)
        if self._of_one_row(node):
            yield Share(node, factor, mask)
            return
        match node:
            case Reduce(op="sum", body=body, where=admitted, groups=None):
                yield from self.split(body, factor, self._both(mask, admitted), over | set(node.over))
            case Reduce(op="mean", body=body, where=admitted, groups=None):
                number = apply("max", self._known(_count(node)), ONE)
                yield from self.split(body, div(factor, number), self._both(mask, admitted), over | set(node.over))
            case Select(body=body, axis=axis, at=int() as at):
                here = apply("eq", Index(axis), const(at))
                yield from self.split(body, factor, all_of(mask, here), over | {axis})
            case Map(function="add", arguments=terms):
                for term in terms:
                    yield from self.split(term, factor, mask, over)
            case Map(function="where", arguments=(condition, then, otherwise)):
                yield from self.split(then, factor, self._both(mask, condition), over)
                yield from self.split(otherwise, factor, self._both(mask, apply("not", condition)), over)
            case Map(function="mul" | "div"):
                yield from self._scaled(node, factor, mask, over)
            case _:
                raise CoupledError

    def _scaled(self, node: Map, factor: Node, mask: Node | None, over: Axes) -> Iterator[Share]:
        """The shares of a product or quotient of which one factor, not a divisor, depends on rows."""
        inner = [argument for argument in node.arguments if differentiable(argument)]
        if len(inner) != 1 or (node.function == "div" and inner[0] is not node.arguments[0]):
            raise CoupledError
        others = [self._known(argument) for argument in node.arguments if argument is not inner[0]]
        masks = [other for other in others if other.is_mask]
        rest = [other for other in others if not other.is_mask]
        combined = div(factor, rest[0]) if node.function == "div" else mul(factor, *rest)
        yield from self.split(inner[0], combined, all_of(mask, *masks), over)

    def _of_one_row(self, node: Node) -> bool:
        """Whether everything between a node and the statistics below it is elementwise."""
        return all(isinstance(part, Map | StopGrad) or not self._above(part) for part in walk(node) if part.children)

    def _above(self, node: Node) -> bool:
        return any(self.is_statistic(part) for part in walk(node))

    def _both(self, mask: Node | None, other: Node | None) -> Node | None:
        return mask if other is None else all_of(mask, self._known(other))

    def _known(self, node: Node) -> Node:
        if self._above(node):
            raise CoupledError
        return node


def _summed(node: Node, factor: Node, mask: Node | None, over: Axes) -> tuple[Node, Node | None, Axes]:
    """The factor, mask and axes for a node that lacks some of the axes it is summed over: one entry stands for many."""
    extra = over - node.axes
    if not extra:
        return factor, mask, over
    if mask is not None and mask.axes & extra:
        factor, mask = where(mask, factor, ZERO), None
    there = tuple(sorted(extra & factor.axes))
    repeated = [Size(axis) for axis in sorted(extra - factor.axes)]
    return mul(*repeated, Reduce("sum", there, factor) if there else factor), mask, over - extra


def _count(node: Reduce) -> Node:
    """The number of entries that a mean averages."""
    covered = node.where.axes if node.where is not None else frozenset()
    counted = tuple(axis for axis in node.over if axis in covered)
    sizes = [Size(axis) for axis in node.over if axis not in covered]
    return mul(*sizes, *([Reduce("count", counted, ONE, node.where)] if counted else []))
