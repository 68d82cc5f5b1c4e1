"""Powers and square roots of values that are never negative, such as (1 - p)^gamma for a probability p.

Where p is computed from the statistics of a row, as in `softmax[v](z + bias)`, it may be rounded to more than 1, and
then the power of a negative number would be NaN. The base is clipped at 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from lossc.compiler.core import INFINITY, ZERO, Along, Const, Input, Map, Node, Param, walk


def kept_from_below(root: Node, axis: str) -> dict[Node, Node]:
    """The powers and roots of a graph whose base may be rounded below 0, each with its replacement, whose base is clipped."""
    return {node: node.rebuild((Map("clip", (node.children[0], ZERO, INFINITY)), *node.children[1:]))
            for node in _roots(root) if _is_rounded(node.children[0], axis)}  # fmt: skip


def _roots(root: Node) -> Iterator[Map]:
    """Square roots, and powers by an exponent that is no whole number."""
    for node in walk(root):
        if isinstance(node, Map) and node.function in ("sqrt", "pow"):
            exponent = node.arguments[-1]
            value = exponent.value if isinstance(exponent, Const) else None
            if node.function == "sqrt" or not (isinstance(value, Fraction) and value.denominator == 1):
                yield node


def _is_rounded(base: Node, axis: str) -> bool:
    """Whether a value >= 0 is computed from others that may be negative, and from a softmax of computed scores."""
    if not (isinstance(base, Map) and base.function in ("add", "mul") and base.domain.lo >= 0):
        return False
    if all(part.domain.lo >= 0 for part in base.arguments):
        return False
    return any(isinstance(part, Along) and part.axis == axis and not _is_exact(part.body, axis) for part in walk(base))


def _is_exact(scores: Node, axis: str) -> bool:
    """Whether scores have the same order wherever they are computed: tensors of the caller, times numbers >= 0."""
    if isinstance(scores, Map) and scores.function == "mul":
        along = [part for part in scores.arguments if axis in part.axes]
        apart = [part for part in scores.arguments if axis not in part.axes]
        return len(along) == 1 and _is_exact(along[0], axis) and all(part.domain.lo >= 0 for part in apart)
    return isinstance(scores, Input | Param)
