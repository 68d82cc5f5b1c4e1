"""Scalar algebra: the only module that calls sympy.

sympy sees exact numbers and opaque symbols, never text and never a tensor function: every node that is not arithmetic
becomes a symbol, so that stable forms stay whole. Sizes are bounded before sympy sees an expression, and it is imported
on the first call.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import reduce
from typing import Any

from lossc.compiler import core
from lossc.compiler.core import Const, Map, Node, walk
from lossc.compiler.faults import InternalError

MAX_NODES = 200
MAX_SYMBOLS = 12
MAX_EXPONENT = 16
MAX_BITS = 512


class _Translation:
    """Nodes to sympy and back; opaque nodes are symbols, numbered in the order of their digests."""

    def __init__(self, *nodes: Node) -> None:
        import sympy  # type: ignore[import-untyped]

        self.sympy: Any = sympy
        opaque = {part for node in nodes for part in _opaque(node)}
        ordered = sorted(opaque, key=lambda part: part.digest)
        self.symbols: dict[Node, Any] = {part: self._symbol(i, part) for i, part in enumerate(ordered)}
        self.nodes: dict[Any, Node] = {symbol: part for part, symbol in self.symbols.items()}

    def _symbol(self, index: int, part: Node) -> Any:
        domain = part.domain
        known = {"positive": domain.positive, "nonnegative": domain.nonneg, "nonzero": domain.nonzero}
        return self.sympy.Symbol(f"s{index:03d}", real=True, **{name: True for name, holds in known.items() if holds})

    def forward(self, root: Node) -> Any:
        done: dict[Node, Any] = {}
        for part in walk(root):
            if part in self.symbols:
                done[part] = self.symbols[part]
            elif isinstance(part, Const):
                value = part.value
                done[part] = self.sympy.Rational(value.numerator, value.denominator)  # type: ignore[union-attr]
            elif isinstance(part, Map) and all(argument in done for argument in part.arguments):
                done[part] = _FORWARD[part.function](self.sympy, [done[argument] for argument in part.arguments])
        return done[root]

    def back(self, expression: Any) -> Node:
        if expression in self.nodes:
            return self.nodes[expression]
        if expression.is_Rational:
            return Const(Fraction(int(expression.p), int(expression.q)))
        parts = tuple(self.back(argument) for argument in expression.args)
        if expression.is_Add:
            return core.add(*parts)
        if expression.is_Mul:
            return core.mul(*parts)
        if expression.is_Pow:
            return core.power(*parts)
        raise InternalError(f"algebra returned a {type(expression).__name__}")


_FORWARD: dict[str, Callable[[Any, list[Any]], Any]] = {
    "add": lambda sympy, parts: sympy.Add(*parts),
    "mul": lambda sympy, parts: sympy.Mul(*parts),
    "div": lambda sympy, parts: parts[0] / parts[1],
    "pow": lambda sympy, parts: parts[0] ** parts[1],
}


def _whole(node: Node) -> int | None:
    value = node.value if isinstance(node, Const) else None
    return int(value) if isinstance(value, Fraction) and value.denominator == 1 else None


def _arithmetic(node: Node) -> bool:
    """Sums, products, quotients, small integer powers and small numbers; anything else is a symbol."""
    if isinstance(node, Const):
        value = node.value
        return (
            isinstance(value, Fraction)
            and max(value.numerator.bit_length(), value.denominator.bit_length()) <= MAX_BITS
        )
    if not isinstance(node, Map) or node.function not in _FORWARD:
        return False
    if node.function == "pow":
        exponent = _whole(node.arguments[1])
        return exponent is not None and abs(exponent) <= MAX_EXPONENT
    return node.function != "div" or _whole(node.arguments[1]) != 0


def _opaque(root: Node) -> set[Node]:
    found: set[Node] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if _arithmetic(node):
            stack.extend(node.children)
        else:
            found.add(node)
    return found


def _degree(node: Node) -> int:
    """A bound on the degree of an expression as a polynomial."""
    done: dict[Node, int] = {}
    for part in walk(node):
        degrees = [done[child] for child in part.children]
        if not _arithmetic(part) or not degrees:
            done[part] = 0 if isinstance(part, Const) else 1
        elif isinstance(part, Map) and part.function == "pow":
            done[part] = degrees[0] * abs(_whole(part.arguments[1]) or 0)
        else:
            done[part] = reduce(max if part.function == "add" else int.__add__, degrees)  # type: ignore[attr-defined]
    return done[node]


def within_bounds(*nodes: Node) -> bool:
    """Whether algebra on these expressions is certain to stay small."""
    opaque = {part for node in nodes for part in _opaque(node)}
    parts = sum(1 for _ in walk(*nodes))
    return parts <= MAX_NODES and len(opaque) <= MAX_SYMBOLS and all(_degree(node) <= MAX_EXPONENT for node in nodes)


def combined(node: Node) -> Node | None:
    """A scalar expression over one denominator, cancelled and multiplied out; None where it is too large."""
    if not within_bounds(node):
        return None
    translation = _Translation(node)
    expression = translation.sympy.cancel(translation.forward(node))
    upper, lower = (translation.sympy.expand(part) for part in expression.as_numer_denom())
    return translation.back(upper) if lower == 1 else core.div(translation.back(upper), translation.back(lower))


def equal(left: Node, right: Node) -> bool | None:
    """Whether two expressions agree as rational functions of their opaque parts; None where they are too large to tell."""
    difference = combined(core.sub(left, right))
    return None if difference is None else difference is core.ZERO
