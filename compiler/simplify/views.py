"""Reading any node as a product or as a sum.

A product is `coefficient * above / below`, a sum a list of `coefficient * monomial`; coefficients are exact rationals,
everything else stays a node.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from lossc.compiler import core
from lossc.compiler.core import ONE, Const, Map, Node

Nodes = tuple[Node, ...]


@dataclass(frozen=True)
class Product:
    """`coefficient * prod(above) / prod(below)`; no factor is a number or a product itself."""

    coefficient: Fraction
    above: Nodes
    below: Nodes

    def over(self, other: Product) -> Product:
        """This product divided by another one; nothing is cancelled."""
        return Product(self.coefficient / other.coefficient, self.above + other.below, self.below + other.above)

    def times(self, other: Product) -> Product:
        return Product(self.coefficient * other.coefficient, self.above + other.above, self.below + other.below)


UNIT = Product(Fraction(1), (), ())


@dataclass(frozen=True)
class Scaled:
    """One summand, `coefficient * monomial`; a number is `coefficient * ONE`."""

    coefficient: Fraction
    monomial: Node

    def times(self, factor: Fraction) -> Scaled:
        return Scaled(self.coefficient * factor, self.monomial)


def number(node: Node) -> Fraction | None:
    """The rational that a node is, or None."""
    return node.value if isinstance(node, Const) and isinstance(node.value, Fraction) else None


def is_map(node: Node, function: str) -> bool:
    return isinstance(node, Map) and node.function == function


def split_power(node: Node) -> tuple[Node, Fraction]:
    """A factor as base and rational exponent."""
    if isinstance(node, Map) and node.function == "pow":
        exponent = number(node.arguments[1])
        if exponent is not None:
            return node.arguments[0], exponent
    return node, Fraction(1)


def product_of(node: Node) -> Product:
    """The factors of a node; a quotient by 0 stays one factor."""
    value = number(node)
    if value is not None:
        return Product(value, (), ())
    if isinstance(node, Map) and node.function == "mul":
        result = UNIT
        for argument in node.arguments:
            result = result.times(product_of(argument))
        return result
    if isinstance(node, Map) and node.function == "div":
        upper, lower = (product_of(argument) for argument in node.arguments)
        if lower.coefficient != 0:
            return upper.over(lower)
    base, exponent = split_power(node)
    if exponent < 0:
        return Product(Fraction(1), (), (base if exponent == -1 else core.power(base, Const(-exponent)),))
    return Product(Fraction(1), (node,), ())


def terms_of(node: Node) -> tuple[Scaled, ...]:
    """The summands of a node; a rational times a sum is multiplied out."""
    if isinstance(node, Map) and node.function == "add":
        return tuple(term for argument in node.arguments for term in terms_of(argument))
    product = product_of(node)
    if product.coefficient == 0 and not product.above + product.below:
        return ()
    if len(product.above) == 1 and not product.below and is_map(product.above[0], "add"):
        return tuple(term.times(product.coefficient) for term in terms_of(product.above[0]))
    return (Scaled(product.coefficient, monomial(product.above, product.below)),)


def monomial(above: Iterable[Node], below: Iterable[Node]) -> Node:
    """The product of factors without a coefficient, operands ordered by digest."""
    upper, lower = _ordered(above), _ordered(below)
    return core.div(core.mul(*upper), core.mul(*lower)) if lower else core.mul(*upper)


def _ordered(factors: Iterable[Node]) -> list[Node]:
    return sorted(factors, key=lambda factor: factor.digest)


def scaled(coefficient: Fraction, node: Node) -> Node:
    """`coefficient * node`, the coefficient first."""
    if coefficient == 1:
        return node
    return Const(coefficient) if node is ONE else core.mul(Const(coefficient), node)


def content(terms: Iterable[Scaled]) -> Fraction:
    """The number to take out of a sum: the common content of its coefficients, with the sign of the first.

    Decimals of different lengths have no common content, so that `s + 0.0001` stays as it is written.
    """
    coefficients = [term.coefficient for term in terms]
    shared = math.gcd(*(coefficient.numerator for coefficient in coefficients))
    denominators = {coefficient.denominator for coefficient in coefficients}
    sign = -1 if coefficients[0] < 0 else 1
    return Fraction(sign * shared, denominators.pop() if len(denominators) == 1 else 1)
