"""The normal form of sums, products and powers: exact coefficients, like terms and equal factors merged, one order."""

from __future__ import annotations

from collections.abc import Iterable
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
    """The sum of scaled terms: like terms merged, the number first, then by digest."""
    merged: dict[Node, Fraction] = {}
    for term in terms:
        merged[term.monomial] = merged.get(term.monomial, Fraction(0)) + term.coefficient
    merged = _with_merged_scalars({part: value for part, value in merged.items() if value != 0})
    if not merged:
        return ZERO
    order = sorted(merged, key=lambda part: (part is not ONE, part.digest))
    return core.add(*(scaled(merged[part], part) for part in order))


def add(node: Node) -> Node:
    return sum_of(terms_of(node))


def _with_merged_scalars(merged: dict[Node, Fraction]) -> dict[Node, Fraction]:
    """Terms of equal tensors with different scalars in one: `(1 - e) * x + e * x` is `x`."""
    groups: dict[Node, list[Node]] = {}
    for part in merged:
        groups.setdefault(_tensor_part(part), []).append(part)
    if all(len(parts) == 1 for parts in groups.values()):
        return merged
    result: dict[Node, Fraction] = {}
    for tensor, parts in groups.items():
        for term in _group(tensor, [Scaled(merged[part], part) for part in parts]):
            result[term.monomial] = result.get(term.monomial, Fraction(0)) + term.coefficient
    return {part: value for part, value in result.items() if value != 0}


def _group(tensor: Node, terms: list[Scaled]) -> tuple[Scaled, ...]:
    if len(terms) == 1 or (tensor is ONE and not any(_needs_algebra(term.monomial) for term in terms)):
        return tuple(terms)
    scalars = [Scaled(term.coefficient, _scalar_part(term.monomial)) for term in terms]
    weight = _total(scalars)
    return terms_of(weight) if tensor is ONE else terms_of(product(product_of(weight).times(product_of(tensor))))


def _total(scalars: list[Scaled]) -> Node:
    plain = core.add(*(scaled(term.coefficient, term.monomial) for term in scalars))
    if any(_needs_algebra(term.monomial) for term in scalars):
        from lossc.compiler.algebra import combined

        return combined(plain) or plain
    return plain


def _needs_algebra(scalar: Node) -> bool:
    """Whether a scalar has sums inside of products, so that equal ones can look different."""
    view = product_of(scalar)
    return bool(view.below) or any(is_map(split_power(factor)[0], "add") for factor in view.above)


def is_scalar(node: Node) -> bool:
    """A rational expression of numbers, parameters and sizes without axes."""
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
    """The product of factors: equal bases merged, numbers pulled out of sums, a lone sum multiplied out."""
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
    """Sums among the factors with their content in the coefficient, so that `(2a + 2b) x` and `2 (a + b) x` are equal."""
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
    """A sum as its content and what is left."""
    if not is_map(node, "add"):
        return Fraction(1), node
    terms = terms_of(node)
    pulled = content(terms)
    return (pulled, sum_of(term.times(1 / pulled) for term in terms)) if pulled != 1 else (pulled, node)


def _merged(view: Product) -> tuple[Nodes, Nodes]:
    exponents: dict[Node, Fraction] = {}
    for side, direction in ((view.above, 1), (view.below, -1)):
        for factor in side:
            base, exponent = split_power(factor)
            if base in exponents and not _adds_up(base, exponents[base], direction * exponent):
                base, exponent = factor, Fraction(1)
                exponents[base] = exponents.get(base, Fraction(0))
            exponents[base] = exponents.get(base, Fraction(0)) + direction * exponent
    above = tuple(_powered(base, exponent) for base, exponent in exponents.items() if exponent > 0)
    below = tuple(_powered(base, -exponent) for base, exponent in exponents.items() if exponent < 0)
    return _with_kept_quotients(view, above, below)


def _with_kept_quotients(view: Product, above: Nodes, below: Nodes) -> tuple[Nodes, Nodes]:
    """`x / x` is 1 only where x is never 0; where that is not known both factors stay."""
    kept = [
        factor
        for factor in view.below
        if factor in view.above and not factor.domain.nonzero and factor not in below and factor not in above
    ]
    return above + tuple(kept), below + tuple(kept)


def _adds_up(base: Node, one: Fraction, other: Fraction) -> bool:
    """Whether base^one * base^other is base^(one + other) for every value of the base."""
    if one > 0 and other > 0:
        return base.domain.nonneg or (one.denominator == 1 and other.denominator == 1)
    return base.domain.positive or (base.domain.nonzero and one.denominator == 1 and other.denominator == 1)


def _powered(base: Node, exponent: Fraction) -> Node:
    if exponent == 1 or base.is_mask:
        return base
    return power(base, Const(exponent))


def power(base: Node, exponent: Node) -> Node:
    """base^exponent; x^0 is 1, a number is computed exactly while it is small."""
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
    """An integer power, distributed over a product, the content pulled out of a sum."""
    view = product_of(base)
    pulled, rest = primitive_part(base)
    if view.coefficient == 1 and pulled == 1 and len(view.above) + len(view.below) == 1 and not view.below:
        if degree < 0:
            return core.div(ONE, core.power(base, Const(-degree)) if degree != -1 else base)
        return core.power(base, Const(degree))
    factor = exact_power(pulled * view.coefficient, degree)
    if factor is None:
        return core.power(base, Const(degree))
    if is_map(base, "add"):
        return product(Product(factor, (core.power(rest, Const(degree)),), ()))
    above = tuple(power(part, Const(degree)) for part in view.above)
    below = tuple(power(part, Const(degree)) for part in view.below)
    return multiply(core.mul(Const(factor), core.div(core.mul(*above), core.mul(*below)) if below else core.mul(*above)))


def exact_power(base: Fraction, degree: Fraction) -> Fraction | None:
    """base^degree where it is rational and small, else None."""
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
    from math import isqrt

    root = isqrt(value)
    return root if root * root == value else None
