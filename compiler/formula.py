"""Core graphs from formulas of the compiler itself: derivative texts, rewrite patterns, tests.

`formula("logsumexp[v](z) - z[v = y]", {"z": z, "y": y})` reads the language without kinds and absence: a name is the
node given for it, an axis the name given for it (or itself). Formulas are constants of this program, so an error in one
is a fault of lossc.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import cache, lru_cache
from typing import cast

from lossc.compiler import core
from lossc.compiler.core import Node
from lossc.compiler.faults import InternalError
from lossc.compiler.primitives import PRIMITIVES
from lossc.grammar import syntax
from lossc.grammar.diagnostics import Diagnostics
from lossc.grammar.source import Source
from lossc.grammar.syntax import Expr

_CONSTANTS: dict[str, Node] = {"pi": core.PI, "inf": core.INFINITY}
_OPERATORS: dict[str, Callable[[Node, Node], Node]] = {
    "+": core.add,
    "-": core.sub,
    "*": core.mul,
    "/": core.div,
    "^": core.power,
    "and": lambda x, y: core.apply("and", x, y),
    "or": lambda x, y: core.apply("or", x, y),
}
_COMPARISONS: dict[str, Callable[[Node, Node], Node]] = {
    "<": lambda x, y: core.apply("lt", x, y),
    "<=": lambda x, y: core.apply("le", x, y),
    ">": lambda x, y: core.apply("lt", y, x),
    ">=": lambda x, y: core.apply("le", y, x),
    "==": lambda x, y: core.apply("eq", x, y),
    "!=": lambda x, y: core.apply("ne", x, y),
}


def formula(text: str, names: Mapping[str, Node], axes: Mapping[str, str] | None = None) -> Node:
    """The core graph of an expression over the nodes in `names`; results are cached."""
    return _built(text, frozenset(names.items()), frozenset((axes or {}).items()))


@lru_cache(maxsize=4096)
def _built(text: str, names: frozenset[tuple[str, Node]], axes: frozenset[tuple[str, str]]) -> Node:
    return _Builder(text, dict(names), dict(axes)).build(parsed(text))


@cache
def parsed(text: str) -> Expr:
    """The syntax tree of a formula."""
    from lossc.grammar.parser import parse_expression

    problems = Diagnostics()
    tree = parse_expression(Source("<formula>", text), problems)
    if tree is None or problems.found:
        raise InternalError(f"the formula `{text}` cannot be read: {[d.message for d in problems.found]}")
    return cast(Expr, tree)


class _Builder:
    """Builds the graph of one formula."""

    def __init__(self, text: str, names: dict[str, Node], axes: dict[str, str]) -> None:
        self.text = text
        self.names = names
        self.axes = axes

    def build(self, expression: Expr) -> Node:
        match expression:
            case syntax.Number(text=digits):
                return core.const(Fraction(digits))
            case syntax.Name(id=name, primes=0):
                return self._name(name)
            case syntax.Unary(op=op, operand=operand):
                return self._unary(op, self.build(operand))
            case syntax.Binary(op=op, left=left, right=right):
                return _OPERATORS[op](self.build(left), self.build(right))
            case syntax.Compare(ops=ops, operands=operands):
                return self._chain(ops, [self.build(operand) for operand in operands])
            case syntax.IfElse(then=then, condition=condition, otherwise=otherwise):
                return core.where(self.build(condition), self.build(then), self.build(otherwise))
            case syntax.Call(function=syntax.Name(id=name, primes=0), arguments=arguments):
                return self._call(name, [self._positional(argument) for argument in arguments])
            case syntax.Call(function=syntax.Bracket(head=syntax.Name(id=op)) as bracket, arguments=arguments):
                return self._over(op, bracket, arguments)
            case syntax.Bracket(head=syntax.Name(id="index" | "size" | "count" as op)) if op not in self.names:
                return self._of_axis(op, expression)
            case syntax.Bracket(head=head, selectors=selectors):
                node = self.build(head)
                for selector in selectors:
                    node = self._selected(node, selector)
                return node
        raise self._fault(f"`{type(expression).__name__}` has no meaning in a formula")

    def _fault(self, reason: str) -> InternalError:
        return InternalError(f"the formula `{self.text}` is wrong: {reason}")

    def _axis(self, name: str) -> str:
        return self.axes.get(name, name)

    def _name(self, name: str) -> Node:
        node = self.names.get(name) or _CONSTANTS.get(name)
        if node is None:
            raise self._fault(f"`{name}` is not given")
        return node

    def _unary(self, op: str, operand: Node) -> Node:
        if op == "-":
            return core.neg(operand)
        return core.apply("not", operand) if op == "not" else operand

    def _chain(self, ops: tuple[str, ...], operands: list[Node]) -> Node:
        pairs = zip(ops, operands, operands[1:], strict=False)
        links = [_COMPARISONS[op](left, right) for op, left, right in pairs]
        return cast(Node, core.all_of(*links))

    def _positional(self, argument: syntax.Argument) -> Node:
        if argument.name or argument.to:
            raise self._fault("a function takes its arguments by position")
        return self.build(argument.value)

    def _call(self, name: str, arguments: list[Node]) -> Node:
        if name == "sg":
            return core.StopGrad(*arguments)
        entry = PRIMITIVES.get(name)
        if entry is None or (entry.arity is not None and entry.arity != len(arguments)):
            raise self._fault(f"`{name}` does not take these arguments")
        return core.apply(name, *arguments)

    def _of_axis(self, op: str, bracket: syntax.Bracket) -> Node:
        axes = tuple(self._axis(selector.name) for selector in bracket.selectors)
        if op == "count":
            return core.Reduce("count", axes, core.ONE, self._where(bracket))
        return core.Index(*axes) if op == "index" else core.Size(*axes)

    def _where(self, bracket: syntax.Bracket) -> Node | None:
        return self.build(bracket.where) if bracket.where is not None else None

    def _over(self, op: str, bracket: syntax.Bracket, arguments: tuple[syntax.Argument, ...]) -> Node:
        named = {argument.name: self.build(argument.value) for argument in arguments if argument.name}
        given = [self.build(argument.value) for argument in arguments if not argument.name]
        body, option = given[0], given[1] if len(given) > 1 else None
        if op in core.REDUCE_OPS:
            axes = tuple(self._axis(selector.name) for selector in bracket.selectors)
            option = named.get("ddof", option)
            return core.Reduce(op, axes, body, self._where(bracket), None, option)
        if op not in core.ALONG_OPS:
            raise self._fault(f"`{op}` is not a reduction")
        (selector,) = bracket.selectors
        by = self.build(selector.value) if selector.form == "by" and selector.value is not None else None
        new = self._axis(selector.new) if selector.new else None
        option = named.get("by", option)
        axis, where = self._axis(selector.name), self._where(bracket)
        return core.Along(op, axis, body, where, by, option, named.get("fill"), new)

    def _selected(self, node: Node, selector: syntax.Selector) -> Node:
        axis = self._axis(selector.name)
        match selector:
            case syntax.Selector(form="at", value=syntax.Number(text=digits)):
                return core.Select(node, axis, int(digits))
            case syntax.Selector(form="at", value=value) if value is not None:
                return core.Select(node, axis, self.build(value))
            case syntax.Selector(form="rename", new=new, value=None) if new is not None:
                return core.Rename(node, axis, self._axis(new))
            case syntax.Selector(
                form="rename", new=new, value=syntax.Number(text=start), upper=syntax.Number(text=stop)
            ) if new is not None:
                return core.Slice(node, axis, self._axis(new), int(start), int(stop))
        raise self._fault(f"a selection of form `{selector.form}` has no meaning in a formula")
