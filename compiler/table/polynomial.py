"""Sums of products in normal form: the arithmetic in which bodies are split and shifts cancel.

A polynomial is a sum of rational multiples of monomials. A monomial is a product of rational powers of atoms (any core
nodes), times e to the power of another polynomial: `3 * x^2 * y^-1 * exp(a * z - c)`. Equal polynomials are equal
values, so cancellation (`exp(-log s) * s` is 1, `c - c` is 0) and comparison are exact and quick; nothing here is
numerical.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from lossc.compiler.core import ONE, ZERO, Const, Map, Node, add, all_of, apply, div, mul, power, where

ONE_HALF = Fraction(1, 2)
MINUS_ONE = Fraction(-1)
MOST_FOLDED = 64
"""The largest power of a number that is worked out."""


@dataclass(frozen=True, eq=False)
class Polynomial:
    """The sum of `coefficient * monomial`; terms are in a fixed order, and no coefficient is 0."""

    terms: tuple[tuple[Monomial, Fraction], ...]

    @cached_property
    def key(self) -> bytes:
        """A digest, the same in every process."""
        state = hashlib.blake2b(digest_size=16)
        for monomial, coefficient in self.terms:
            state.update(monomial.key + str(coefficient).encode())
        return state.digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Polynomial) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __add__(self, other: Polynomial) -> Polynomial:
        return total((self, other))

    def __mul__(self, other: Polynomial) -> Polynomial:
        """The product, multiplied out."""
        found: dict[Monomial, Fraction] = {}
        for left, a in self.terms:
            for right, b in other.terms:
                monomial = left.times(right)
                if monomial is not None:
                    found[monomial] = found.get(monomial, Fraction(0)) + a * b
        return _ordered(found)

    def scaled(self, factor: Fraction) -> Polynomial:
        return Polynomial(tuple((m, c * factor) for m, c in self.terms)) if factor else NOTHING

    def split(self, chosen: frozenset[Monomial] | set[Monomial]) -> tuple[Polynomial, Polynomial]:
        """The terms for which `chosen` holds, and the others."""
        inside = tuple(term for term in self.terms if term[0] in chosen)
        return Polynomial(inside), Polynomial(tuple(term for term in self.terms if term[0] not in chosen))

    @property
    def constant(self) -> Fraction | None:
        """The number that this polynomial is, or None."""
        if not self.terms:
            return Fraction(0)
        (monomial, coefficient), *rest = self.terms
        return coefficient if not rest and monomial == UNIT else None

    @property
    def single(self) -> tuple[Monomial, Fraction] | None:
        """The only term, or None where there are several."""
        return self.terms[0] if len(self.terms) == 1 else None

    def node(self) -> Node:
        """The polynomial as core, terms in their fixed order; terms under the same masks share one condition."""
        grouped: dict[tuple[Node, ...], list[tuple[Monomial, Fraction]]] = {}
        for monomial, coefficient in self.terms:
            grouped.setdefault(monomial.masks if monomial.reads else (), []).append((monomial, coefficient))
        return add(*(_under(masks, terms) for masks, terms in grouped.items()))


@dataclass(frozen=True, eq=False)
class Monomial:
    """`atom^k * … * exp(exponent)`; a mask is 0 or 1, so all its powers are the mask itself."""

    powers: tuple[tuple[Node, Fraction], ...] = ()
    exponent: Polynomial = Polynomial(())

    @cached_property
    def key(self) -> bytes:
        state = hashlib.blake2b(digest_size=16)
        for atom, k in self.powers:
            state.update(atom.digest + str(k).encode())
        state.update(b"exp" + self.exponent.key)
        return state.digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Monomial) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def times(self, other: Monomial) -> Monomial | None:
        """The product; None where masks exclude each other, so that it is 0."""
        powers = dict(self.powers)
        for atom, k in other.powers:
            powers[atom] = powers.get(atom, Fraction(0)) + k
        return _monomial(powers, self.exponent + other.exponent)

    def raised(self, k: Fraction) -> Monomial | None:
        """The k-th power, where it is the product of the k-th powers of the factors; otherwise None."""
        if k.denominator != 1 and not self.nonneg:
            return None
        return _monomial({atom: n * k for atom, n in self.powers}, self.exponent.scaled(k))

    @property
    def nonneg(self) -> bool:
        return all(atom.domain.nonneg for atom, _ in self.powers)

    @property
    def masks(self) -> tuple[Node, ...]:
        return tuple(atom for atom, k in self.powers if atom.is_mask and k == 1)

    @property
    def reads(self) -> bool:
        """Whether there is any factor other than masks."""
        return bool(self.exponent.terms) or len(self.masks) < len(self.powers)

    @property
    def atoms(self) -> tuple[Node, ...]:
        """Every atom, those of the exponent included."""
        inner = (atom for monomial, _ in self.exponent.terms for atom in monomial.atoms)
        return tuple(dict.fromkeys((*(atom for atom, _ in self.powers), *inner)))

    def node(self) -> Node:
        return _term(self, Fraction(1))


NOTHING = Polynomial(())
UNIT = Monomial()


def number(value: Fraction | int) -> Polynomial:
    return Polynomial(((UNIT, Fraction(value)),)) if value else NOTHING


def atom(node: Node, k: Fraction | int = 1) -> Polynomial:
    return of_monomial(Monomial(((node, Fraction(k)),)))


def of_monomial(monomial: Monomial, coefficient: Fraction = Fraction(1)) -> Polynomial:
    return Polynomial(((monomial, coefficient),)) if coefficient else NOTHING


def total(polynomials: Iterable[Polynomial]) -> Polynomial:
    found: dict[Monomial, Fraction] = {}
    for polynomial in polynomials:
        for monomial, coefficient in polynomial.terms:
            found[monomial] = found.get(monomial, Fraction(0)) + coefficient
    return _ordered(found)


def _ordered(found: Mapping[Monomial, Fraction]) -> Polynomial:
    terms = [(monomial, coefficient) for monomial, coefficient in found.items() if coefficient]
    return Polynomial(tuple(sorted(terms, key=lambda term: term[0].key)))


def _monomial(powers: Mapping[Node, Fraction], exponent: Polynomial) -> Monomial | None:
    """The monomial, with `exp(k * log(x))` as `x^k`; None where its masks make it 0."""
    settled = dict(powers)
    logs = {m for m, _ in exponent.terms if _logarithm_of(m) is not None}
    taken, rest = exponent.split(logs)
    for monomial, coefficient in taken.terms:
        inner = _logarithm_of(monomial)
        assert inner is not None
        settled[inner] = settled.get(inner, Fraction(0)) + coefficient
    for mask in [node for node, k in settled.items() if node.is_mask and k > 0]:
        settled[mask] = Fraction(1)
        if isinstance(mask, Map) and mask.function == "not" and settled.get(mask.arguments[0], 0) > 0:
            return None
    kept = [(node, k) for node, k in settled.items() if k]
    return Monomial(tuple(sorted(kept, key=lambda item: item[0].digest)), rest)


def _logarithm_of(monomial: Monomial) -> Node | None:
    """x, where the monomial is `log(x)`; otherwise None."""
    if monomial.exponent.terms or len(monomial.powers) != 1:
        return None
    node, k = monomial.powers[0]
    if k != 1 or not isinstance(node, Map) or node.function != "log" or isinstance(node.arguments[0], Const):
        return None
    return node.arguments[0]


# ------------------------------------------------------------------------------------------------ functions


def exponential(p: Polynomial) -> Polynomial:
    monomial = _monomial({}, p)
    assert monomial is not None
    return of_monomial(monomial)


def logarithm(p: Polynomial) -> Polynomial | None:
    """log p as a sum, where p is one positive product; otherwise None."""
    if p.single is None:
        return None
    monomial, coefficient = p.single
    if coefficient <= 0 or not monomial.nonneg or monomial.masks:
        return None
    parts = [atom(apply("log", node)).scaled(k) for node, k in monomial.powers]
    if coefficient != 1:
        parts.append(atom(apply("log", Const(coefficient))))
    return total((*parts, monomial.exponent))


def raised(p: Polynomial, k: Fraction) -> Polynomial | None:
    """p^k as one product, where p is one product and that is sound."""
    if p.single is None:
        return None
    monomial, coefficient = p.single
    if coefficient != 1 and (k.denominator != 1 or abs(k) > MOST_FOLDED):
        return None
    result = monomial.raised(k)
    return of_monomial(result, Fraction(coefficient ** int(k)) if coefficient != 1 else coefficient) if result else None


# ------------------------------------------------------------------------------------------------ as core


def _under(masks: tuple[Node, ...], terms: list[tuple[Monomial, Fraction]]) -> Node:
    """The sum of the terms, evaluated only where the masks hold."""
    return where(all_of(*masks), add(*(_product(m, coefficient, masks) for m, coefficient in terms)), ZERO)


def _term(monomial: Monomial, coefficient: Fraction) -> Node:
    return _under(monomial.masks if monomial.reads else (), [(monomial, coefficient)])


def _product(monomial: Monomial, coefficient: Fraction, apart: tuple[Node, ...]) -> Node:
    over = [_powered(node, k) for node, k in monomial.powers if k > 0 and node not in apart]
    under = [_powered(node, -k) for node, k in monomial.powers if k < 0]
    if monomial.exponent.terms:
        over.append(apply("exp", monomial.exponent.node()))
    value = mul(*([] if coefficient == 1 and over else [Const(coefficient)]), *over)
    return div(value, mul(*under)) if under else value


def _powered(node: Node, k: Fraction) -> Node:
    if k == 1:
        return node
    return apply("sqrt", node) if k == ONE_HALF else power(node, Const(k))


ONE_POLYNOMIAL = number(1)
"""The number 1."""

assert ONE_POLYNOMIAL.node() is ONE
