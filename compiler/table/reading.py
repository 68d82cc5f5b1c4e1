"""Reading core graphs as polynomials: the rules of the functions compatible with sums and products.

`Reading` holds the rules. Its subclasses decide what leaves become and when sums are multiplied out: `Expanded`
multiplies out whatever differs along the class axis, so that a body splits into row factors and class factors.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from lossc.compiler.core import ZERO, Const, Map, Node, Size, StopGrad, apply, power, walk, where
from lossc.compiler.table import polynomial as poly
from lossc.compiler.table.polynomial import NOTHING, ONE_HALF, Monomial, Polynomial, atom, number, total

MOST_TERMS = 64
MOST_POWER = 4


class TooLargeError(Exception):
    """Multiplying out would give more terms than a body may have."""


class Reading:
    """Polynomials of the nodes of a graph, parts first, each node once."""

    def __init__(self) -> None:
        self.done: dict[Node, Polynomial] = {}
        self.rules: dict[str, Callable[[Map], Polynomial]] = {
            "add": self._add,
            "mul": self._mul,
            "div": self._div,
            "pow": self._pow,
            "sqrt": self._sqrt,
            "exp": self._exp,
            "log": self._log,
            "where": self._where,
        }

    def of(self, root: Node) -> Polynomial:
        if root not in self.done:
            for node in walk(root):
                if node not in self.done:
                    self.done[node] = self.read(node)
        return self.done[root]

    def read(self, node: Node) -> Polynomial:
        """The polynomial of a node whose parts have been read."""
        if isinstance(node, Const) and isinstance(node.value, Fraction):
            return number(node.value)
        if isinstance(node, Map):
            return self.rules.get(node.function, self.other)(node)
        return self.leaf(node)

    def leaf(self, node: Node) -> Polynomial:
        return atom(node)

    def other(self, node: Map) -> Polynomial:
        """Any other function: an atom over its arguments in normal form."""
        return atom(node.rebuild(tuple(self.node(self.done[argument]) for argument in node.arguments)))

    def node(self, p: Polynomial) -> Node:
        """The core of a polynomial that is an argument of a function."""
        return p.node()

    def lump(self, p: Polynomial) -> Polynomial:
        """A sum as one atom, with the sign of its first term."""
        if p.single is not None or not p.terms:
            return p
        sign = Fraction(1 if p.terms[0][1] > 0 else -1)
        return atom(self.node(p.scaled(sign))).scaled(sign)

    def product(self, p: Polynomial, q: Polynomial) -> Polynomial:
        """p * q, multiplied out only by numbers and extents."""
        return p * q if _number(p) or _number(q) else self.lump(p) * self.lump(q)

    # -------------------------------------------------------------------------------------- rules

    def _parts(self, node: Map) -> list[Polynomial]:
        return [self.done[argument] for argument in node.arguments]

    def _add(self, node: Map) -> Polynomial:
        return total(self._parts(node))

    def _mul(self, node: Map) -> Polynomial:
        result = poly.ONE_POLYNOMIAL
        for part in self._parts(node):
            result = self.product(result, part)
        return result

    def _div(self, node: Map) -> Polynomial:
        over, under = self._parts(node)
        inverse = poly.raised(self.lump(under), Fraction(-1))
        return self.product(over, inverse) if inverse is not None else self.other(node)

    def _pow(self, node: Map) -> Polynomial:
        base, exponent = self._parts(node)
        k = exponent.constant
        if k is not None:
            return self.raised(base, k, node)
        if base.single is not None and base.single[0].exponent.terms:
            logarithm = poly.logarithm(base)
            if logarithm is not None:
                return poly.exponential(self.product(exponent, logarithm))
        return atom(power(self.node(base), self.node(exponent)))

    def raised(self, base: Polynomial, k: Fraction, node: Map) -> Polynomial:
        result = poly.raised(self.lump(base), k) if base.terms else None
        if result is not None:
            return result
        return number(0) if not base.terms and k > 0 else self.other(node)

    def _sqrt(self, node: Map) -> Polynomial:
        (base,) = self._parts(node)
        result = poly.raised(base, ONE_HALF) if base.single and base.single[0].exponent.terms else None
        return result if result is not None else self.other(node)

    def _exp(self, node: Map) -> Polynomial:
        return poly.exponential(self._parts(node)[0])

    def _log(self, node: Map) -> Polynomial:
        (inner,) = self._parts(node)
        result = poly.logarithm(inner)
        return result if result is not None else self.other(node)

    def _where(self, node: Map) -> Polynomial:
        """`a if m else 0` as the product m * a, which evaluates a only where m holds."""
        condition, then, otherwise = node.arguments
        if self.done[otherwise] == NOTHING and not then.is_mask:
            return self.product(atom(condition), self.done[then])
        return atom(where(condition, self.node(self.done[then]), self.node(self.done[otherwise])))


def _number(p: Polynomial) -> bool:
    """Whether a polynomial is a number times extents of axes."""
    if p.single is None:
        return not p.terms
    monomial = p.single[0]
    return not monomial.exponent.terms and all(isinstance(node, Size) for node, _ in monomial.powers)


def _never(_: Node) -> bool:
    return False


class Expanded(Reading):
    """Multiplies out whatever differs along the class axis; row factors, and nodes in `plain`, stay as they are."""

    def __init__(self, axis: str, plain: Callable[[Node], bool] = _never) -> None:
        super().__init__()
        self.axis = axis
        self.plain = plain
        self.exponents = self if plain is _never else Expanded(axis)
        self.rules |= {"expm1": self._expm1, "xlogy": self._xlogy, "abs": self._even, "relu": self._even}

    def read(self, node: Node) -> Polynomial:
        if isinstance(node, Map) and self.axis in node.axes and self._whole(node) and self.plain(node):
            return atom(node)
        return super().read(node)

    def _whole(self, node: Map) -> bool:
        """Whether a plain node is left alone: sums, products and conditions are opened, so that masks are seen."""
        return node.function not in ("add", "mul") and not (node.function == "where" and node.arguments[2] is ZERO)

    def differs(self, p: Polynomial) -> bool:
        return any(self.axis in node.axes for monomial, _ in p.terms for node in monomial.atoms)

    def product(self, p: Polynomial, q: Polynomial) -> Polynomial:
        if not (self.differs(p) or self.differs(q)):
            return super().product(p, q)
        if len(p.terms) * len(q.terms) > MOST_TERMS:
            raise TooLargeError
        return p * q

    def raised(self, base: Polynomial, k: Fraction, node: Map) -> Polynomial:
        if base.single is None and k.denominator == 1 and 2 <= k <= MOST_POWER and self.differs(base):
            result = base
            for _ in range(int(k) - 1):
                result = self.product(result, base)
            return result
        return super().raised(base, k, node)

    def leaf(self, node: Node) -> Polynomial:
        if isinstance(node, StopGrad) and self.axis in node.axes:
            return total(
                poly.of_monomial(_stopped(monomial), coefficient) for monomial, coefficient in self.of(node.body).terms
            )
        return atom(node)

    def _exp(self, node: Map) -> Polynomial:
        """Multiplies exponents out entirely, so that equal ones are recognized."""
        return poly.exponential(self.exponents.of(node.arguments[0]))

    def _expm1(self, node: Map) -> Polynomial:
        if self.axis not in node.axes:
            return self.other(node)
        return total((self._exp(node), number(-1)))

    def _sqrt(self, node: Map) -> Polynomial:
        result = poly.raised(self._parts(node)[0], ONE_HALF)
        return result if result is not None else self.other(node)

    def _where(self, node: Map) -> Polynomial:
        """`a if m else b` as m * a + (not m) * b, each evaluated only where its mask holds."""
        condition, then, otherwise = node.arguments
        if self.axis not in node.axes or node.is_mask:
            return super()._where(node)
        branches = ((condition, then), (apply("not", condition), otherwise))
        return total(self.product(atom(mask), self.done[branch]) for mask, branch in branches)

    def _even(self, node: Map) -> Polynomial:
        """`abs` and `relu` of a product: factors that are never negative are taken out."""
        (inner,) = self._parts(node)
        if inner.single is None or self.axis not in node.axes:
            return self.other(node)
        monomial, coefficient = inner.single
        signed = tuple(item for item in monomial.powers if not item[0].domain.nonneg)
        if coefficient < 0 and node.function == "relu":
            return self.other(node)
        outside = Monomial(tuple(item for item in monomial.powers if item not in signed), monomial.exponent)
        inside = [atom(node.rebuild((Monomial(signed).node(),)))] if signed else []
        result = poly.of_monomial(outside, abs(coefficient))
        for part in inside:
            result = result * part
        return result

    def _xlogy(self, node: Map) -> Polynomial:
        """x log y, which is 0 where x is 0."""
        x, inner = self._parts(node)
        logarithm = poly.logarithm(inner)
        if self.axis not in node.axes or logarithm is None or logarithm.single is not None or x.single is None:
            return self.other(node)
        factor = self.product(x, logarithm)
        classes = [a for a, _ in x.single[0].powers if self.axis in a.axes and not a.domain.positive and not a.is_mask]
        for part in classes:
            factor = self.product(factor, atom(apply("ne", part, ZERO)))
        return factor


def _stopped(monomial: Monomial) -> Monomial:
    """The product with each atom under a stop-gradient."""
    powers = [(_stop(node), k) for node, k in monomial.powers]
    exponent = total(poly.of_monomial(_stopped(m), c) for m, c in monomial.exponent.terms)
    return Monomial(tuple(sorted(powers, key=lambda item: item[0].digest)), exponent)


def _stop(node: Node) -> Node:
    return node if isinstance(node, StopGrad | Const) or node.is_mask else StopGrad(node)
