"""The normal form of the seam: every node as a polynomial over row values, statistics and shifts.

A centred stream is read as `z^ + c`. Terms that are linear in a shift are always multiplied out, so that shifts cancel
wherever the value does not depend on them: `logsumexp(z) - z_y` becomes `log s - z^_y`, while a z-loss keeps its c.
Everything else stays as it was written.
"""

from __future__ import annotations

from fractions import Fraction

from lossc.compiler.core import (
    INFINITY,
    ZERO,
    Index,
    Input,
    Map,
    Node,
    Param,
    Reduce,
    Rename,
    Select,
    Size,
    Slice,
    StopGrad,
    apply,
    conjuncts,
    const,
    differentiable,
    substitute,
    walk,
    where,
)
from lossc.compiler.primitives import COMPARISONS
from lossc.compiler.table import polynomial as poly
from lossc.compiler.table.centre import Centre, Centres, mapped
from lossc.compiler.table.lowering import MINUS_INFINITY, Lowering
from lossc.compiler.table.polynomial import NOTHING, Monomial, Polynomial, atom, total
from lossc.compiler.table.reading import Reading
from lossc.compiler.table.registry import Registry
from lossc.compiler.table.separate import Summation

EQUIVARIANT = ("max", "min", "logaddexp")
"""Functions with f(x + c, y + c) = f(x, y) + c; reductions of the same kind follow."""
EQUIVARIANT_REDUCTIONS = ("max", "min", "logsumexp", "median", "quantile")
INVARIANT_REDUCTIONS = ("argmax", "std", "var")
MOST_LEVELS = 4
"""A body whose statistics took more sweeps than this is computed: each nests the bodies of all before it."""


class Canonical(Reading):
    """Reads lowered graphs with respect to one class axis."""

    def __init__(self, axis: str, lowering: Lowering, registry: Registry, centres: Centres) -> None:
        super().__init__()
        self.axis = axis
        self.lowering = lowering
        self.registry = registry
        self.centres = centres
        self.shifting: set[Node] = set()
        """Atoms that are linear in a shift."""
        self.sums = Summation(axis, registry, centres, self.partition, self.at_label)

    def read(self, node: Node) -> Polynomial:
        centre = self.centres.of.get(node)
        if centre is not None:
            return self._centred(centre)
        return self._structural(node) if isinstance(node, Select | Slice | Rename) else super().read(node)

    def _centred(self, centre: Centre) -> Polynomial:
        self.shifting.add(centre.shift)
        return atom(centre.leaf) + atom(centre.shift).scaled(Fraction(centre.sign))

    def leaf(self, node: Node) -> Polynomial:
        match node:
            case Reduce() if node.over == (self.axis,) and node.groups is None:
                return self._over_classes(node)
            case Reduce():
                return self._over_rows(node)
            case StopGrad():
                return self._stopped(self.done[node.body])
        children = tuple(self.node(self.done[child]) for child in node.children)
        return atom(node.rebuild(children) if children else node)

    def root(self, node: Node) -> Node:
        """A root of the objective in normal form. Numerical factors are put inside its sums over rows."""
        p = self.uncentred(self.of(node))
        return self._over_nothing(total(self._inside(monomial, coefficient) for monomial, coefficient in p.terms).node())

    def _over_nothing(self, value: Node) -> Node:
        """The value with `log s` made -inf with slope 0 where s is a masked sum over nothing: `log` is too steep there."""
        logarithms = {}
        for part in walk(value):
            inner = part.arguments[0] if isinstance(part, Map) and part.function == "log" else None
            definition = self.registry.definitions.get(inner) if inner is not None else None
            if inner is not None and definition is not None and definition.op == "sum" and definition.mask is not None:
                logarithms[part] = where(apply("ne", inner, ZERO), part, MINUS_INFINITY)
        return substitute(value, logarithms) if logarithms else value

    def _inside(self, monomial: Monomial, coefficient: Fraction) -> Polynomial:
        term = poly.of_monomial(monomial, coefficient)
        inner = monomial.powers[0][0] if len(monomial.powers) == 1 and not monomial.exponent.terms else None
        if not isinstance(inner, Reduce) or inner.op not in ("sum", "mean") or monomial.powers[0][1] != 1:
            return term
        body = self.of(inner.body).scaled(coefficient).node()
        return atom(inner.rebuild((body, *inner.children[1:])))

    # -------------------------------------------------------------------------------------- shifts

    def partition(self, p: Polynomial) -> tuple[Polynomial, Polynomial]:
        """The terms without a shift, and those linear in one."""
        moved = {m for m, _ in p.terms if any(k == 1 and node in self.shifting for node, k in m.powers)}
        inside, outside = p.split(moved)
        return outside, inside

    def product(self, p: Polynomial, q: Polynomial) -> Polynomial:
        (p_free, p_moved), (q_free, q_moved) = self.partition(p), self.partition(q)
        if p.constant is not None or q.constant is not None or bool(p_moved.terms) == bool(q_moved.terms):
            return super().product(p, q)
        if p_moved.terms:
            p_free, q_free, q_moved = q_free, p_free, p_moved
        return total((super().product(p_free, q_free), p_free * q_moved))

    def node(self, p: Polynomial) -> Node:
        return self.uncentred(p).node()

    def uncentred(self, p: Polynomial) -> Polynomial:
        """`k * z^ + k * c` as `k * z`, for shifts that did not cancel."""
        _, moved = self.partition(p)
        for monomial, coefficient in moved.terms:
            p = self._restored(p, monomial, coefficient)
        return p

    def _restored(self, p: Polynomial, moved: Monomial, coefficient: Fraction) -> Polynomial:
        for monomial, other in p.terms:
            for node, k in monomial.powers:
                origin = self._origin(node) if k == 1 else None
                if origin is None or other != coefficient * origin[2]:
                    continue
                raw, shift, _ = origin
                if poly.of_monomial(moved) * atom(node) == poly.of_monomial(monomial) * atom(shift):
                    rest = p.split({moved, monomial})[1]
                    swap = poly.of_monomial(monomial, other) * atom(node, -1) * atom(raw)
                    return total((rest, swap))
        return p

    def _origin(self, node: Node) -> tuple[Node, Node, int] | None:
        """The source, shift and sign of a centred leaf, or of an entry of one."""
        entry = self.registry.centred.get(node)
        if entry is not None:
            return entry.source, entry.shift, entry.sign
        chosen = self.registry.definitions.get(node)
        inner = self.registry.centred.get(chosen.body) if chosen is not None and chosen.op == "select" else None
        if chosen is None or inner is None or chosen.at is None:
            return None
        return self._entry(inner.source, chosen.at), inner.shift, inner.sign

    # -------------------------------------------------------------------------------------- elementwise

    def other(self, node: Map) -> Polynomial:
        parts = [self.done[argument] for argument in node.arguments]
        if node.function in COMPARISONS or node.function in EQUIVARIANT:
            common = self._common_shift(parts)
            if common is not None:
                free = atom(node.rebuild(tuple(self.partition(part)[0].node() for part in parts)))
                return free if node.function in COMPARISONS else free + common
        result = super().other(node)
        centre = self.centres.of.get(result.node())
        return result if centre is None else self._centred(centre)

    def _common_shift(self, parts: list[Polynomial]) -> Polynomial | None:
        moved = {self.partition(part)[1] for part in parts}
        return moved.pop() if len(moved) == 1 else None

    def _where(self, node: Map) -> Polynomial:
        condition, *branches = (self.done[argument] for argument in node.arguments)
        mask = self.node(condition)
        if node.is_mask:
            return atom(where(mask, *(self.node(branch) for branch in branches)))
        branches[0] = given(branches[0], (mask,))
        if branches[1] == NOTHING:
            return self.product(atom(mask), branches[0])
        then, otherwise = (self.partition(branch) for branch in branches)
        if then[1] == otherwise[1] or otherwise[0].node() in (INFINITY, MINUS_INFINITY):
            return atom(where(mask, then[0].node(), otherwise[0].node())) + then[1]
        return atom(where(mask, self.node(branches[0]), self.node(branches[1])))

    def _stopped(self, p: Polynomial) -> Polynomial:
        """The polynomial with a stop-gradient.

        A shift is constant already, but its factors inside a sum or selection are not.
        """
        free, moved = self.partition(p)
        kept = free if free.constant is not None else atom(StopGrad(free.node()))
        return total((kept, mapped(moved, self._still)))

    def _still(self, node: Node) -> Polynomial:
        if node.is_mask or (node in self.shifting and not differentiable(node)):
            return atom(node)
        stopped = StopGrad(node)
        if node in self.shifting:
            self.shifting.add(stopped)
        return atom(stopped)

    # -------------------------------------------------------------------------------------- rows

    def _structural(self, node: Node) -> Polynomial:
        """A selection, slice or rename: along rows it distributes over sums; along the class axis it reads an entry."""
        assert isinstance(node, Select | Slice | Rename)
        if self.lowering.is_view(node):
            return atom(node)
        inner = self.done[node.body]
        if isinstance(node, Select) and node.axis == self.axis:
            return self.at_label(inner, self._position(node))
        if self.axis in node.axes:
            return mapped(inner, lambda part: self._moved_atom(part, node))
        free, moved = self.partition(inner)
        parts = [atom(_along(node, free.node(), self._others(node)))] if free.terms else []
        return total((*parts, *(self._moved_term(node, m, c) for m, c in moved.terms)))

    def _position(self, node: Select) -> Node | int:
        return self.node(self.done[node.at]) if isinstance(node.at, Node) else node.at

    def _others(self, node: Node) -> tuple[Node, ...]:
        return tuple(self.node(self.done[child]) for child in node.children[1:])

    def _moved_term(self, node: Node, monomial: Monomial, coefficient: Fraction) -> Polynomial:
        value = _along(node, monomial.node(), self._others(node))
        self.shifting.add(value)
        return atom(value).scaled(coefficient)

    def _moved_atom(self, part: Node, node: Node) -> Polynomial:
        result = self._moved(part, node)
        if part in self.shifting:
            self.shifting.add(result)
        return atom(result) if result is part or part in self.shifting else self.of(result)

    def _moved(self, part: Node, node: Node) -> Node:
        """A class-level value under a selection or rename of rows, which is moved down to its streams."""
        entry = self.registry.centred.get(part)
        if entry is not None and _touches(entry.source, entry.shift, node):
            source = self._moved(entry.source, node)
            return self.registry.centre(source, _along(node, entry.shift, self._others(node)), entry.sign)
        if isinstance(part, Map | StopGrad) and self.axis in part.axes:
            return part.rebuild(tuple(self._moved(child, node) for child in part.children))
        return _along(node, part, self._others(node))

    def _over_rows(self, node: Reduce) -> Polynomial:
        body = self.done[node.body]
        if node.op in ("sum", "mean"):
            return self._linear(node, body)
        free, moved = self.partition(body)
        apart = not any(axis in part.axes for part in _atoms(moved) for axis in node.over)
        if moved.terms and apart and set(node.over) <= free.node().axes and node.groups is None:
            if node.op in EQUIVARIANT_REDUCTIONS:
                return atom(node.rebuild((free.node(), *self._others(node)))) + moved
            if node.op in INVARIANT_REDUCTIONS:
                return atom(node.rebuild((free.node(), *self._others(node))))
        return atom(node.rebuild((self.node(body), *self._others(node))))

    def _linear(self, node: Reduce, body: Polynomial) -> Polynomial:
        free, moved = self.partition(body)
        parts = [self._reduced(node, free)] if free.terms else []
        for monomial, coefficient in moved.terms:
            part = self._reduced(node, poly.of_monomial(monomial))
            self.shifting.update(atom_ for atom_ in _atoms(part) if not isinstance(atom_, Size))
            parts.append(part.scaled(coefficient))
        return total(parts)

    def _reduced(self, node: Reduce, body: Polynomial) -> Polynomial:
        others = self._others(node)
        if node.where is not None:
            body = given(body, tuple(conjuncts(others[0])))
        value = body.node()
        rebuilt = node.rebuild((value, *others))
        assert isinstance(rebuilt, Reduce)
        there = value.axes.union(*(other.axes for other in others))
        over = tuple(axis for axis in node.over if axis in there)
        sizes = [atom(Size(axis)) for axis in node.over if axis not in there and node.op == "sum"]
        result = atom(Reduce(node.op, over, value, rebuilt.where, rebuilt.groups)) if over else body
        for size in sizes:
            result = result * size
        return result

    # -------------------------------------------------------------------------------------- classes

    def _over_classes(self, node: Reduce) -> Polynomial:
        body, mask = self.done[node.body], None if node.where is None else self.node(self.done[node.where])
        needs = [*_atoms(body), *([] if mask is None else [mask])]
        if max((self.registry.needed(part) for part in needs), default=0) > MOST_LEVELS + 1:
            return atom(self.lowering.compute(node, f"it stands on more than {MOST_LEVELS} sweeps"))
        match node.op:
            case "sum":
                return self.sums.of(body, mask)
            case "logsumexp":
                return self._logarithm(self.sums.of(poly.exponential(body), mask, logarithm=True))
            case "max":
                return self._largest(body, mask)
            case "argmax":
                return atom(self.registry.statistic("argmax", self._ordering(body).node(), mask))
        return atom(self.registry.statistic("any", self.node(body), mask))

    def _logarithm(self, p: Polynomial) -> Polynomial:
        result = poly.logarithm(p)
        return result if result is not None else atom(apply("log", self.node(p)))

    def _largest(self, body: Polynomial, mask: Node | None) -> Polynomial:
        """The maximum over classes; terms that are the same for all classes are added outside."""
        rows, classes = self._rows_and_classes(body)
        exponent = self.centres.exponent(classes)
        scale, source = (exponent.scale, exponent.direction) if len(classes.terms) == 1 else (poly.ONE_POLYNOMIAL, classes)
        return total((rows, scale * atom(self.registry.statistic("max", source.node(), mask))))

    def _ordering(self, body: Polynomial) -> Polynomial:
        """A polynomial with the same order of classes, without what is the same for all of them."""
        classes = self._rows_and_classes(body)[1]
        if classes.single is not None and classes.single[1] > 0:
            monomial = classes.single[0]
            if all(self.axis not in node.axes and node.domain.nonneg for node, _ in monomial.powers):
                return self._ordering(monomial.exponent)
        return self.centres.exponent(classes).direction if len(classes.terms) == 1 else classes

    def _rows_and_classes(self, p: Polynomial) -> tuple[Polynomial, Polynomial]:
        if any(self.axis in node.axes for node in _atoms(self.partition(p)[1])):
            p = self.uncentred(p)
        rows = {monomial for monomial, _ in p.terms if all(self.axis not in node.axes for node in monomial.atoms)}
        return p.split(rows)

    def at_label(self, p: Polynomial, at: Node | int) -> Polynomial:
        """The value of a class-level expression at one class."""

        def entry(part: Node) -> Polynomial:
            return atom(part) if self.axis not in part.axes else self.of(self._entry(part, at))

        return mapped(p, entry)

    def _entry(self, part: Node, at: Node | int) -> Node:
        if self.axis not in part.axes:
            return part
        if isinstance(part, Index):
            return at if isinstance(at, Node) else const(at)
        if isinstance(part, Map | StopGrad) and not self._is_leaf(part):
            return part.rebuild(tuple(self._entry(child, at) for child in part.children))
        return self.registry.statistic("select", part, None, at)

    def _is_leaf(self, node: Node) -> bool:
        return isinstance(node, Input | Param) or self.lowering.is_view(node)


def given(p: Polynomial, masks: tuple[Node, ...]) -> Polynomial:
    """The polynomial in places where these masks are known to hold."""
    known = set(masks)
    terms = ((Monomial(tuple(i for i in m.powers if i[0] not in known), m.exponent), c) for m, c in p.terms)
    return total(poly.of_monomial(m, c) for m, c in terms)


def _along(node: Node, body: Node, others: tuple[Node, ...]) -> Node:
    """The same selection, slice or rename of another body. A body without the axis is left as it is."""
    axis = node.old if isinstance(node, Rename) else node.axis if isinstance(node, Select | Slice) else ""
    return node.rebuild((body, *others)) if axis in body.axes else body


def _touches(source: Node, shift: Node, node: Node) -> bool:
    axis = node.old if isinstance(node, Rename) else node.axis if isinstance(node, Select | Slice) else ""
    return axis in source.axes | shift.axes


def _atoms(p: Polynomial) -> list[Node]:
    return [node for monomial, _ in p.terms for node in monomial.atoms]
