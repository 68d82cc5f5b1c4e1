"""Row values in bodies: subexpressions that are the same for every class are gathered, to be computed once a row."""

from __future__ import annotations

from lossc.compiler.core import ONE, Const, Input, Map, Node, StopGrad, add, div, mul, substitute


class Abstraction:
    """Bodies with leaves in place of row values. Equal row values share a leaf."""

    def __init__(self, axis: str) -> None:
        self.axis = axis
        self.values: dict[Node, Node] = {}
        """The row value of each leaf."""
        self._done: dict[Node, Node] = {}

    def of(self, body: Node) -> Node:
        if body not in self._done:
            self._done[body] = self._of(body)
        return self._done[body]

    def back(self, body: Node) -> Node:
        """The body with its row values written out again."""
        return substitute(body, self.values)

    def leaf(self, value: Node) -> Node:
        if isinstance(value, Const):
            return value
        kind = "mask" if value.is_mask else "scalar"
        leaf = Input(f"@row{value.digest.hex()}", tuple(sorted(value.axes)), kind, value.domain)
        self.values[leaf] = value
        return leaf

    def _of(self, node: Node) -> Node:
        if self.axis not in node.axes:
            return self.leaf(node)
        if not isinstance(node, Map | StopGrad):
            return node
        if isinstance(node, Map) and node.function in ("mul", "div", "add"):
            return self._sum(node) if node.function == "add" else self._product(node)
        return node.rebuild(tuple(self.of(child) for child in node.children))

    def _sum(self, node: Map) -> Node:
        """The sum with terms of equal class factors joined: `a*z + b*z` as `(a + b) * z`."""
        rows: dict[Node, list[Node]] = {}
        for part in node.arguments:
            row, cls = self._split(part)
            rows.setdefault(cls, []).append(row)
        terms = (self._times(add(*parts), cls) for cls, parts in rows.items() if cls is not ONE)
        return add(*terms, *([self.leaf(add(*rows[ONE]))] if ONE in rows else []))

    def _product(self, node: Map) -> Node:
        """The product with its row factors joined, `a * e / s` as `(a / s) * e`, which saves a division for each class."""
        return self._times(*self._split(node))

    def _times(self, row: Node, cls: Node) -> Node:
        return cls if row is ONE else self.leaf(row) if cls is ONE else mul(self.leaf(row), cls)

    def _split(self, node: Node) -> tuple[Node, Node]:
        """The product of the factors that are the same for every class, and the product of the others, over leaves."""
        over, under = self._factors(node)
        rows = mul(*(part for part in over if self.axis not in part.axes))
        below = mul(*(part for part in under if self.axis not in part.axes))
        classes = mul(*(self.of(part) for part in over if self.axis in part.axes))
        divisor = mul(*(self.of(part) for part in under if self.axis in part.axes))
        return rows if below is ONE else div(rows, below), classes if divisor is ONE else div(classes, divisor)

    def _factors(self, node: Node) -> tuple[list[Node], list[Node]]:
        """The numerator and denominator factors of nested products and quotients."""
        if isinstance(node, Map) and node.function == "mul":
            pairs = [self._factors(argument) for argument in node.arguments]
            return [n for over, _ in pairs for n in over], [n for _, under in pairs for n in under]
        if isinstance(node, Map) and node.function == "div":
            (over, under), (below, above) = (self._factors(argument) for argument in node.arguments)
            return over + above, under + below
        return ([] if node is ONE else [node]), []
