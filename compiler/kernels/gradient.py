"""The gradient of a kernel with respect to a stream, as coefficients times slopes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lossc.compiler.core import ONE, ZERO, Input, Map, Node, add, all_of, mul, where
from lossc.compiler.kernels.model import Kernel
from lossc.compiler.table.model import Statistic, Stream


@dataclass(frozen=True)
class Part:
    """A summand of a gradient: (dL/d statistic) * value, where the mask holds and the coefficient is not 0."""

    statistic: Statistic
    value: Node
    mask: Node | None


def gradient_of(kernel: Kernel, stream: Stream) -> list[Part]:
    """The summands of the gradient of a stream at every class; what selections add at their labels is not among them."""
    return [Part(s, slope.value, s.mask) for s in kernel.statistics for slope in s.gradients if slope.of == stream.name]


def coefficient(statistic: Statistic) -> Input:
    """The leaf that stands for dL/d statistic."""
    return Input(f"@d_{statistic.name}", tuple(sorted(statistic.leaf.axes)))


def seen(statistic: Statistic) -> Input:
    """The leaf that stands for the flag that the coefficient of a statistic is not 0."""
    return Input(f"@on_{statistic.name}", tuple(sorted(statistic.leaf.axes)), "mask")


def guarded(parts: Iterable[Part]) -> Node:
    """The sum of the parts, each hidden where its coefficient is 0, whatever its slope is."""
    terms = [where(all_of(seen(p.statistic), p.mask), mul(coefficient(p.statistic), p.value), ZERO) for p in parts]
    return add(*terms)


def collected(parts: Iterable[Part], axis: str) -> Node:
    """The sum of the parts where all coefficients count, in few operations per class.

    Terms are grouped by their exponential, and within a group by equal class factors, so that what is the same for
    every class is added up once: `a e + b e (z + 1)` becomes `e ((a + b) + b z)`.
    """
    groups: dict[tuple[Node | None, Node], dict[Node, list[Node]]] = {}
    for part in parts:
        for factors in _terms(mul(coefficient(part.statistic), part.value)):
            common = next((factor for factor in factors if _is_exponential(factor, axis)), ONE)
            rows = mul(*(factor for factor in factors if axis not in factor.axes))
            classes = mul(*(factor for factor in factors if axis in factor.axes and factor is not common))
            groups.setdefault((part.mask, common), {}).setdefault(classes, []).append(rows)
    return add(*(_group(mask, common, terms) for (mask, common), terms in groups.items()))


def _group(mask: Node | None, common: Node, terms: dict[Node, list[Node]]) -> Node:
    """`common` times the sum of row factors times class factors."""
    ordered = sorted(terms.items(), key=lambda item: item[0] is not ONE)
    products = [_times(add(*rows), classes) for classes, rows in ordered]
    return where(mask, _times(add(*products), common), ZERO)


def _times(x: Node, y: Node) -> Node:
    return y if x is ONE else x if y is ONE else mul(x, y)


def _terms(node: Node) -> Iterator[tuple[Node, ...]]:
    """The factors of each term; one sum inside a product is multiplied out."""
    if not isinstance(node, Map) or node.function != "mul":
        yield (node,)
        return
    sums = [factor for factor in node.arguments if isinstance(factor, Map) and factor.function == "add"]
    if len(sums) != 1:
        yield node.arguments
        return
    rest = tuple(factor for factor in node.arguments if factor is not sums[0])
    for term in sums[0].arguments:
        yield (*rest, *(term.arguments if isinstance(term, Map) and term.function == "mul" else (term,)))


def _is_exponential(node: Node, axis: str) -> bool:
    if isinstance(node, Map) and node.function == "pow":
        node = node.arguments[0]
    return isinstance(node, Map) and node.function == "exp" and axis in node.axes
