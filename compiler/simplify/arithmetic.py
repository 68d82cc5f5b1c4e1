"""The normal form of sums, products and powers: exact coefficients, like terms and equal factors merged, one order."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

from lossc.compiler import core
from lossc.compiler.core import INFINITY, ONE, ZERO, Const, Map, Node, Param, Size
from lossc.compiler.simplify.views import (
    Nodes,
    Product,
    Scaled,
    content,
    is_map,
    monomial,
    number,
    product_of,
    scaled,
    split_power,
    terms_of,
)

_EXACT_BITS = 4096
"""Numbers of more bits are not computed exactly; their power stays a power."""


def sum_of(terms: Iterable[Scaled]) -> Node:
    """The sum of scaled terms: like terms merged, the number first, the others ordered by digest."""
    return _assembled(_with_merged_scalars(_like_terms(terms)))


def _like_terms(terms: Iterable[Scaled]) -> dict[Node, Fraction]:
    merged: dict[Node, Fraction] = {}
    for term in terms:
        merged[term.monomial] = merged.get(term.monomial, Fraction(0)) + term.coefficient
    return {part: value for part, value in merged.items() if value != 0}


def _assembled(merged: dict[Node, Fraction]) -> Node:
    order = sorted(merged, key=lambda part: (part is not ONE, part.digest))
    return core.add(*(scaled(merged[part], part) for part in order))


def add(node: Node) -> Node:
    return sum_of(terms_of(node))


def _with_merged_scalars(merged: dict[Node, Fraction]) -> dict[Node, Fraction]:
    """Merges terms with equal tensors and different scalar factors: `(1 - e) * x + e * x` is `x`."""
    groups: dict[Node, list[Node]] = {}
    for part in merged:
        groups.setdefault(_tensor_part(part), []).append(part)
    if all(len(parts) == 1 for parts in groups.values()):
        return merged
    grouped = (_group(tensor, [Scaled(merged[part], part) for part in parts]) for tensor, parts in groups.items())
    return _like_terms(term for group in grouped for term in group)


def _group(tensor: Node, terms: list[Scaled]) -> tuple[Scaled, ...]:
    if len(terms) == 1 or (tensor is ONE and not any(_needs_algebra(term.monomial) for term in terms)):
        return tuple(terms)
    scalars = [Scaled(term.coefficient, _scalar_part(term.monomial)) for term in terms]
    weight = _total(scalars)
    return terms_of(weight) if tensor is ONE else terms_of(product(product_of(weight).times(product_of(tensor))))


def _total(scalars: list[Scaled]) -> Node:
    plain = _assembled(_like_terms(scalars))
    if any(_needs_algebra(term.monomial) for term in scalars):
        from lossc.compiler.algebra import combined

        simpler = _renormalised(combined(plain) or plain)
        return simpler if _size(simpler) < _size(plain) else plain
    return plain


def _size(node: Node) -> int:
    return sum(1 for _ in core.walk(node))


def _renormalised(node: Node) -> Node:
    """The normal form of scalar arithmetic, whatever its operands."""
    match node:
        case Map(function="add", arguments=arguments):
            return _assembled(_like_terms(term for part in arguments for term in terms_of(_renormalised(part))))
        case Map(function="mul" | "div", arguments=arguments):
            return multiply(node.rebuild(tuple(map(_renormalised, arguments))))
        case Map(function="pow", arguments=(base, exponent)):
            return power(_renormalised(base), exponent)
    return node


def _needs_algebra(scalar: Node) -> bool:
    """Whether a scalar has sums inside products, so that equal scalars may be written differently."""
    view = product_of(scalar)
    return any(is_map(split_power(factor)[0], "add") for factor in view.above + view.below)


def is_scalar(node: Node) -> bool:
    """Whether a node is a rational expression of numbers, parameters and sizes, without axes."""
    match node:
        case Const(value=Fraction()) | Size():
            return True
        case Param():
            return not node.axes
        case Map(function="add" | "mul" | "div", arguments=arguments):
            return all(is_scalar(argument) for argument in arguments)
        case Map(function="pow", arguments=(base, exponent)):
            value = number(exponent)
            return value is not None and value.denominator == 1 and is_scalar(base)
    return False


def _tensor_part(part: Node) -> Node:
    view = product_of(part)
    return monomial(*([f for f in side if not is_scalar(f)] for side in (view.above, view.below)))


def _scalar_part(part: Node) -> Node:
    view = product_of(part)
    return monomial(*([f for f in side if is_scalar(f)] for side in (view.above, view.below)))


def product(view: Product) -> Node:
    """The product of factors: equal bases merged, numbers taken out of sums, a single sum multiplied out."""
    if view.coefficient == 0 and INFINITY not in view.above + view.below:
        return ZERO
    view = _without_contents(view)
    above, below = _merged(view)
    if not below and len(above) == 1 and is_map(above[0], "add"):
        return sum_of(term.times(view.coefficient) for term in terms_of(above[0]))
    return scaled(view.coefficient, monomial(above, below))


def multiply(node: Node) -> Node:
    return product(product_of(node))


def _without_contents(view: Product) -> Product:
    """Factors that are sums, with their content moved to the coefficient: `(2a + 2b) x` equals `2 (a + b) x`."""
    if len(view.above) + len(view.below) < 2:
        return view
    coefficient = view.coefficient
    sides: list[Nodes] = []
    for side, direction in ((view.above, 1), (view.below, -1)):
        primitive = []
        for factor in side:
            pulled, rest = primitive_part(factor)
            coefficient *= pulled**direction
            primitive.append(rest)
        sides.append(tuple(primitive))
    return Product(coefficient, *sides)


def primitive_part(node: Node) -> tuple[Fraction, Node]:
    """A sum as its content and the remaining sum."""
    if not is_map(node, "add"):
        return Fraction(1), node
    terms = terms_of(node)
    pulled = content(terms)
    return (pulled, sum_of(term.times(1 / pulled) for term in terms)) if pulled != 1 else (pulled, node)


def without_number(node: Node) -> tuple[Fraction, Node]:
    """A node as a rational with the sign of its first summand, and the remaining factor; a number stays whole."""
    if is_map(node, "add"):
        return primitive_part(node)
    view = product_of(node)
    if view.coefficient in (0, 1) or not view.above + view.below:
        return Fraction(1), node
    return view.coefficient, product(replace(view, coefficient=Fraction(1)))


def _merged(view: Product) -> tuple[Nodes, Nodes]:
    """Equal bases merged into one power.

    They cancel between numerator and denominator only where the base is never 0.
    """
    raised: dict[Node, list[Fraction]] = {}
    for place, side in enumerate((view.above, view.below)):
        for factor in side:
            base, exponent = split_power(factor)
            raised.setdefault(base, [Fraction(0), Fraction(0)])[place] += exponent
    above, below = [], []
    for base, (up, down) in raised.items():
        if up and down and base.domain.nonzero:
            up, down = max(up - down, Fraction(0)), max(down - up, Fraction(0))
        above += [_raised(base, up)] if up else []
        below += [_raised(base, down)] if down else []
    return tuple(above), tuple(below)


def _raised(base: Node, exponent: Fraction) -> Node:
    return base if exponent == 1 or base.is_mask else core.power(base, Const(exponent))


def power(base: Node, exponent: Node) -> Node:
    """base^exponent; x^0 is 1, and powers of numbers are computed exactly while they are small."""
    degree = number(exponent)
    if degree is None:
        return core.power(base, exponent)
    if degree in (0, 1):
        return ONE if degree == 0 else base
    value = number(base)
    if value is not None:
        exact = exact_power(value, degree)
        return Const(exact) if exact is not None else core.power(base, exponent)
    if base.is_mask and degree > 0:
        return base
    inner, inner_degree = split_power(base)
    whole = degree.denominator == 1 and inner_degree.denominator == 1
    if inner_degree != 1 and (inner.domain.nonneg or (whole and inner_degree > 0 and degree > 0)):
        return power(inner, Const(degree * inner_degree))
    if degree.denominator == 1:
        return _whole_power(base, degree)
    return core.power(base, exponent)


def _whole_power(base: Node, degree: Fraction) -> Node:
    """An integer power, distributed over a product; the content of a sum is taken out."""
    pulled, rest = primitive_part(base)
    view = Product(pulled, (rest,), ()) if is_map(base, "add") else product_of(base)
    factor = exact_power(view.coefficient, degree)
    if factor is None:
        return core.power(base, Const(degree))
    size = Const(abs(degree))
    above, below = ([_power_of_factor(part, size, base) for part in side] for side in (view.above, view.below))
    if degree < 0:
        above, below = below, above
    return product(Product(factor, tuple(above), tuple(below)))


def _power_of_factor(part: Node, degree: Const, base: Node) -> Node:
    return core.power(part, degree) if part is base or is_map(part, "add") else power(part, degree)


def exact_power(base: Fraction, degree: Fraction) -> Fraction | None:
    """base^degree where it is rational and small, otherwise None."""
    if degree.denominator != 1:
        return _exact_root(base, degree)
    bits = max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(degree)
    if bits > _EXACT_BITS or (base == 0 and degree < 0):
        return None
    return base ** int(degree)


def _exact_root(base: Fraction, degree: Fraction) -> Fraction | None:
    if degree.denominator != 2 or base < 0:
        return None
    upper, lower = (_whole_root(part) for part in (base.numerator, base.denominator))
    return exact_power(Fraction(upper, lower), Fraction(degree.numerator)) if upper is not None and lower else None


def _whole_root(value: int) -> int | None:
    root = math.isqrt(value)
    return root if root * root == value else None
