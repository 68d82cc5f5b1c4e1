"""Derivatives of bodies: by streams, elementwise, and by row values, summed over classes in the same sweep (sensitivities)."""

from __future__ import annotations

from dataclasses import dataclass

from lossc.compiler.core import ZERO, Index, Input, Map, Node, StopGrad, apply, const, differentiable, div
from lossc.compiler.core import where as choose
from lossc.compiler.derivative import derivative, product
from lossc.compiler.derivative import total as added
from lossc.compiler.table.canonical import Canonical
from lossc.compiler.table.factor import factored
from lossc.compiler.table.registry import Definition
from lossc.compiler.table.rows import Abstraction


@dataclass(frozen=True)
class Slopes:
    """The derivatives of one statistic: d body / d entry of each stream, and the sum of d body / d value for each row value."""

    gradients: tuple[tuple[Node, Node], ...]
    sensitivities: tuple[tuple[Node, Node], ...]


class Differentiation:
    """The derivatives of the statistics of one table."""

    def __init__(self, canonical: Canonical) -> None:
        self.canonical = canonical
        self.registry = canonical.registry
        self.axis = canonical.axis
        self.rows = Abstraction(canonical.axis)

    def slopes(self, leaf: Node) -> Slopes:
        definition = self.registry.definitions[leaf]
        assert isinstance(leaf, Input)
        if leaf.detached:
            return Slopes((), ())
        gradients = [(stream, self._gradient(leaf, definition, stream)) for stream in self.streams(definition.body)]
        return Slopes(
            tuple((stream, slope) for stream, slope in gradients if slope is not ZERO),
            () if definition.op == "select" else tuple(self._sensitivities(leaf, definition)),
        )

    # -------------------------------------------------------------------------------------- leaves of a body

    def streams(self, body: Node) -> list[Node]:
        """The differentiable streams of the caller that a body reads, in a fixed order."""
        found: dict[Node, None] = {}
        for part in self.leaves(body):
            if part in self.registry.centred:
                found.update(dict.fromkeys(self.streams(self.registry.centred[part].source)))
            elif not isinstance(part, Index) and differentiable(part):
                found[part] = None
        return sorted(found, key=lambda node: node.digest)

    def leaves(self, body: Node) -> list[Node]:
        """The class-level leaves of a body: tensors, centred streams, the index."""
        return [node for node in self._parts(body) if self.axis in node.axes and not isinstance(node, Map | StopGrad)]

    def values(self, body: Node) -> list[Node]:
        """The row values that a body reads."""
        leaves = self._parts(self.rows.of(body))
        return [self.rows.values[leaf] for leaf in leaves if leaf in self.rows.values]

    def _parts(self, body: Node) -> list[Node]:
        """The class-level leaves, and the largest subexpressions without the class axis."""
        found: dict[Node, None] = {}
        stack = [body]
        while stack:
            node = stack.pop()
            if self.axis in node.axes and isinstance(node, Map | StopGrad):
                stack.extend(reversed(node.children))
            else:
                found[node] = None
        return list(found)

    # -------------------------------------------------------------------------------------- derivatives

    def slope(self, body: Node, wrt: Node) -> Node:
        """d body / d wrt, a stream or the leaf of a row value, through the definitions of centred streams.

        Other row values are held fixed, and shifts are constants.
        """
        held = self.rows.of(body)
        terms = [derivative(held, wrt)]
        for leaf in self.leaves(held):
            if leaf in self.registry.centred:
                terms.append(product(derivative(held, leaf), self.slope(self.registry.centred[leaf].source, wrt)))
        return added(*terms)

    def _gradient(self, leaf: Node, definition: Definition, stream: Node) -> Node:
        return self._share(leaf, definition, self.tidy(self.rows.back(self.slope(definition.body, stream))))

    def _share(self, leaf: Node, definition: Definition, slope: Node) -> Node:
        """The share of a slope that reaches the statistic: of a selection at its label, of a maximum where it is attained."""
        if slope is ZERO or definition.op == "sum":
            return slope
        if definition.op == "select":
            assert definition.at is not None
            here = const(definition.at) if isinstance(definition.at, int) else definition.at
            return choose(apply("eq", Index(self.axis), here), slope, ZERO)
        attained = apply("eq", definition.body, leaf)
        return choose(attained, div(slope, self.registry.statistic("ties", definition.body, definition.mask)), ZERO)

    def tidy(self, slope: Node) -> Node:
        p = self.canonical.of(slope)
        return factored(p, self.axis) if p.terms else ZERO

    def _sensitivities(self, leaf: Node, definition: Definition) -> list[tuple[Node, Node]]:
        found = []
        for value in self._row_values(definition.body):
            slope = self.rows.back(self.slope(definition.body, self.rows.leaf(value)))
            shared = self._share(leaf, definition, slope)
            summed = self.canonical.sums.of(self.canonical.of(shared), definition.mask)
            if summed.terms:
                found.append((value, self.canonical.node(summed)))
        return found

    def _row_values(self, body: Node) -> list[Node]:
        """The differentiable row values in a body and in the definitions of its centred streams."""
        found = dict.fromkeys(value for value in self.values(body) if differentiable(value))
        for leaf in self.leaves(body):
            if leaf in self.registry.centred:
                found.update(dict.fromkeys(self._row_values(self.registry.centred[leaf].source)))
        return sorted(found, key=lambda node: node.digest)
