"""Coefficients as polynomials over opaque nodes, to decide whether their sum vanishes identically."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import TypeAlias

from lossc.compiler.core import Const, Map, Node

Monomial: TypeAlias = "frozenset[tuple[Node, int]]"
Polynomial: TypeAlias = "dict[Monomial, Fraction]"

ONE: Polynomial = {frozenset(): Fraction(1)}

_LIMIT = 64
"""A polynomial of more monomials is taken as one opaque node."""


def polynomial(node: Node) -> Polynomial:
    """The node expanded over sums, products, and quotients by monomials."""
    match node:
        case Const(value=Fraction() as value):
            return {frozenset(): value} if value else {}
        case Map(function="add", arguments=terms):
            result: Polynomial = {}
            for term in terms:
                result = plus(result, polynomial(term))
        case Map(function="mul", arguments=factors):
            result = ONE
            for factor in factors:
                result = times(result, polynomial(factor))
        case Map(function="div", arguments=(top, bottom)) if len(below := polynomial(bottom)) == 1:
            ((monomial, coefficient),) = below.items()
            inverse = frozenset((part, -exponent) for part, exponent in monomial)
            result = times(polynomial(top), {inverse: 1 / coefficient})
        case _:
            return {frozenset(((node, 1),)): Fraction(1)}
    return result if len(result) <= _LIMIT else {frozenset(((node, 1),)): Fraction(1)}


def plus(left: Polynomial, right: Polynomial) -> Polynomial:
    result = dict(left)
    for monomial, coefficient in right.items():
        result[monomial] = result.get(monomial, Fraction(0)) + coefficient
    return {monomial: coefficient for monomial, coefficient in result.items() if coefficient}


def times(left: Polynomial, right: Polynomial) -> Polynomial:
    result: Polynomial = {}
    for one, first in left.items():
        for other, second in right.items():
            powers = Counter(dict(one))
            for part, exponent in other:
                powers[part] += exponent
            monomial = frozenset((part, exponent) for part, exponent in powers.items() if exponent)
            result = plus(result, {monomial: first * second})
    return result
