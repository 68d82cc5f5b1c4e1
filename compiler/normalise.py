"""Every term as `sum_k c_k * N_k / D_k + f`: numerators and denominators stay separate to the very end.

N and D are sums over batch axes, c and f are free of them; accumulation over micro-batches and ranks is therefore
exact. A term without such a form depends on how the batch is split, and becomes one `coupled` part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from lossc.compiler import core
from lossc.compiler.core import Map, Node, Reduce
from lossc.compiler.program import Part


class Normaliser:
    """Splits scalar expressions, given which axes are split over micro-batches and ranks."""

    def __init__(self, batch: Iterable[str]) -> None:
        self.batch = frozenset(batch)
        self._batchy: dict[Node, bool] = {}
        self._local: dict[Node, bool] = {}

    def parts(self, node: Node, present: Node | None) -> tuple[Part, ...]:
        """The parts of a scalar; an absent value (a reduction over nothing) counts as 0."""
        found = self._split(node, core.ONE)
        if any(part.form == "coupled" for part in found) and present is not None:
            return (Part("coupled", core.ONE, core.where(present, node, core.ZERO)),)
        return tuple(found)

    def _split(self, node: Node, coefficient: Node) -> list[Part]:
        if not self.depends(node):
            return [Part("once", coefficient, node)]
        match node:
            case Map(function="add", arguments=terms):
                return [part for term in terms for part in self._split(term, coefficient)]
            case Map(function="mul", arguments=factors):
                split = [factor for factor in factors if self.depends(factor)]
                fixed = core.mul(*(factor for factor in factors if not self.depends(factor)))
                if len(split) == 1:
                    return self._split(split[0], _times(coefficient, fixed))
                ratio = self._ratio(*_over_one_line(factors), coefficient)
                if ratio is not None:
                    return [ratio]
            case Map(function="div", arguments=(top, bottom)):
                if not self.depends(bottom):
                    return self._split(top, core.div(coefficient, bottom))
                ratio = self._ratio(top, bottom, coefficient)
                if ratio is not None:
                    return [ratio]
            case Map(function="where", arguments=(condition, then, otherwise)) if not self.depends(condition):
                no = core.apply("not", condition)
                return [*self._chosen(condition, then, coefficient), *self._chosen(no, otherwise, coefficient)]
            case Reduce():
                reduced = self._reduce(node, coefficient)
                if reduced is not None:
                    return [reduced]
                across = self._across(node, coefficient)
                if across is not None:
                    return across
        return [Part("coupled", coefficient, node)]

    def _across(self, node: Reduce, coefficient: Node) -> list[Part] | None:
        """A sum or mean over other axes of sums over the batch: `mean[k](w * mean[b](x))` is one sum over both."""
        if node.op not in ("sum", "mean") or node.groups is not None or self.batch & set(node.over):
            return None
        if node.op == "mean":
            coefficient = core.div(coefficient, core.mul(*(core.Size(axis) for axis in node.over)))
        is_sum = isinstance(node.body, Map) and node.body.function == "add"
        terms = node.body.arguments if isinstance(node.body, Map) and is_sum else (node.body,)
        found = [self._across_one(term, node, coefficient) for term in terms]
        parts = [part for part in found if part is not None]
        return parts if len(parts) == len(terms) else None

    def _across_one(self, term: Node, outer: Reduce, coefficient: Node) -> Part | None:
        if not set(outer.over) <= term.axes:
            return None
        weight, inner = self._weighted(term)
        where = None if inner is not None and _is_presence(outer.where, inner) else outer.where
        if where is not None and (outer.op == "mean" or self.depends(where)):
            return None
        if not self.depends(term):
            return Part("once", coefficient, Reduce("sum", outer.over, term, where))
        if inner is None or inner.op not in ("sum", "mean") or inner.groups is not None or not self._is_sum(inner):
            return None
        if set(outer.over) & set(inner.over):
            return None
        if inner.op == "mean" and inner.where is not None and inner.where.axes & set(outer.over):
            return None
        over, admitted = (*inner.over, *outer.over), core.all_of(inner.where, where)
        body = _times(weight, inner.body)
        total = Part("sum", coefficient, Reduce("sum", over, body, admitted), None, body, admitted, over)
        return replace(total, form="ratio", denominator=_count(inner.over, inner.where)) if inner.op == "mean" else total

    def _weighted(self, term: Node) -> tuple[Node, Reduce | None]:
        """`w * reduction` or `reduction / w` as the weight, free of the batch, and the reduction."""
        if isinstance(term, Reduce):
            return core.ONE, term
        if isinstance(term, Map) and term.function == "div" and not self.depends(term.arguments[1]):
            weight, inner = self._weighted(term.arguments[0])
            return core.div(weight, term.arguments[1]), inner
        factors = term.arguments if isinstance(term, Map) and term.function == "mul" else ()
        split = [factor for factor in factors if self.depends(factor)]
        if len(split) == 1:
            weight, inner = self._weighted(split[0])
            return core.mul(*(factor for factor in factors if factor is not split[0]), weight), inner
        return core.ONE, None

    def _chosen(self, condition: Node, branch: Node, coefficient: Node) -> Iterator[Part]:
        """The parts of a branch that a parameter chooses: their sums admit nothing where the branch is not taken."""
        for part in self._split(branch, coefficient):
            fixed = core.where(condition, part.coefficient, core.ZERO)
            if part.body is None:
                yield replace(part, coefficient=fixed, numerator=core.where(condition, part.numerator, core.ZERO))
            else:
                yield replace(
                    part,
                    coefficient=fixed,
                    numerator=_only_where(condition, part.numerator),
                    denominator=None if part.denominator is None else _only_where(condition, part.denominator),
                    admitted=core.all_of(part.admitted, condition),
                )

    def _reduce(self, node: Reduce, coefficient: Node) -> Part | None:
        if node.op not in ("sum", "mean", "count") or node.groups is not None or not self._is_sum(node):
            return None
        body = core.ONE if node.op == "count" else node.body
        entry = Part("sum", coefficient, node, None, body, node.where, node.over)
        if node.op != "mean":
            return entry
        numerator = Reduce("sum", node.over, node.body, node.where)
        denominator = _count(node.over, node.where)
        return replace(entry, form="ratio", numerator=numerator, denominator=denominator)

    def _ratio(self, top: Node, bottom: Node, coefficient: Node) -> Part | None:
        """A quotient of two sums over the batch, such as a weighted mean."""
        bottom = _unguarded(top, bottom)
        factor, numerator = self._scaled_sum(top)
        inner_factor, denominator = self._scaled_sum(bottom)
        if not isinstance(numerator, Reduce) or denominator is None:
            return None
        scale = factor if inner_factor is core.ONE else core.div(factor, inner_factor)
        body = numerator.body if numerator.op == "sum" else core.ONE
        return Part("ratio", _times(coefficient, scale), numerator, denominator, body, numerator.where, numerator.over)

    def _scaled_sum(self, node: Node) -> tuple[Node, Reduce | core.Size | None]:
        """`c * sum(...)` as (c, the sum), likewise `c * size[b]`; the sum is None for a node of another form."""
        factors = node.arguments if isinstance(node, Map) and node.function == "mul" else (node,)
        split = [factor for factor in factors if self.depends(factor)]
        fixed = core.mul(*(factor for factor in factors if not self.depends(factor)))
        match split:
            case [core.Size() as size]:
                return fixed, size
            case [Reduce(op="sum" | "count", groups=None) as total] if self._is_sum(total):
                return fixed, total
        return core.ONE, None

    def _is_sum(self, node: Reduce) -> bool:
        """Whether the reduction is a sum over rows, each of which is computed from its own row only."""
        return bool(self.batch & set(node.over)) and all(self.local(child) for child in node.children)

    def depends(self, node: Node) -> bool:
        """Whether the value depends on which rows are in the batch."""
        for part in core.walk(node):
            if part not in self._batchy:
                own = isinstance(part, core.Input | core.Local | core.Draw | core.Index) and bool(part.axes & self.batch)
                own = own or (isinstance(part, core.Size) and part.axis in self.batch)
                self._batchy[part] = own or any(self._batchy[child] for child in part.children)
        return self._batchy[node]

    def local(self, node: Node) -> bool:
        """Whether each row of the value is computed from that row only."""
        for part in core.walk(node):
            if part not in self._local:
                self._local[part] = not self._mixes(part) and all(self._local[child] for child in part.children)
        return self._local[node]

    def _mixes(self, part: Node) -> bool:
        match part:
            case Reduce(over=over):
                return bool(self.batch & set(over))
            case core.Along(axis=axis) | core.Select(axis=axis) | core.Slice(axis=axis) | core.Index(axis=axis):
                return axis in self.batch
            case core.Rename(old=old):
                return old in self.batch
            case core.Size(axis=axis):
                return axis in self.batch
            case core.Call(function="model" | "grad" | "worst" | "root" | "fold", mixed=mixed):
                return bool(self.batch & mixed)
            case core.Call(consumed=consumed, produced=produced):
                return bool(self.batch & {*consumed, *produced})
        return False


def _is_presence(where: Node | None, inner: Reduce) -> bool:
    """Whether a condition says only that the inner reduction has an entry; without any, its part is 0 of 0."""
    if not isinstance(where, Reduce) or where.op != "any" or where.groups is not None or inner.where is None:
        return False
    return where.body is inner.where and where.where in (None, inner.where) and set(where.over) <= set(inner.over)


def _count(over: tuple[str, ...], condition: Node | None) -> Node:
    """The number of admitted entries, from the condition and extents alone, without scores."""
    if condition is None:
        return core.mul(*(core.Size(axis) for axis in over))
    seen = tuple(axis for axis in over if axis in condition.axes)
    counted = Reduce("count", seen, core.ONE, condition) if seen else core.where(condition, core.ONE, core.ZERO)
    return core.mul(counted, *(core.Size(axis) for axis in over if axis not in seen))


def _over_one_line(factors: tuple[Node, ...]) -> tuple[Node, Node]:
    """The product `1 / n * s` as the quotient `s / n`."""
    quotients = [f.arguments if isinstance(f, Map) and f.function == "div" else (f, core.ONE) for f in factors]
    top, bottom = ([part for part in parts if part is not core.ONE] for parts in zip(*quotients, strict=True))
    return _product(top), _product(bottom)


def _product(factors: list[Node]) -> Node:
    return core.mul(*factors) if factors else core.ONE


def _only_where(condition: Node, total: Node) -> Node:
    if isinstance(total, Reduce):
        return replace(total, where=core.all_of(total.where, condition))
    return core.where(condition, total, core.ZERO)


def _times(left: Node, right: Node) -> Node:
    return right if left is core.ONE else left if right is core.ONE else core.mul(left, right)


def _unguarded(top: Node, bottom: Node) -> Node:
    """A denominator without its guard against emptiness: parts are guarded where they are divided.

    `d if d != 0 else 1` is always such a guard; `max(d, 1)` is one where d counts the entries that the numerator sums,
    so that both are empty at once.
    """
    match bottom:
        case Map(function="where", arguments=(condition, then, otherwise)):
            if otherwise is core.ONE and condition is core.apply("ne", then, core.ZERO):
                return then
        case Map(function="max", arguments=(core.ONE, counted) | (counted, core.ONE)) if counted.domain.integer:
            if isinstance(counted, Reduce) and counted.domain.nonneg and _sums_only(top, counted):
                return counted
    return bottom


def _sums_only(top: Node, counted: Reduce) -> bool:
    """Whether a numerator is a sum of entries that are 0 wherever the count does not count."""
    factors = top.arguments if isinstance(top, Map) and top.function == "mul" else (top,)
    sums = [factor for factor in factors if isinstance(factor, Reduce) and factor.op == "sum"]
    if len(sums) != 1 or sums[0].over != counted.over:
        return False
    body = sums[0].body
    within = body.arguments if isinstance(body, Map) and body.function == "mul" else (body,)
    same = sums[0].where is counted.where
    return same and (counted.op == "count" or counted.body in within)
