"""Which streams are centred, and by what: `z = z^ + c`, where the shift c is the largest entry of the row, held constant.

One shift serves every exponent `a * z` with a > 0. Other exponents, and the same one under another mask, have shifts of
their own, relative to the centred streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

from lossc.compiler.core import (
    Input,
    Map,
    Node,
    Param,
    Reduce,
    Select,
    StopGrad,
    all_of,
    conjuncts,
    differentiable,
    walk,
)
from lossc.compiler.table import polynomial as poly
from lossc.compiler.table.lowering import Lowering
from lossc.compiler.table.polynomial import Monomial, Polynomial, atom
from lossc.compiler.table.reading import Expanded, TooLargeError
from lossc.compiler.table.registry import Registry


@dataclass(frozen=True)
class Exponent:
    """An exponent as `scale * direction` with scale >= 0.

    `carrier` is the atom of the direction that is centred, `sign` its factor.
    """

    scale: Polynomial
    direction: Polynomial
    carrier: Node | None
    sign: int


@dataclass(frozen=True)
class Centre:
    """How a centred atom is written: `leaf + sign * shift`."""

    leaf: Input
    shift: Input
    sign: int


class Centres:
    """The centred atoms of a graph, and the exponents that need no shift beyond these."""

    def __init__(self, axis: str, registry: Registry) -> None:
        self.axis = axis
        self.registry = registry
        self.of: dict[Node, Centre] = {}
        self.primary: dict[Polynomial, frozenset[Node]] = {}
        """Directions that need no shift beyond their centre, with the masks under which that was taken."""

    def differs(self, node: Node) -> bool:
        return self.axis in node.axes

    def exponent(self, p: Polynomial) -> Exponent:
        """The scale and direction of an exponent. Equal directions are equal values."""
        candidates = [found for term in p.terms if (found := self._candidate(term, len(p.terms) == 1)) is not None]
        if not candidates:
            return Exponent(poly.ONE_POLYNOMIAL, p, None, 1)
        carrier, factor, sign = min(candidates, key=lambda item: _preference(item[0]))
        scale = factor.scaled(Fraction(sign))
        inverse = poly.raised(scale, Fraction(-1))
        assert inverse is not None
        return Exponent(scale, p * inverse, carrier, sign)

    def _candidate(self, term: tuple[Monomial, Fraction], alone: bool) -> tuple[Node, Polynomial, int] | None:
        monomial, coefficient = term
        classes = [(node, k) for node, k in monomial.powers if self.differs(node)]
        if len(classes) != 1 or classes[0][1] != 1 or classes[0][0].is_mask or monomial.exponent.terms:
            return None
        rows = Monomial(tuple(item for item in monomial.powers if item not in classes))
        domain = poly.of_monomial(rows, coefficient).node().domain
        sign = 1 if domain.positive or (alone and domain.nonneg) else -1 if domain.negative else 0
        return (bare(classes[0][0]), poly.of_monomial(rows, coefficient), sign) if sign else None

    # -------------------------------------------------------------------------------------- finding

    def find(self, lowering: Lowering, roots: Iterable[Node]) -> None:
        """Centres the streams in exponents and under variances: unmasked and simple ones first, then compound ones."""
        first, second = self._exponents(list(walk(*roots)))
        first += [(body, mask) for body, mask in lowering.spreads]
        for group in (first, second):
            found = [(read, mask) for body, mask in group if (read := self._read(body, mask)) is not None]
            found.sort(key=lambda item: (len(item[0].terms), item[1] is not None, item[0].key, _digest(item[1])))
            for exponent, mask in found:
                self._centre(self.exponent(exponent), mask)

    def _exponents(self, nodes: list[Node]) -> tuple[list[tuple[Node, Node | None]], list[tuple[Node, Node | None]]]:
        """The exponents of logsumexps over the class axis, and those of `exp` inside sums over it, each with its mask."""
        logs, sums = [], []
        for node in nodes:
            if not isinstance(node, Reduce) or node.over != (self.axis,):
                continue
            if node.op == "logsumexp":
                logs.append((node.body, node.where))
            elif node.op == "sum":
                inner = (part for part in walk(node.body) if self.differs(part))
                sums += [(e.arguments[0], node.where) for e in inner if isinstance(e, Map) and e.function == "exp"]
        return logs, sums

    def _read(self, body: Node, mask: Node | None) -> Polynomial | None:
        """The part of an exponent that varies over classes; None if the exponent or its mask depends on statistics."""
        try:
            whole = Expanded(self.axis).of(body)
        except TooLargeError:
            return None
        classes = {monomial for monomial, _ in whole.terms if any(self.differs(node) for node in monomial.atoms)}
        found = whole.split(classes)[0]
        parts = [found.node(), *([mask] if mask is not None else [])]
        return found if classes and not any(self._of_a_row(part) for part in walk(*parts)) else None

    def _of_a_row(self, node: Node) -> bool:
        return (isinstance(node, Reduce) and self.axis in node.over) or (
            isinstance(node, Select) and node.axis == self.axis
        )

    def _centre(self, exponent: Exponent, mask: Node | None) -> None:
        carrier, sign = exponent.carrier, exponent.sign
        if carrier is None or carrier in self.of:
            return
        shift = self.registry.statistic("shift", mapped_bare(exponent.direction).node(), mask)
        self.of[carrier] = Centre(self.registry.centre(carrier, shift, sign), shift, sign)
        self.primary[mapped_bare(exponent.direction)] = frozenset(conjuncts(mask))

    # -------------------------------------------------------------------------------------- use

    def relative(
        self, p: Polynomial, masks: frozenset[Node], logarithm: bool
    ) -> tuple[Polynomial, Polynomial] | None:
        """An exponent less a shift of its own, and that shift; None if centring already keeps it in range.

        An exponential cannot overflow if the maximum was taken over more classes than it is summed over. A logarithm
        needs the maximum of the same classes.
        """
        raw = self.exponent(self._raw(p))
        centre = self._centre_masks(raw, p)
        if centre is not None and (centre == masks if logarithm else centre <= masks):
            return None
        inverse = poly.raised(raw.scale, Fraction(-1))
        assert inverse is not None
        mask = all_of(*sorted(masks, key=lambda node: node.digest))
        shift = self.registry.statistic("shift", mapped_bare(p * inverse).node(), mask)
        hat = self.registry.centre((p * inverse).node(), shift)
        return raw.scale * atom(hat), raw.scale * atom(shift)

    def _centre_masks(self, raw: Exponent, p: Polynomial) -> frozenset[Node] | None:
        """The masks under which the shift of an exponent was taken; None if it has none."""
        atoms = [bare(node) for monomial, _ in p.terms for node in monomial.atoms]
        if raw.carrier in self.of and self.of[raw.carrier].leaf in atoms and raw.direction in self.primary:
            return self.primary[raw.direction]
        carrier = self.exponent(p).carrier
        if len(p.terms) > 1 or carrier not in self.registry.centred:
            return None
        shift = self.registry.definitions.get(self.registry.centred[carrier].shift)
        return None if shift is None else frozenset(conjuncts(shift.mask))

    def _raw(self, p: Polynomial) -> Polynomial:
        def source(node: Node) -> Polynomial:
            inner = bare(node)
            entry = self.registry.centred.get(inner)
            return atom(entry.source if entry is not None else inner)

        return mapped(p, source)


def mapped(p: Polynomial, step: Callable[[Node], Polynomial]) -> Polynomial:
    """The polynomial with each atom replaced. Sums are not multiplied into products."""
    return poly.total(_mapped(monomial, step).scaled(coefficient) for monomial, coefficient in p.terms)


def _mapped(monomial: Monomial, step: Callable[[Node], Polynomial]) -> Polynomial:
    if len(monomial.powers) == 1 and monomial.powers[0][1] == 1 and not monomial.exponent.terms:
        return step(monomial.powers[0][0])
    result = poly.exponential(mapped(monomial.exponent, step))
    for node, k in monomial.powers:
        replaced = step(node)
        lump = replaced if replaced.single or not replaced.terms else atom(replaced.node())
        power = poly.raised(lump, k)
        result = result * (power if power is not None else atom(lump.node(), k))
    return result


def mapped_bare(p: Polynomial) -> Polynomial:
    return mapped(p, lambda node: atom(bare(node)))


def bare(node: Node) -> Node:
    return node.body if isinstance(node, StopGrad) else node


def _digest(node: Node | None) -> bytes:
    return b"" if node is None else node.digest


def _preference(node: Node) -> tuple[int, bool, bool, bytes]:
    """The order in which atoms become carriers: most axes first, then those with gradient, then tensors, then by digest."""
    return (-len(node.axes), not differentiable(node), not isinstance(node, Input | Param), node.digest)
