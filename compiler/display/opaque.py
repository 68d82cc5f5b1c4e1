"""Calls that bind a variable or run the caller's code, as a reader would write them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lossc.compiler import core
from lossc.compiler.core import Local, Node
from lossc.grammar.syntax import Argument, Bracket, Call, Expr, Name, Number, Selector, Type

Part = Callable[[Node], Expr]


def opaque_call(node: core.Call, part: Part) -> Expr:
    """The expression of a call of a model or extern, of a gradient, or of a search."""
    if node.function.startswith("leaf:"):
        return _leafwise(node, part)
    match node.function:
        case "model":
            return _applied(node, part)
        case "extern":
            return Call(Name(str(node.options[0])), tuple(Argument(part(argument)) for argument in node.arguments))
        case "grad":
            body, variable, *_ = node.arguments
            return _over(node, (Selector("axis", _name(variable)),), part(body))
        case "worst":
            return _over(replace(node, function="argmax"), _ball(node, part), part(node.arguments[0]))
        case "root":
            body, variable, low, high = node.arguments
            return _over(node, (Selector("range", _name(variable), part(low), part(high)),), part(body))
        case "fold":
            return _fold(node, part)
    return Call(Name(node.function), tuple(Argument(part(argument)) for argument in node.arguments))


def _applied(node: core.Call, part: Part) -> Expr:
    function, *arguments = node.arguments
    return Call(Name(_name(function)), tuple(Argument(part(argument)) for argument in arguments))


def _leafwise(node: core.Call, part: Part) -> Expr:
    op = node.function.removeprefix("leaf:")
    body = part(node.arguments[0])
    if op == "spread":
        return body
    where = node.given("where")
    entry: tuple[Selector, ...] = (Selector("axis", "entry"),)
    if op == "svdvals":
        entry = (Selector("axis", "row"), Selector("rename", "column", new=node.produced[-1]))
    head = Bracket(Name(op), entry, None if where is None else part(where))
    return Call(head, (Argument(body),))


def _over(node: core.Call, selectors: tuple[Selector, ...], body: Expr) -> Expr:
    return Call(Bracket(Name(node.function), selectors), (Argument(body),))


def _fold(node: core.Call, part: Part) -> Expr:
    """`fold[t, a : real[s] where m](next, start)` or such a `scan`, where a step that is not admitted changes nothing."""
    body, variable, start, _ = node.arguments
    t, *order = node.order
    where = None
    if isinstance(body, core.Map) and body.function == "where" and body.arguments[2] is variable:
        condition, body, _ = body.arguments
        where = part(condition)
    carried = Selector("typed", _name(variable), type=Type("real", tuple(order) or None))
    function = Name("scan" if t in node.produced else "fold")
    return Call(Bracket(function, (Selector("axis", t), carried), where), (Argument(part(body)), Argument(part(start))))


def _ball(node: core.Call, part: Part) -> tuple[Selector, ...]:
    """`delta : real[b, d] in ball(inf, eps), steps = 10`."""
    variable, radius = node.arguments[1], node.given("radius")
    norm = str(node.options[0])
    assert isinstance(variable, Local) and radius is not None
    inner = (Argument(Name(norm) if norm == "inf" else Number(norm)), Argument(part(radius)))
    ball = Call(Name("ball"), inner)
    options = [
        Selector("at", name, part(value))
        for name, value in zip(node.names, node.arguments, strict=True)
        if name not in ("", "radius")
    ]
    return (Selector("typed", variable.name, type=Type("real", variable.order, within=ball)), *options)


def _name(node: Node) -> str:
    return str(getattr(node, "name", "…"))
