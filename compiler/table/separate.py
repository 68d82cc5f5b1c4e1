"""Sums over the class axis as sums of row factors times statistics, in as few sweeps as the mathematics allows.

A body that is a finite sum of (row factor) * (class factor free of earlier statistics) needs no further sweep, whatever
the class factor is: `sum_v exp(z^ - log s) * z^` is `s^-1 * sum_v exp(z^) * z^`. Bodies are multiplied out only for
this; class factors with equal row factors stay one statistic. A body that cannot be separated waits for the statistics
in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from lossc.compiler.core import ONE, ZERO, Index, Map, Node, Size, StopGrad, all_of, apply, conjuncts, walk
from lossc.compiler.table import polynomial as poly
from lossc.compiler.table.centre import Centres
from lossc.compiler.table.factor import factored
from lossc.compiler.table.polynomial import NOTHING, Monomial, Polynomial, atom, total
from lossc.compiler.table.reading import Expanded, TooLargeError
from lossc.compiler.table.registry import Registry

Pair = tuple[Polynomial, Polynomial]
"""A row factor and the class factor that it multiplies."""


@dataclass(frozen=True)
class Rules:
    """The conditions for one sum: its masks, what must leave class factors, and whether its logarithm is taken."""

    masks: tuple[Node, ...]
    unwanted: Callable[[Node], bool]
    logarithm: bool


class Summation:
    """Sums of polynomials over the class axis."""

    def __init__(
        self,
        axis: str,
        registry: Registry,
        centres: Centres,
        partition: Callable[[Polynomial], Pair],
        at_label: Callable[[Polynomial, Node | int], Polynomial],
    ) -> None:
        self.axis = axis
        self.registry = registry
        self.centres = centres
        self.partition = partition
        self.at_label = at_label

    def of(
        self,
        p: Polynomial,
        mask: Node | None,
        *,
        unwanted: Callable[[Node], bool] = lambda _: False,
        logarithm: bool = False,
    ) -> Polynomial:
        """The sum over classes of p where `mask`.

        `unwanted` says what else must leave class factors. If the `logarithm` of the sum is taken, the sum has a shift
        for its own mask: its size matters relative to its own largest term, not only to that of the whole row.
        """
        rules = Rules(tuple(conjuncts(mask)), unwanted, logarithm)
        return total(self._of(part, rules) for part in self.partition(p) if part.terms)

    def _of(self, p: Polynomial, rules: Rules) -> Polynomial:
        grouped: dict[tuple[Polynomial, tuple[Node, ...]], Polynomial] = {}
        masks = rules.masks
        for row, cls in self._pairs(p, rules):
            inner, cls = self._masks(cls)
            key = (row, tuple(sorted({*masks, *inner}, key=lambda m: m.digest)))
            grouped[key] = grouped.get(key, NOTHING) + cls
        return total(self._times(row, cls, inside) for (row, inside), cls in grouped.items())

    def _times(self, row: Polynomial, cls: Polynomial, masks: tuple[Node, ...]) -> Polynomial:
        """A row factor times a sum; of a sum of nothing it is not read where it divides by what may be a sum of nothing too."""
        result = row * self._statistic(cls, masks)
        if not masks or any(self._one_hot(mask) is not None for mask in masks) or not self._divides(row):
            return result
        admitted = all_of(*masks)
        assert admitted is not None
        return result * atom(self.registry.statistic("any", admitted, None) if self.axis in admitted.axes else admitted)

    def _divides(self, row: Polynomial) -> bool:
        """Whether a product has a sum under its fraction that a mask may leave empty."""
        under = [node for monomial, _ in row.terms for node, k in monomial.powers if k < 0]
        definitions = [self.registry.definitions.get(node) for node in under]
        return any(each is not None and each.op == "sum" and each.mask is not None for each in definitions)

    # -------------------------------------------------------------------------------------- splitting

    def _pairs(self, p: Polynomial, rules: Rules) -> list[Pair]:
        whole = [self._split(*p.single)] if p.single is not None else [(poly.ONE_POLYNOMIAL, p)]
        if not any(self._holds_back(cls, rules.unwanted) for _, cls in whole):
            return whole
        try:
            expanded = Expanded(self.axis, lambda node: self._plain(node, rules.unwanted)).of(p.node())
            pairs = [self._shifted(*self._split(m, c), rules) for m, c in expanded.terms]
            if all(self.registry.separate(cls.node()) and not _reaches(cls, rules.unwanted) for _, cls in pairs):
                return pairs
            return whole if p.single is None else [self._shifted(*self._split(*self._opened(*p.single)), rules)]
        except TooLargeError:
            return whole

    def _opened(self, monomial: Monomial, coefficient: Fraction) -> tuple[Monomial, Fraction]:
        """A product that is not separated, with its exponent multiplied out."""
        return Monomial(monomial.powers, Expanded(self.axis).of(monomial.exponent.node())), coefficient

    def _holds_back(self, cls: Polynomial, unwanted: Callable[[Node], bool]) -> bool:
        """Whether a class factor should be multiplied out: it depends on statistics, or has exponentials to shift."""
        exponentials = any(monomial.exponent.terms for monomial, _ in cls.terms)
        return exponentials or not self.registry.separate(cls.node()) or _reaches(cls, unwanted)

    def _plain(self, node: Node, unwanted: Callable[[Node], bool]) -> bool:
        """Whether a class-level value has nothing to take out: no statistic, no exponential, nothing unwanted."""
        exponential = any(isinstance(part, Map) and part.function == "exp" for part in walk(node))
        return not exponential and self.registry.separate(node) and not unwanted(node)

    def _split(self, monomial: Monomial, coefficient: Fraction) -> Pair:
        """The product of the factors that are the same for all classes, and the product of the others."""
        rows = tuple(item for item in monomial.powers if self.axis not in item[0].axes)
        classes = tuple(item for item in monomial.powers if item not in rows)
        inner = {m for m, _ in monomial.exponent.terms if any(self.axis in node.axes for node in m.atoms)}
        class_exponent, row_exponent = monomial.exponent.split(inner)
        row = poly.of_monomial(Monomial(rows, row_exponent))
        return row, poly.of_monomial(Monomial(classes, class_exponent), coefficient)

    def _shifted(self, row: Polynomial, cls: Polynomial, rules: Rules) -> Pair:
        """The exponent of a class factor less a shift of its own, if the centres do not keep it in range."""
        assert cls.single is not None
        monomial, coefficient = cls.single
        inner, _ = self._masks(cls)
        every = (*rules.masks, *inner)
        if not monomial.exponent.terms or any(self._one_hot(mask) is not None for mask in every):
            return row, cls
        own = self.centres.relative(monomial.exponent, frozenset(every), rules.logarithm)
        if own is None:
            return row, cls
        exponent, shift = own
        return row * poly.exponential(shift), poly.of_monomial(Monomial(monomial.powers, exponent), coefficient)

    # -------------------------------------------------------------------------------------- statistics

    def _masks(self, cls: Polynomial) -> tuple[tuple[Node, ...], Polynomial]:
        """The masks among the factors of a class factor, and the other factors."""
        if cls.single is None:
            return (), cls
        monomial, coefficient = cls.single
        masks = monomial.masks
        rest = tuple(item for item in monomial.powers if item[0] not in masks)
        return masks, poly.of_monomial(Monomial(rest, monomial.exponent), coefficient)

    def _statistic(self, cls: Polynomial, masks: tuple[Node, ...]) -> Polynomial:
        for mask in masks:
            label = self._one_hot(mask)
            if label is not None:
                return self._at(cls, tuple(other for other in masks if other is not mask), label)
        if not cls.terms:
            return NOTHING
        coefficient = _leading(cls)
        cls = cls.scaled(1 / coefficient)
        if cls.constant is not None and not masks:
            return atom(Size(self.axis)).scaled(coefficient)
        stopped = _all_stopped(cls)
        body = ONE if cls.constant is not None else factored(stopped or cls, self.axis)
        leaf: Node = self.registry.statistic("sum", body, all_of(*masks))
        return atom(StopGrad(leaf) if stopped is not None else leaf).scaled(coefficient)

    def _one_hot(self, mask: Node) -> Node | None:
        """The label, if a mask holds for one class only."""
        if not isinstance(mask, Map) or mask.function != "eq":
            return None
        x, y = mask.arguments
        for index, label in ((x, y), (y, x)):
            if isinstance(index, Index) and index.axis == self.axis and self.axis not in label.axes:
                return label
        return None

    def _at(self, cls: Polynomial, others: tuple[Node, ...], label: Node) -> Polynomial:
        """The sum over a single class: the entry there, or nothing if the label is *none*."""
        result = self.at_label(cls, label)
        for mask in others:
            result = result * self.at_label(atom(mask), label)
        return result if label.domain.nonneg else result * atom(apply("le", ZERO, label))


def _leading(cls: Polynomial) -> Fraction:
    """The number to take out of a body: that of its first term, with the sign of most terms."""
    first = cls.terms[0][1]
    negative = sum(coefficient < 0 for _, coefficient in cls.terms)
    flip = 2 * negative > len(cls.terms) or (2 * negative == len(cls.terms) and first < 0)
    return -abs(first) if flip else abs(first)


def _reaches(cls: Polynomial, unwanted: Callable[[Node], bool]) -> bool:
    return unwanted(cls.node())


def _all_stopped(cls: Polynomial) -> Polynomial | None:
    """The polynomial without stop-gradients, if every atom has one."""
    atoms = [node for monomial, _ in cls.terms for node in monomial.atoms]
    if not atoms or not all(isinstance(node, StopGrad) for node in atoms):
        return None
    from lossc.compiler.table.centre import mapped_bare

    return mapped_bare(cls)
