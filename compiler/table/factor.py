"""A polynomial as a core graph with common factors taken out: `e*x - e*y` as `e * (x - y)`."""

from __future__ import annotations

from lossc.compiler.core import Node, mul
from lossc.compiler.table import polynomial as poly
from lossc.compiler.table.polynomial import Monomial, Polynomial


def factored(p: Polynomial, axis: str) -> Node:
    """The body of a statistic as a graph, factors without the class axis first."""
    common = _common(p)
    rest = _without(p, common)
    rows = Monomial(tuple(item for item in common.powers if axis not in item[0].axes))
    classes = Monomial(tuple(item for item in common.powers if axis in item[0].axes), common.exponent)
    parts = [part.node() for part in (rows, classes) if part != poly.UNIT]
    if rest.constant is not None and rest.constant != 1:
        parts.insert(0, rest.node())
    elif rest.constant is None:
        parts.append(rest.node())
    return mul(*parts)


def _common(p: Polynomial) -> Monomial:
    """The largest monomial that divides every term: shared atoms, and the exponential if all terms have the same."""
    first = p.terms[0][0]
    exponent = first.exponent if all(m.exponent == first.exponent for m, _ in p.terms) else poly.NOTHING
    powers = {}
    for node, _ in first.powers:
        ks = [dict(m.powers).get(node) for m, _ in p.terms]
        if node.is_mask or any(k is None or k <= 0 for k in ks):
            continue
        powers[node] = min(k for k in ks if k is not None)
    return Monomial(tuple(sorted(powers.items(), key=lambda item: item[0].digest)), exponent)


def _without(p: Polynomial, common: Monomial) -> Polynomial:
    inverse = Monomial(tuple((node, -k) for node, k in common.powers), common.exponent.scaled(poly.MINUS_ONE))
    return p * poly.of_monomial(inverse)
