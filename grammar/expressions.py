"""Printing expressions and kinds, with as few parentheses as their meaning needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from lossc.grammar import syntax
from lossc.grammar.pretty import LINE, Doc, Group, Nest, enclosed, flat, join
from lossc.grammar.syntax import Expr, Selector, Type
from lossc.grammar.tokens import quoted

_CHOICE, _OR, _AND, _NOT, _COMPARISON, _SUM, _PRODUCT, _SIGN, _POWER, _POSTFIX = range(10)
"""How tightly each form binds, loosest first."""

_BINDING: Final = {"or": _OR, "and": _AND, "+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "^": _POWER}


def print_expr(expression: Expr) -> str:
    """An expression on one line."""
    return flat(expr_doc(expression))


def print_type(kind: Type) -> str:
    """A kind on one line."""
    return flat(type_doc(kind))


def expr_doc(expression: Expr, least: int = _CHOICE) -> Doc:
    """An expression in a place that holds what binds at least as tightly as `least`."""
    doc = _doc(expression)
    return enclosed("(", [doc], ")") if _binding(expression) < least else doc


def _binding(expression: Expr) -> int:
    match expression:
        case syntax.IfElse():
            return _CHOICE
        case syntax.Binary(op=op):
            return _BINDING[op]
        case syntax.Unary(op=op):
            return _NOT if op == "not" else _SIGN
        case syntax.Compare():
            return _COMPARISON
        case _:
            return _POSTFIX


def _doc(expression: Expr) -> Doc:
    match expression:
        case syntax.Number(text=text):
            return text
        case syntax.Name(id=id, primes=primes):
            return id + "'" * primes
        case syntax.Unary(op=op, operand=operand):
            return ("not ", expr_doc(operand, _NOT)) if op == "not" else (op, expr_doc(operand, _SIGN))
        case syntax.Binary(op="^", left=left, right=right):
            return expr_doc(left, _POSTFIX), "^", expr_doc(right, _SIGN)
        case syntax.Binary():
            return _chain_doc(expression)
        case syntax.Compare(ops=ops, operands=operands):
            first, *others = (expr_doc(operand, _SUM) for operand in operands)
            return _broken_before(first, zip(ops, others, strict=True))
        case syntax.IfElse():
            return _choice_doc(expression)
        case syntax.Call(function=function, arguments=arguments):
            return expr_doc(function, _POSTFIX), enclosed(
                "(", map(_argument_doc, arguments), ")"
            ) if arguments else "()"
        case syntax.Bracket(head=head):
            return expr_doc(head, _POSTFIX), _selectors_doc(expression)
        case syntax.AxisConstant(axis=axis, entries=entries):
            return axis, enclosed("{", ((name, ": ", expr_doc(value)) for name, value in entries), "}")


def _chain_doc(expression: syntax.Binary) -> Doc:
    """`a + b - c`: the operands of one level of binding, each on a line of its own where they do not fit."""
    level = _BINDING[expression.op]
    others: list[tuple[str, Doc]] = []
    first: Expr = expression
    while isinstance(first, syntax.Binary) and _BINDING[first.op] == level:
        others.insert(0, (first.op, expr_doc(first.right, level + 1)))
        first = first.left
    return _broken_before(expr_doc(first, level), others)


def _choice_doc(expression: syntax.IfElse) -> Doc:
    """`a if b else c if d else e`: each `else` on a line of its own where they do not fit."""
    cases: list[Doc] = []
    rest: Expr = expression
    while isinstance(rest, syntax.IfElse):
        cases.append((expr_doc(rest.then, _OR), " if ", expr_doc(rest.condition, _OR)))
        rest = rest.otherwise
    return _broken_before(cases[0], [("else", case) for case in [*cases[1:], expr_doc(rest)]])


def _broken_before(first: Doc, others: Iterable[tuple[str, Doc]]) -> Doc:
    return Group((first, Nest(2, tuple((LINE, op, " ", doc) for op, doc in others))))


def _argument_doc(argument: syntax.Argument) -> Doc:
    value = expr_doc(argument.value)
    if argument.to is not None:
        return value, " -> ", expr_doc(argument.to)
    return value if argument.name is None else (argument.name, " = ", value)


def _selectors_doc(bracket: syntax.Bracket) -> Doc:
    parts = [_selector_doc(selector) for selector in bracket.selectors]
    if bracket.where is not None:
        parts[-1] = (parts[-1], LINE, "where ", expr_doc(bracket.where))
    return enclosed("[", parts, "]")


def _selector_doc(selector: Selector) -> Doc:
    head: Doc = selector.name
    if selector.new is not None:
        head = (selector.name, " -> ", selector.new)
    if selector.type is not None:
        return head, " : ", type_doc(selector.type)
    if selector.value is None:
        return head
    sign = {"by": " by ", "range": " in "}.get(selector.form, " = ")
    value = expr_doc(selector.value)
    return (head, sign, value) if selector.upper is None else (head, sign, value, "..", expr_doc(selector.upper))


def type_doc(kind: Type) -> Doc:
    if kind.kind == "choice":
        return enclosed("{", kind.choices, "}")
    if kind.result is not None:
        return "model", enclosed("(", map(type_doc, kind.parameters), ")"), " -> ", type_doc(kind.result)
    axes = f"[{', '.join(kind.axes)}]" if kind.axes is not None else ""
    return kind.kind + axes, _within_doc(kind)


def _within_doc(kind: Type) -> Doc:
    match kind.within:
        case None:
            return ""
        case str() as name:
            return f" in {name}"
        case syntax.Pattern(text=text):
            return f" in {quoted(text)}"
        case syntax.Call() as call:
            return " in ", _doc(call)
        case (low, high):
            return " in [", expr_doc(low), ", ", expr_doc(high), "]"


def formal_doc(formal: syntax.Formal) -> Doc:
    name = formal.name if formal.type is None else (formal.name, " : ", type_doc(formal.type))
    match formal.default:
        case None:
            return name
        case syntax.From(name=source):
            return name, " = from ", source
        case default:
            return name, " = ", expr_doc(default)


def signature_doc(name: str, formals: tuple[syntax.Formal, ...], result: Type | None) -> Doc:
    arguments = enclosed("(", map(formal_doc, formals), ")") if formals else "()"
    return (name, arguments) if result is None else (name, arguments, " -> ", type_doc(result))


def formals_doc(formals: tuple[syntax.Formal, ...]) -> Doc:
    """`c : real, z, y` without brackets."""
    return Group(Nest(2, join((",", LINE), map(formal_doc, formals))))
