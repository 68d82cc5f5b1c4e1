"""How the statistics of two blocks of classes are combined: both are first brought to the same shift.

Under z^ -> z^ + delta the body of a statistic is separated again, into factors of delta and other bodies. Each step
lowers the degree in z^, so a finite set of statistics is closed under merging.
"""

from __future__ import annotations

from dataclasses import dataclass

from lossc.compiler.core import Input, Node, Size, add, substitute, walk
from lossc.compiler.table import polynomial as poly
from lossc.compiler.table.canonical import Canonical
from lossc.compiler.table.centre import mapped_bare
from lossc.compiler.table.model import Combination
from lossc.compiler.table.polynomial import Polynomial
from lossc.compiler.table.reading import Expanded
from lossc.compiler.table.registry import Definition

KINDS: dict[str, Combination] = {"any": "any", "argmax": "first", "ties": "recount"}


@dataclass(frozen=True)
class Rescaling:
    """How a statistic is moved to another shift.

    `terms` are factors with the statistics that they multiply (None: the number of classes); `growth` is what an
    extreme moves by.
    """

    kind: Combination
    terms: tuple[tuple[Node, Node | None], ...] = ()
    growth: Node | None = None

    @property
    def statistics(self) -> tuple[Node, ...]:
        return tuple(leaf for _, leaf in self.terms if leaf is not None)


class Merging:
    """The merges of the statistics of one table. `deltas` collects a leaf for the move of each centred stream."""

    def __init__(self, canonical: Canonical) -> None:
        self.canonical = canonical
        self.registry = canonical.registry
        self.deltas: dict[Node, Node] = {}

    def of(self, leaf: Node) -> Rescaling:
        definition = self.registry.definitions[leaf]
        if definition.op in KINDS:
            return Rescaling(KINDS[definition.op])
        moved = self._moved(definition)
        if definition.op in ("shift", "max", "select"):
            return Rescaling("owner" if definition.op == "select" else "largest", (), self._growth(definition, moved))
        if self.registry.level(leaf) > 1 or moved is definition.body:
            return Rescaling("add")
        summed = self.canonical.sums.of(self.canonical.of(moved), definition.mask, unwanted=self._moves)
        return self._rescaled(leaf, summed)

    def _moved(self, definition: Definition) -> Node:
        """The body of a definition with every centred stream, and every entry of one, moved by its delta."""
        moves: dict[Node, Node] = {}
        for node in walk(definition.body):
            if node in self.registry.centred:
                moves[node] = add(node, self.delta(node))
            elif node in self.registry.definitions:
                chosen = self.registry.definitions[node]
                if chosen.op == "select" and chosen.body in self.registry.centred:
                    moves[node] = add(node, self.delta(chosen.body))
        return substitute(definition.body, moves) if moves else definition.body

    def delta(self, leaf: Node) -> Node:
        if leaf not in self.deltas:
            shift = self.registry.centred[leaf].shift
            self.deltas[leaf] = Input(f"@delta{leaf.digest.hex()}", tuple(sorted(shift.axes)), "delta")
        return self.deltas[leaf]

    def _moves(self, node: Node) -> bool:
        known = set(self.deltas.values())
        return any(part in known for part in walk(node))

    def _growth(self, definition: Definition, moved: Node) -> Node | None:
        expanded = Expanded(self.canonical.axis)
        change = poly.total((expanded.of(moved), expanded.of(definition.body).scaled(poly.MINUS_ONE)))
        return change.node() if change.terms else None

    def _rescaled(self, leaf: Node, summed: Polynomial) -> Rescaling:
        terms: dict[Node | None, list[Polynomial]] = {}
        for monomial, coefficient in mapped_bare(summed).terms:
            term = poly.of_monomial(monomial, coefficient)
            inner = [node for node, k in monomial.powers if k == 1 and node in self.registry.definitions]
            if len(inner) == 1 and not self._moves_inside(inner[0]):
                terms.setdefault(inner[0], []).append(term * poly.atom(inner[0], -1))
            elif not inner and any(isinstance(node, Size) for node, _ in monomial.powers):
                size = next(node for node, _ in monomial.powers if isinstance(node, Size))
                terms.setdefault(None, []).append(term * poly.atom(size, -1))
            else:
                return Rescaling("rescan")
        found = tuple((poly.total(parts).node(), inner) for inner, parts in terms.items())
        return Rescaling("add") if found == ((poly.ONE_POLYNOMIAL.node(), leaf),) else Rescaling("rescale", found)

    def _moves_inside(self, leaf: Node) -> bool:
        return any(self._moves(part) for part in self.registry.definitions[leaf].parts)
