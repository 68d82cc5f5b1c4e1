"""Rewriting a graph bottom-up into normal form, one step at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TypeAlias

from lossc.compiler import core
from lossc.compiler.core import (
    ZERO,
    Along,
    Map,
    Node,
    Reduce,
    Rename,
    Select,
    Slice,
    StopGrad,
    walk,
)
from lossc.compiler.simplify import functions, shapes
from lossc.compiler.simplify.conditions import PREDICATES
from lossc.compiler.simplify.matching import Left, Matcher, joined
from lossc.compiler.simplify.patterns import Binding, Bound, Unfit, instantiate, variable
from lossc.compiler.simplify.rules import RULES, Rule
from lossc.compiler.simplify.views import product_of, terms_of
from lossc.compiler.verify import violation

STEPS_PER_NODE = 60
"""Rules that may fire for each node of a graph; a graph that needs more keeps the form that it has reached."""

Head: TypeAlias = tuple[str, str]


@dataclass
class Record:
    """What a simplification did: how often each rule fired and where first, and what turned out to be 0."""

    fired: dict[Rule, int] = field(default_factory=dict)
    first: dict[Rule, Node] = field(default_factory=dict)
    vanished: list[Node] = field(default_factory=list)
    exhausted: bool = False


class Simplifier:
    """Rewrites graphs. One instance shares its results among all graphs of a program."""

    def __init__(self, rules: tuple[Rule, ...] = RULES) -> None:
        self.record = Record()
        self._rules = _by_head(rules)
        self._done: dict[Node, Node] = {}
        self._steps = 0
        self._origin: Node = ZERO
        self._looking = 0
        self._matchers = {rule: Matcher(self._instance, _early(rule)) for rule in rules}
        self._heads: dict[Node, frozenset[Head]] = {}

    def __call__(self, root: Node) -> Node:
        """The graph in normal form."""
        for node in walk(root):
            if node not in self._done:
                self._origin = node
                self._steps += STEPS_PER_NODE
                self._done[node] = self._rebuilt(node)
        return self._done[root]

    def _rebuilt(self, node: Node) -> Node:
        """The node over its simplified parts; over its original parts where these lost an axis that it needs."""
        parts = tuple(self._done[child] for child in node.children)
        rebuilt = node if parts == node.children else node.rebuild(parts)
        try:
            result = self.construct(rebuilt)
        except RecursionError:
            self.record.exhausted = True
            return node
        if result is ZERO and node.axes:
            self.record.vanished.append(node)
        return result if violation(result) is None else self._kept(node)

    def _kept(self, node: Node) -> Node:
        """The node over those simplified parts that still have all their axes."""
        parts = (self._done[child] for child in node.children)
        return node.rebuild(
            tuple(part if part.axes == child.axes else child for part, child in zip(parts, node.children, strict=True))
        )

    def construct(self, node: Node) -> Node:
        """The normal form of a node."""
        known = self._done.get(node)
        if known is not None:
            return known
        parts = tuple(map(self.construct, node.children))
        if parts != node.children:
            result = self.construct(node.rebuild(parts))
        else:
            normal = self._normal(node)
            result = self.construct(normal) if normal is not node else self._rewritten(node)
        self._done[node] = self._done[result] = result
        return result

    def _well_formed(self, node: Node) -> Node:
        """A node in the result of a rule; the rule does not apply where an axis would be missing."""
        if violation(node) is not None:
            raise Unfit
        return self.construct(node)

    def _instance(self, node: Node) -> Node:
        """The normal form of a node that is only searched for; rules that fire here are not recorded."""
        self._looking += 1
        try:
            return self._well_formed(node)
        finally:
            self._looking -= 1

    def _normal(self, node: Node) -> Node:
        match node:
            case Map():
                return self._normal_map(node)
            case Reduce():
                return shapes.reduction(node, self.construct)
            case Along():
                return shapes.along(node, self.construct)
            case Select():
                return shapes.selection(node, self.construct)
            case Rename():
                return shapes.renamed(node)
            case Slice():
                return shapes.sliced(node)
            case StopGrad(body=core.Const() as body):
                return body
        return node

    def _normal_map(self, node: Map) -> Node:
        if node.function == "where":
            return shapes.choice(node, self.construct)
        return functions.normal(node)

    def _rewritten(self, node: Node) -> Node:
        for rule in self._rules.get(head(node), ()):
            result = self._applied(rule, node) if needed_heads(rule.left) <= self._operand_heads(node) else None
            if result is not None:
                return result
        return node

    def _applied(self, rule: Rule, node: Node) -> Node | None:
        for binding, left in self._matchers[rule].root(rule.left, node):
            if self._steps <= 0:
                self.record.exhausted = True
                return None
            if not _holds(rule, binding):
                continue
            try:
                result = self._joined(rule, binding, left)
            except Unfit:
                continue
            if result is node or result.axes != node.axes:
                continue
            self._note_fired(rule)
            return result
        return None

    def _joined(self, rule: Rule, binding: Binding, left: Left) -> Node:
        """The result of a rule, together with the operands of the sum or product that the rule did not use."""
        self._steps -= 1
        result = instantiate(rule.right, binding, self._well_formed)
        return result if left is None else self.construct(joined(result, left))

    def _operand_heads(self, node: Node) -> frozenset[Head]:
        found = self._heads.get(node)
        if found is None:
            found = self._heads[node] = heads(node)
        return found

    def _note_fired(self, rule: Rule) -> None:
        if not self._looking:
            self.record.fired[rule] = self.record.fired.get(rule, 0) + 1
            self.record.first.setdefault(rule, self._origin)


def _early(rule: Rule) -> Callable[[str, Bound], bool]:
    """The conditions of a rule that concern a single variable, checked as soon as that variable is bound."""
    single: dict[str, list[Callable[..., bool]]] = {}
    for name, arguments in rule.tests:
        if len(arguments) == 1:
            single.setdefault(arguments[0], []).append(PREDICATES[name])
    return lambda name, value: all(holds(value) for holds in single.get(name, ()))


def heads(node: Node) -> frozenset[Head]:
    """The heads of all factors of all summands."""
    if not isinstance(node, Map) or node.function not in ("add", "mul", "div"):
        return frozenset()
    return frozenset().union(*(_factor_heads(term.monomial) for term in terms_of(node)))


@cache
def needed_heads(pattern: Node) -> frozenset[Head]:
    """The heads that a graph must contain for a pattern to match: those of the summand that is searched first.

    The other summands are searched as instances in normal form, whose heads may differ.
    """
    if not isinstance(pattern, Map) or pattern.function not in ("add", "mul", "div"):
        return frozenset()
    return next((found for term in terms_of(pattern) if (found := _factor_heads(term.monomial))), frozenset())


def _factor_heads(monomial: Node) -> frozenset[Head]:
    view = product_of(monomial)
    return frozenset(head(factor) for factor in view.above + view.below if variable(factor) is None)


def _holds(rule: Rule, binding: Binding) -> bool:
    return all(PREDICATES[name](*(binding[argument] for argument in arguments)) for name, arguments in rule.tests)


def head(node: Node) -> Head:
    """The key by which rules are looked up: the type of a node, with its function or operation."""
    return type(node).__name__, getattr(node, "function", "") or getattr(node, "op", "")


def _by_head(rules: tuple[Rule, ...]) -> dict[Head, list[Rule]]:
    table: dict[Head, list[Rule]] = {}
    for rule in rules:
        kind, name = head(rule.left)
        names = ("mul", "div") if name in ("mul", "div") else (name,)
        for each in names:
            table.setdefault((kind, each), []).append(rule)
    return table
