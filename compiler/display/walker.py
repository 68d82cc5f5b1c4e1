"""Walking an expression: what binds how tightly, what needs brackets, what stands under a sum."""

from __future__ import annotations

from typing import Protocol

from lossc.compiler.builtins import REDUCTIONS, SEARCHES
from lossc.compiler.primitives import PRIMITIVES
from lossc.grammar.syntax import (
    Argument,
    AxisConstant,
    Binary,
    Bracket,
    Call,
    Compare,
    Expr,
    IfElse,
    Name,
    Number,
    Selector,
    Unary,
)

CHOICE, OR, AND, NOT, RELATION, SUM, PRODUCT, SIGN, POWER, ATOM = range(10)
_BINDS = {"or": OR, "and": AND, "+": SUM, "-": SUM, "*": PRODUCT, "/": PRODUCT, "^": POWER}

UNDER_AXES = frozenset((*REDUCTIONS, *SEARCHES))
"""Functions whose axes stand below them: `mean_b`."""


class Notation(Protocol):
    """How the pieces look; every argument is text already."""

    def number(self, digits: str) -> str: ...
    def name(self, identifier: str, primes: int) -> str: ...
    def brackets(self, inner: str) -> str: ...
    def infix(self, op: str) -> str: ...
    def times(self, left: str, right: str) -> str: ...
    def fraction(self, above: str, below: str) -> str: ...
    def power(self, base: str, exponent: str) -> str: ...
    def negated(self, op: str, inner: str) -> str: ...
    def choice(self, then: str, condition: str, otherwise: str) -> str: ...
    def under(self, op: str, limits: str, body: str) -> str: ...
    def operator(self, name: str, axes: str) -> str: ...
    def subscript(self, base: str, index: str) -> str: ...
    def primitive(self, name: str, arguments: list[str]) -> str | None: ...
    def special(self, name: str, axes: str, arguments: list[str]) -> str | None: ...
    def such_that(self, axes: str, condition: str) -> str: ...
    def arrow(self, left: str, right: str) -> str: ...
    def applied(self, function: str, arguments: str) -> str: ...

    fractions_bracket: bool
    """Whether a fraction separates its parts by itself, so that they need no brackets."""


class Walker:
    """Prints expressions in one notation."""

    def __init__(self, notation: Notation) -> None:
        self.notation = notation

    def text(self, expression: Expr, least: int = CHOICE) -> str:
        """The expression, in brackets where it binds less tightly than its place asks for."""
        text = self._text(expression)
        return self.notation.brackets(text) if binding(expression, self.notation) < least else text

    def _text(self, expression: Expr) -> str:
        match expression:
            case Number(text=digits):
                return self.notation.number(digits)
            case Name(id=identifier, primes=primes):
                return self.notation.name(identifier, primes)
            case Unary(op="not", operand=operand):
                return self.notation.negated("not", self.text(operand, NOT))
            case Unary(op=op, operand=operand):
                return self.notation.negated(op, self.text(operand, PRODUCT))
            case Binary():
                return self._binary(expression)
            case Compare(ops=ops, operands=operands):
                parts = [self.text(operand, SUM) for operand in operands]
                links = (f"{self.notation.infix(op)}{part}" for op, part in zip(ops, parts[1:], strict=True))
                return parts[0] + "".join(links)
            case IfElse(then=then, condition=condition, otherwise=otherwise):
                return self.notation.choice(self.text(then, OR), self.text(condition, OR), self.text(otherwise, CHOICE))
            case Call():
                return self._call(expression)
            case Bracket():
                return self._bracket(expression)
            case AxisConstant(axis=axis, entries=entries):
                inner = ", ".join(
                    f"{self.notation.name(name, 0)}{self.notation.infix(':')}{self.text(value)}"
                    for name, value in entries
                )
                return self.notation.subscript(self.notation.brackets(inner), self.notation.name(axis, 0))

    def _binary(self, expression: Binary) -> str:
        op, left, right = expression.op, expression.left, expression.right
        if op == "/" and self.notation.fractions_bracket:
            return self.notation.fraction(self.text(left), self.text(right))
        if op == "^":
            return self.notation.power(self.text(left, ATOM), self.text(right))
        level = _BINDS[op]
        first = SUM if _leads_with_sign(left, self.notation) else PRODUCT
        if op == "*":
            return self.notation.times(self.text(left, first), self.text(right, SIGN))
        if op == "/":
            return self.notation.fraction(self.text(left, first), self.text(right, POWER))
        return f"{self.text(left, level)}{self.notation.infix(op)}{self.text(right, level + 1)}"

    def _call(self, expression: Call) -> str:
        match expression.function:
            case Name(id=name, primes=0):
                plain = self._plain_call(name, expression.arguments)
                if plain is not None:
                    return plain
            case Bracket(head=Name(id="worst"), selectors=selectors) if len(expression.arguments) == 2:
                return self._at_worst(expression, selectors)
            case Bracket(head=Name(id=name), selectors=selectors, where=where) if name in UNDER_AXES:
                return self._reduction(name, self._limits(selectors, where), expression.arguments)
            case Bracket(head=Name(id=name), selectors=selectors, where=where):
                axes = self._limits(selectors, where)
                given = [self._argument(argument) for argument in expression.arguments]
                special = self.notation.special(name, axes, given)
                return special or self.notation.applied(self.notation.operator(name, axes), ", ".join(given))
        inner = ", ".join(self._argument(argument) for argument in expression.arguments)
        function = expression.function
        head = self._function(function) if isinstance(function, Name) else self.text(function, ATOM)
        return self.notation.applied(head, inner)

    def _function(self, name: Name) -> str:
        return self.notation.operator(name.id + "'" * name.primes, "")

    def _plain_call(self, name: str, arguments: tuple[Argument, ...]) -> str | None:
        """A primitive in its own notation; an argument is bracketed where the notation does not set it off."""
        if name not in PRIMITIVES or any(argument.name or argument.to for argument in arguments):
            return None
        least = PRODUCT if name == "xlogy" else CHOICE
        return self.notation.primitive(name, [self.text(argument.value, least) for argument in arguments])

    def _reduction(self, name: str, limits: str, arguments: tuple[Argument, ...]) -> str:
        options = [self._argument(argument) for argument in arguments[1:]]
        if not arguments:
            return self.notation.operator(name, limits)
        body = self.text(arguments[0].value, PRODUCT if name in ("sum", "prod") else CHOICE)
        if options:
            return self.notation.applied(self.notation.operator(name, limits), ", ".join([body, *options]))
        return self.notation.under(name, limits, body)

    def _at_worst(self, expression: Call, selectors: tuple[Selector, ...]) -> str:
        """`worst[delta : …](u, at = w)`: w at the maximiser of u, which is that itself where w is delta."""
        searched, at = (argument.value for argument in expression.arguments)
        place = self.notation.under("argmax", self._limits(selectors, None), self.text(searched))
        variable = Name(selectors[0].name)
        if at == variable:
            return place
        found = f"{self.text(variable)}{self.notation.infix('=')}{place}"
        return self.notation.subscript(self.notation.brackets(self.text(at)), found)

    def _argument(self, argument: Argument) -> str:
        value = self.text(argument.value)
        if argument.to is not None:
            value = self.notation.arrow(value, self.text(argument.to))
        return f"{self.notation.name(argument.name, 0)}{self.notation.infix('=')}{value}" if argument.name else value

    def _bracket(self, expression: Bracket) -> str:
        match expression:
            case Bracket(head=Name(id="index" | "size" | "count" as name), selectors=selectors, where=where):
                return self.notation.special(name, self._limits(selectors, where), []) or ""
        index = ", ".join(self._index(selector) for selector in expression.selectors)
        return self.notation.subscript(self.text(expression.head, ATOM), index)

    def _index(self, selector: Selector) -> str:
        if selector.form == "at" and isinstance(selector.value, Name | Number):
            return self.text(selector.value)
        return self._selector(selector)

    def _limits(self, selectors: tuple[Selector, ...], where: Expr | None) -> str:
        axes = ", ".join(self._selector(selector) for selector in selectors)
        return axes if where is None else self.notation.such_that(axes, self.text(where))

    def _selector(self, selector: Selector) -> str:
        name = self.notation.name(selector.name, 0)
        value = self.text(selector.value) if selector.value is not None else ""
        if selector.upper is not None:
            value = f"{value}..{self.text(selector.upper)}"
        match selector.form:
            case "at" | "slice":
                return f"{name}{self.notation.infix('=')}{value}"
            case "rename":
                renamed = self.notation.arrow(name, self.notation.name(selector.new or "", 0))
                return f"{renamed}{self.notation.infix('=')}{value}" if value else renamed
            case "typed" if selector.type is not None and isinstance(selector.type.within, Call):
                return f"{name}{self.notation.infix('range')}{self.text(selector.type.within)}"
            case "by" | "range":
                return f"{name}{self.notation.infix(selector.form)}{value}"
        return name


def _leads_with_sign(expression: Expr, notation: Notation) -> bool:
    """Whether the text of a product begins with its sign, as in `-a * b`."""
    match expression:
        case Unary(op="-" | "+"):
            return True
        case Binary(op="*", left=left):
            return _leads_with_sign(left, notation)
        case Binary(op="/", left=left):
            return not notation.fractions_bracket and _leads_with_sign(left, notation)
    return False


def binding(expression: Expr, notation: Notation) -> int:
    """How tightly the outermost operator of an expression binds."""
    if _leads_with_sign(expression, notation):
        return SUM
    match expression:
        case IfElse():
            return CHOICE
        case Binary(op="/") if notation.fractions_bracket:
            return SIGN
        case Binary(op=op):
            return _BINDS[op]
        case Compare():
            return RELATION
        case Unary(op=op):
            return NOT if op == "not" else SUM
        case Call(function=Bracket(head=Name(id="sum" | "prod"))):
            return PRODUCT
        case Call(function=Name(id="xlogy" | "mod")):
            return PRODUCT
        case Call(function=Name(id="exp" | "expm1")) if notation.fractions_bracket:
            return POWER if expression.function.id == "exp" else SUM  # type: ignore[union-attr]
        case Call(function=Name(id="log" | "log2" | "sin" | "cos" | "tan" | "tanh" | "arcsin" | "arccos" | "arctan")):
            return POWER
    return ATOM
