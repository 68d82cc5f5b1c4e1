"""The expression that a core graph stands for, as a reader would write it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Literal

from lossc.compiler import core
from lossc.compiler.core import Node
from lossc.compiler.display.opaque import opaque_call
from lossc.compiler.simplify.views import number, product_of, terms_of
from lossc.grammar.syntax import Argument, Binary, Bracket, Call, Compare, Expr, IfElse, Name, Number, Selector, Unary

MAX_SIZE = 4000
"""Expressions with more parts than this are cut with an ellipsis: a shared graph can be exponentially long as text."""

Positions = Mapping[str, tuple[str, ...]]
_COMPARISONS: dict[str, Literal["<", "<=", "==", "!="]] = {"lt": "<", "le": "<=", "eq": "==", "ne": "!="}
_ELLIPSIS = Name("…")


def core_expression(node: Node, positions: Positions) -> Expr:
    """The expression of a node; `positions` names the entries of axes."""
    return _Reader(node, positions).expression(node)


class _Reader:
    def __init__(self, root: Node, positions: Positions) -> None:
        self.positions = positions
        self.sizes: dict[Node, int] = {}
        for part in core.walk(root):
            self.sizes[part] = 1 + sum(self.sizes[child] for child in part.children)

    def expression(self, node: Node) -> Expr:
        match node:
            case core.Input(name=name) | core.Param(name=name) | core.Local(name=name):
                return Name(name.removeprefix(core.RUN))
            case core.Const():
                return _constant(node)
            case core.Index(axis=axis):
                return Bracket(Name("index"), (Selector("axis", axis),))
            case core.Size(axis=axis):
                return Bracket(Name("size"), (Selector("axis", axis),))
            case core.Draw(distribution=name, order=order):
                return Call(Name(name), tuple(Argument(Name(axis)) for axis in order))
            case core.StopGrad(body=body):
                return self._call("sg", (body,))
            case core.Map():
                return self._map(node)
            case core.Reduce():
                return self._reduce(node)
            case core.Along():
                return self._along(node)
            case core.Select(body=body, axis=axis, at=at):
                return Bracket(self._part(body), (Selector("at", axis, self._position(axis, at)),))
            case core.Slice(body=body, axis=axis, new=new, start=start, stop=stop):
                selector = Selector("rename", axis, Number(str(start)), Number(str(stop)), new)
                return Bracket(self._part(body), (selector,))
            case core.Rename(body=body, old=old, new=new):
                return Bracket(self._part(body), (Selector("rename", old, new=new),))
            case core.Call():
                return self._of_call(node)
        return _ELLIPSIS

    def _part(self, node: Node) -> Expr:
        return _ELLIPSIS if self.sizes.get(node, 0) > MAX_SIZE else self.expression(node)

    def _position(self, axis: str, at: Node | int) -> Expr:
        if isinstance(at, Node):
            return self._part(at)
        names = self.positions.get(axis, ())
        return Name(names[at]) if at < len(names) else Number(str(at))

    def _call(self, function: str, arguments: Iterable[Node]) -> Expr:
        return Call(Name(function), tuple(Argument(self._part(argument)) for argument in arguments))

    def _map(self, node: core.Map) -> Expr:
        match node.function, node.arguments:
            case "add", _:
                return self._sum(node)
            case "mul" | "div", _:
                return self._product(node)
            case "pow", (base, exponent):
                return Binary("^", self._part(base), self._part(exponent))
            case ("and" | "or") as op, (left, right):
                return Binary(op, self._part(left), self._part(right))
            case "not", (mask,):
                return Unary("not", self._part(mask))
            case "where", (condition, then, otherwise):
                return IfElse(self._part(then), self._part(condition), self._part(otherwise))
            case ("lt" | "le" | "eq" | "ne") as op, (left, right):
                return Compare((_COMPARISONS[op],), (self._part(left), self._part(right)))
        return self._call(node.function, node.arguments)

    def _sum(self, node: core.Map) -> Expr:
        """Positive terms first, so that a difference reads as one."""
        terms = sorted(terms_of(node), key=lambda term: term.coefficient < 0)
        result: Expr | None = None
        for term in terms:
            part = self._scaled(abs(term.coefficient), term.monomial)
            if result is None:
                result = Unary("-", part) if term.coefficient < 0 else part
            else:
                result = Binary("-" if term.coefficient < 0 else "+", result, part)
        return result if result is not None else Number("0")

    def _scaled(self, coefficient: Fraction, monomial: Node) -> Expr:
        if monomial is core.ONE:
            return _rational(coefficient)
        return self._quotient(coefficient, product_of(monomial).above, product_of(monomial).below)

    def _product(self, node: core.Map) -> Expr:
        view = product_of(node)
        if node.function == "div" and number(node.arguments[1]) == 0:
            return Binary("/", self._part(node.arguments[0]), Number("0"))
        body = self._quotient(abs(view.coefficient), view.above, view.below)
        return Unary("-", body) if view.coefficient < 0 else body

    def _quotient(self, coefficient: Fraction, above: Iterable[Node], below: Iterable[Node]) -> Expr:
        upper = [self._part(factor) for factor in above]
        lower = [self._part(factor) for factor in below]
        if coefficient.denominator != 1 and not _is_decimal(coefficient):
            lower.insert(0, Number(str(coefficient.denominator)))
            coefficient = Fraction(coefficient.numerator)
        if coefficient != 1 or not upper:
            upper.insert(0, _rational(coefficient))
        result = _chain(upper)
        return Binary("/", result, _chain(lower)) if lower else result

    def _reduce(self, node: core.Reduce) -> Expr:
        if node.op == "sum" and node.where is None and all(axis.startswith("#") for axis in node.over):
            return self._call("total", (node.body,))
        selectors = [Selector("axis", axis) for axis in node.over]
        if node.groups is not None:
            label = self._part(node.groups[0])
            selectors = [Selector("by", axis, label) for axis in node.over]
        head = Bracket(Name(node.op), tuple(selectors), self._mask(node.where))
        if node.op == "count":
            return head
        arguments = [Argument(self._part(node.body))]
        if node.option is not None:
            option = self._part(node.option)
            arguments.append(Argument(option, None if node.op == "quantile" else "ddof"))
        return Call(head, tuple(arguments))

    def _along(self, node: core.Along) -> Expr:
        if node.new is not None:
            selector = Selector("rename", node.axis, new=node.new)
        elif node.by is not None:
            selector = Selector("by", node.axis, self._part(node.by))
        else:
            selector = Selector("axis", node.axis)
        arguments = [Argument(self._part(node.body))]
        if node.option is not None:
            arguments.append(Argument(self._part(node.option), "by" if node.op == "sort" else None))
        if node.fill is not None:
            arguments.append(Argument(self._part(node.fill), "fill"))
        return Call(Bracket(Name(node.op), (selector,), self._mask(node.where)), tuple(arguments))

    def _of_call(self, node: core.Call) -> Expr:
        if node.is_opaque:
            return opaque_call(node, self._part)
        names = node.names or ("",) * len(node.arguments)
        where = node.given("where")
        arguments = tuple(
            Argument(self._part(argument), name or None)
            for argument, name in zip(node.arguments, names, strict=True)
            if name != "where"
        )
        return Call(_bracketed(node, self._mask(where)), arguments)

    def _mask(self, mask: Node | None) -> Expr | None:
        return None if mask is None else self._part(mask)


def _bracketed(node: core.Call, where: Expr | None) -> Expr:
    """The function with the axes that its bracket names, of which the last may become a new one."""
    selectors = [Selector("axis", axis) for axis in node.order]
    new = [axis for axis in node.produced if axis not in node.order]
    if new and selectors:
        selectors[-1] = Selector("rename", node.order[-1], new=new[0])
    head = Name(node.function)
    return Bracket(head, tuple(selectors), where) if selectors or where is not None else head


def _chain(factors: list[Expr]) -> Expr:
    result = factors[0]
    for factor in factors[1:]:
        result = Binary("*", result, factor)
    return result


def _constant(node: core.Const) -> Expr:
    if isinstance(node.value, str):
        return Name(node.value)
    part = _rational(abs(node.value))
    return Unary("-", part) if node.value < 0 else part


def _is_decimal(value: Fraction) -> bool:
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1 and value.denominator <= 10**12


def _rational(value: Fraction) -> Expr:
    """A number of few digits as a decimal, any other as a quotient."""
    if value.denominator == 1:
        return Number(str(value.numerator))
    if not _is_decimal(value):
        return Binary("/", Number(str(value.numerator)), Number(str(value.denominator)))
    places = next(n for n in range(1, 40) if (value * 10**n).denominator == 1)
    digits = str((value * 10**places).numerator).rjust(places + 1, "0")
    return Number(f"{digits[:-places]}.{digits[-places:]}")
