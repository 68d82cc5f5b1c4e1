"""Matching patterns against graphs, sums and products taken up to order and association."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import permutations

from lossc.compiler import core
from lossc.compiler.core import Along, Const, Map, Node, Reduce, Rename, Select, Size, StopGrad, walk
from lossc.compiler.simplify.patterns import (
    REMAINING,
    Axes,
    Binding,
    Bound,
    Unfit,
    instantiate,
    variable,
    variables,
)
from lossc.compiler.simplify.views import UNIT, Nodes, Product, Scaled, monomial, product_of, scaled, terms_of

Terms = tuple[Scaled, ...]
Construct = Callable[[Node], Node]

_COMMUTATIVE = frozenset(("and", "or", "eq", "ne", "logaddexp", "min", "max"))


Left = Terms | Product | None
"""The operands of a sum or a product that a pattern did not use; None where it is the whole node."""


def joined(result: Node, left: Left) -> Node:
    """The result of a rewrite, together with the remaining operands."""
    if left is None:
        return result
    if isinstance(left, Product):
        return core.mul(result, scaled(left.coefficient, monomial(left.above, left.below)))
    return core.add(result, *(scaled(term.coefficient, term.monomial) for term in left))


class Matcher:
    """Finds the matches of a pattern.

    `construct` builds an instance in normal form, which is then searched among summands; `accepts` tells early whether
    a variable may be bound to a value.
    """

    def __init__(self, construct: Construct, accepts: Callable[[str, Bound], bool] = lambda _, __: True) -> None:
        self.construct = construct
        self.accepts = accepts

    def whole(self, pattern: Node, node: Node, binding: Binding) -> Iterator[Binding]:
        """Bindings under which the pattern equals the node."""
        name = variable(pattern)
        if name is not None:
            yield from self._bind(name, node, binding)
        elif isinstance(pattern, Const):
            if pattern is node:
                yield binding
        elif isinstance(pattern, Map):
            yield from self._map(pattern, node, binding)
        elif type(pattern) is type(node):
            yield from self._structure(pattern, node, binding)

    def root(self, pattern: Node, node: Node) -> Iterator[tuple[Binding, Left]]:
        """Bindings under which the pattern equals the node or some operands of its sum or product, with the operands left."""
        if isinstance(pattern, Map) and pattern.function == "add":
            for binding, terms in self.terms(_summands(pattern), terms_of(node), {}):
                yield binding, terms or None
        elif isinstance(pattern, Map) and pattern.function in ("mul", "div"):
            for binding, product in self.factors(_factors_of(pattern), product_of(node), {}):
                yield binding, None if product == UNIT else product
        else:
            for binding in self.whole(pattern, node, {}):
                yield binding, None

    def _map(self, pattern: Map, node: Node, binding: Binding) -> Iterator[Binding]:
        if pattern.function == "add":
            for bound, terms in self.terms(_summands(pattern), terms_of(node), binding):
                if not terms:
                    yield bound
        elif pattern.function in ("mul", "div"):
            for bound, left in self.factors(_factors_of(pattern), product_of(node), binding):
                if left == UNIT:
                    yield bound
        elif isinstance(node, Map) and node.function == pattern.function:
            for arguments in self._orders(node):
                if len(arguments) == len(pattern.arguments):
                    yield from self._each(list(zip(pattern.arguments, arguments, strict=True)), binding)

    def _orders(self, node: Map) -> Iterator[Nodes]:
        if node.function in _COMMUTATIVE and len(node.arguments) == 2:
            yield from permutations(node.arguments)
        else:
            yield node.arguments

    def _each(self, pairs: list[tuple[Node, Node]], binding: Binding) -> Iterator[Binding]:
        if not pairs:
            yield binding
            return
        (pattern, node), *others = pairs
        for bound in self.whole(pattern, node, binding):
            yield from self._each(others, bound)

    def _structure(self, pattern: Node, node: Node, binding: Binding) -> Iterator[Binding]:
        match pattern, node:
            case Reduce(op=op, over=(name,)), Reduce(op=other) if op == other and node.option is None:
                axes = Axes(node.over, node.groups)
                yield from self._over(pattern, node, name, axes, binding)
            case Along(op=op, axis=name), Along(op=other) if op == other and node.option is None:
                yield from self._over(pattern, node, name, Axes((node.axis,), None, node.by), binding)
            case Select(axis=name, at=at), Select():
                for bound in self._bind(f"[{name}]", Axes((node.axis,)), binding):
                    name_of_at = variable(at)
                    for inner in self._bind(name_of_at, node.at, bound) if name_of_at else ():
                        yield from self.whole(pattern.body, node.body, inner)
            case Rename(old=old, new=new), Rename():
                for bound in self._bind(f"[{old}]", Axes((node.old,)), binding):
                    for inner in self._bind(f"[{new}]", Axes((node.new,)), bound):
                        yield from self.whole(pattern.body, node.body, inner)
            case StopGrad(body=body), StopGrad(body=held):
                yield from self.whole(body, held, binding)
            case Size(axis=name), Size(axis=axis):
                yield from self._bind(f"[{name}]", Axes((axis,)), binding)

    def _over(
        self, pattern: Reduce | Along, node: Reduce | Along, name: str, axes: Axes, binding: Binding
    ) -> Iterator[Binding]:
        for bound in self._bind(f"[{name}]", axes, binding):
            for masked in self._bind_mask(pattern.where, node.where, bound):
                yield from self.whole(pattern.body, node.body, masked)

    def factors(self, pattern: Product, node: Product, binding: Binding) -> Iterator[tuple[Binding, Product]]:
        """Ways to find the factors of the pattern in a product, with the remaining product."""
        left = replace(node, coefficient=node.coefficient / pattern.coefficient) if pattern.coefficient else node
        yield from self._factors(list(pattern.above), list(pattern.below), left, binding)

    def _factors(
        self, above: list[Node], below: list[Node], node: Product, binding: Binding
    ) -> Iterator[tuple[Binding, Product]]:
        place = _next(above, below, binding)
        if place is None:
            yield binding, node
            return
        side, index = place
        pattern = (above, below)[side][index]
        rest = [list(above), list(below)]
        del rest[side][index]
        name = variable(pattern)
        if name is not None and _absorbs(name, binding):
            for bound in self._bind(name, scaled(node.coefficient, monomial(node.above, node.below)), binding):
                yield bound, UNIT
            return
        if name is not None and name in binding:
            known = _minus(node, binding[name], side)
            if known is not None:
                yield from self._factors(rest[0], rest[1], known, binding)
            return
        for factor, remaining in _each_factor(node, side):
            for bound in self.whole(pattern, factor, binding):
                yield from self._factors(rest[0], rest[1], remaining, bound)

    def terms(self, pattern: Terms, node: Terms, binding: Binding) -> Iterator[tuple[Binding, Terms]]:
        """Ways to find the summands of the pattern in a sum, with the remaining summands."""
        if not pattern:
            yield binding, node
            return
        index = min(range(len(pattern)), key=lambda i: _difficulty(pattern[i].monomial, binding))
        first, others = pattern[index], pattern[:index] + pattern[index + 1 :]
        for bound, left in self._term(first, node, binding):
            yield from self.terms(others, left, bound)

    def _term(self, pattern: Scaled, node: Terms, binding: Binding) -> Iterator[tuple[Binding, Terms]]:
        unbound = variables(pattern.monomial) - binding.keys()
        name = variable(pattern.monomial)
        if not unbound:
            left = self._without_instance(pattern, node, binding)
            yield from [] if left is None else [(binding, left)]
        elif name is not None:
            yield from self._variable_terms(name, pattern.coefficient, node, binding)
        elif (position := _unknown_position(pattern.monomial, unbound)) is not None:
            yield from self._selected_term(pattern, position, node, binding)
        else:
            factors = replace(_factors_of(pattern.monomial), coefficient=pattern.coefficient)
            for term, others in _each_term(node):
                target = replace(product_of(term.monomial), coefficient=term.coefficient)
                for bound, rest in self.factors(factors, target, binding):
                    if rest == UNIT:
                        yield bound, others

    def _selected_term(
        self, pattern: Scaled, position: tuple[str, str], node: Terms, binding: Binding
    ) -> Iterator[tuple[Binding, Terms]]:
        """Matches of a summand in which only the position of a selection is unbound.

        Each position at which the sum reads that axis is tried.
        """
        name, axis = position
        axes = binding.get(f"[{axis}]")
        if not isinstance(axes, Axes) or len(axes.over) != 1:
            return
        for at in _positions(node, axes.over[0]):
            bound = {**binding, name: at}
            left = self._without_instance(pattern, node, bound)
            if left is not None:
                yield bound, left

    def _without_instance(self, pattern: Scaled, node: Terms, binding: Binding) -> Terms | None:
        """The summands without those of an instance of the pattern; None where they are not all there."""
        try:
            instance = instantiate(pattern.monomial, binding, self.construct)
        except Unfit:
            return None
        left = node
        wanted = [term.times(pattern.coefficient) for term in terms_of(instance)]
        for term in wanted:
            place = _place(term, left)
            if place is None:
                return None
            left = left[:place] + left[place + 1 :]
        return left if wanted else None

    def _variable_terms(
        self, name: str, coefficient: Fraction, node: Terms, binding: Binding
    ) -> Iterator[tuple[Binding, Terms]]:
        """Matches of a summand that is a variable: any one summand, or all of them."""
        if _absorbs(name, binding):
            total = core.add(*(scaled(t.coefficient / coefficient, t.monomial) for t in node))
            for bound in self._bind(name, total, binding):
                yield bound, ()
            return
        for term, others in _each_term(node):
            for bound in self._bind(name, scaled(term.coefficient / coefficient, term.monomial), binding):
                yield bound, others

    def _bind(self, name: str, value: Bound, binding: Binding) -> Iterator[Binding]:
        if name in binding:
            if binding[name] == value:
                yield binding
        elif self.accepts(name, value):
            yield {**binding, name: value}

    def _bind_mask(self, pattern: Node | None, mask: Node | None, binding: Binding) -> Iterator[Binding]:
        name = variable(pattern)
        if name is not None:
            yield from self._bind(name, mask, binding)
        elif pattern is None and mask is None:
            yield binding


@cache
def _summands(pattern: Node) -> Terms:
    return terms_of(pattern)


@cache
def _factors_of(pattern: Node) -> Product:
    return product_of(pattern)


def _absorbs(name: str, binding: Binding) -> bool:
    return name in REMAINING and name not in binding


def _place(wanted: Scaled, terms: Terms) -> int | None:
    for i, term in enumerate(terms):
        if term.monomial is wanted.monomial and term.coefficient == wanted.coefficient:
            return i
    return None


def _each_term(terms: Terms) -> Iterator[tuple[Scaled, Terms]]:
    for i, term in enumerate(terms):
        yield term, terms[:i] + terms[i + 1 :]


def _difficulty(pattern: Node, binding: Binding) -> int:
    """The order in which operands are searched: bound ones first, then those with structure as written, then variables."""
    if not variables(pattern) - binding.keys():
        return 0
    name = variable(pattern)
    if name is None:
        return 1
    return 3 if _absorbs(name, binding) else 2


def _next(above: list[Node], below: list[Node], binding: Binding) -> tuple[int, int] | None:
    places = [(side, i) for side, factors in enumerate((above, below)) for i in range(len(factors))]
    return min(places, key=lambda p: _difficulty((above, below)[p[0]][p[1]], binding), default=None)


def _each_factor(node: Product, side: int) -> Iterator[tuple[Node, Product]]:
    """Each factor of one side, with the remaining product; a number comes last."""
    factors = node.below if side else node.above
    for i, factor in enumerate(factors):
        others = factors[:i] + factors[i + 1 :]
        yield factor, replace(node, below=others) if side else replace(node, above=others)
    if not side and node.coefficient not in (0, 1):
        yield Const(node.coefficient), replace(node, coefficient=Fraction(1))


def _minus(node: Product, value: Bound, side: int) -> Product | None:
    """The product without the factors of a value that is bound already."""
    if not isinstance(value, Node):
        return None
    known = product_of(value)
    above, below = (known.below, known.above) if side else (known.above, known.below)
    coefficient = 1 / known.coefficient if side and known.coefficient else known.coefficient
    upper, lower = list(node.above), list(node.below)
    for factors, wanted in ((upper, above), (lower, below)):
        for factor in wanted:
            if factor not in factors:
                return None
            factors.remove(factor)
    return Product(node.coefficient / coefficient, tuple(upper), tuple(lower)) if coefficient else None


def _unknown_position(pattern: Node, unbound: frozenset[str]) -> tuple[str, str] | None:
    """The variable and axis of the selection in a pattern, where that variable is the only unbound one."""
    for part in walk(pattern):
        if isinstance(part, Select):
            name = variable(part.at)
            if name is not None and unbound == {name}:
                return name, part.axis
    return None


def _positions(terms: Terms, axis: str) -> list[Node | int]:
    """The positions at which the elementwise parts of a sum read an axis."""
    found: dict[Node | int, None] = {}
    seen: set[Node] = set()
    stack = [term.monomial for term in terms]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if isinstance(node, Select) and node.axis == axis:
            found[node.at] = None
        if isinstance(node, Map | Select | StopGrad):
            stack.extend(node.children)
    return list(found)
