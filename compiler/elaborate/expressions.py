"""The form of an expression decides which rules apply; this file only dispatches and looks names up."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from lossc.compiler import core
from lossc.compiler.elaborate import arithmetic, reductions, selections, special, terms
from lossc.compiler.elaborate.context import Context
from lossc.compiler.elaborate.declarations import value_of
from lossc.compiler.gather import ALONG, BUILT_IN, LINEAR, REDUCTIONS, SEARCHES
from lossc.compiler.primitives import FUNCTIONS
from lossc.compiler.suggest import did_you_mean, nearest
from lossc.compiler.symbols import ValueSymbol
from lossc.compiler.values import WRONG, Value
from lossc.grammar import syntax

_CHAINS = {"+": "+-", "-": "+-", "*": "*/", "/": "*/", "and": ("and",), "or": ("or",)}


def evaluate(ctx: Context, expr: syntax.Expr) -> Value:
    """The meaning of an expression in a frame; WRONG after a report."""
    match expr:
        case syntax.Number(text=text):
            return Value(core.Const(Fraction(text)))
        case syntax.Name():
            return name(ctx, expr)
        case syntax.Unary(op="not"):
            return arithmetic.logical_not(ctx, expr)
        case syntax.Unary():
            return arithmetic.negate(ctx, expr)
        case syntax.Binary():
            return _chain(ctx, expr)
        case syntax.Compare():
            return arithmetic.compare(ctx, expr)
        case syntax.IfElse():
            return arithmetic.if_else(ctx, expr)
        case syntax.AxisConstant():
            return selections.axis_constant(ctx, expr)
        case syntax.Bracket():
            return _bracket(ctx, expr)
        case syntax.Call():
            return _call(ctx, expr)


def _chain(ctx: Context, expr: syntax.Binary) -> Value:
    """A chain of operators of one precedence, walked along its left spine: sums may be long."""
    links: list[syntax.Binary] = []
    left: syntax.Expr = expr
    while isinstance(left, syntax.Binary) and left.op in _CHAINS.get(expr.op, (expr.op,)) and expr.op != "^":
        links.append(left)
        left = left.left
    if not links:
        links, left = [expr], expr.left
    value = ctx.value(left)
    for link in reversed(links):
        right = _after_factor(ctx, link, value).value(link.right)
        value = WRONG if value.wrong or right.wrong else _operate(ctx, value, right, link)
        if not value.wrong:
            ctx.session.spans.setdefault(value.node, link.span)
    return value


def _after_factor(ctx: Context, link: syntax.Binary, factor: Value) -> Context:
    """In `p * log(p)` the logarithm is not reached where p is 0."""
    if link.op == "*" and isinstance(link.right, syntax.Call) and not factor.wrong:
        factors = factor.node.arguments if isinstance(factor.node, core.Map) and factor.node.function == "mul" else ()
        return replace(ctx, nonzero=ctx.nonzero | {factor.node, *factors})
    return ctx


def _operate(ctx: Context, left: Value, right: Value, expr: syntax.Binary) -> Value:
    if expr.op in ("and", "or"):
        return arithmetic.logical(ctx, expr.op, left, right, expr)
    return arithmetic.arithmetic(ctx, expr.op, left, right, expr)


def name(ctx: Context, expr: syntax.Name) -> Value:
    """A name in the place of a value."""
    symbol = ctx.frame.values.get(expr.id)
    if isinstance(symbol, Value):
        return symbol
    if isinstance(symbol, ValueSymbol):
        symbol.used = True
        return value_of(ctx, symbol)
    constant = {"pi": core.PI, "inf": core.INFINITY}.get(expr.id)
    if constant is not None:
        return Value(constant)
    if expr.id in ("step", "progress"):
        return special.run_value(ctx, expr)
    term = ctx.frame.terms.get(expr.id)
    if term is not None:
        term.used = True
        return Value(core.ZERO, terms.TERM, declared=term.span, term=term)
    if expr.id in FUNCTIONS:
        return Value(core.ZERO, terms.TERM, term=terms.built_in(ctx, expr.id))
    return _unknown(ctx, expr)


def _unknown(ctx: Context, expr: syntax.Name) -> Value:
    if expr.id in BUILT_IN:
        return ctx.wrong("E207", f"`{expr.id}` is a function, not a value", expr.span, help=f"call it: `{expr.id}(…)`")
    axis = ctx.frame.axes.get(expr.id)
    if axis is not None:
        return ctx.wrong("E101", f"`{expr.id}` is an axis, not a value", expr.span,
                         help=f"`index[{expr.id}]` is the position along it, `size[{expr.id}]` its extent")  # fmt: skip
    if expr.id in ctx.session.unread:
        return WRONG
    known = [*ctx.frame.values, *ctx.frame.terms, "pi", "inf"]
    hints = list(did_you_mean(expr.id, known))
    if ctx.frame.kind == "term" and ctx.session.top.values.get(expr.id) is not None:
        hints.append(f"a term sees only its arguments: add `{expr.id}` to them")
    return ctx.wrong("E101", f"there is no value `{expr.id}`", expr.span, help=hints)


def _bracket(ctx: Context, expr: syntax.Bracket) -> Value:
    head = expr.head
    if isinstance(head, syntax.Name) and head.id not in ctx.frame.values and not head.primes:
        if head.id == "count":
            return reductions.count(ctx, expr)
        if head.id in ("index", "size"):
            return special.extent(ctx, head.id, expr)
        if head.id in BUILT_IN or head.id in ctx.frame.terms:
            return ctx.wrong("E207", f"`{head.id}[…]` is called with an argument", expr.span,
                             help=f"write `{head.id}[…](x)`")  # fmt: skip
    return selections.selection(ctx, expr)


def _call(ctx: Context, expr: syntax.Call) -> Value:
    bracket = expr.function if isinstance(expr.function, syntax.Bracket) else None
    head = bracket.head if bracket is not None else expr.function
    if not isinstance(head, syntax.Name):
        return ctx.wrong("E207", "only a name can be called", expr.function.span)
    if head.primes:
        return terms.derivative_call(ctx, head, expr)
    given = ctx.frame.values.get(head.id)
    if isinstance(given, Value) and given.term is not None:
        return terms.call(ctx, given.term, bracket, expr)
    term = ctx.frame.terms.get(head.id)
    if term is not None:
        return terms.call(ctx, term, bracket, expr)
    if isinstance(given, ValueSymbol) and special.is_model(given):
        return special.model_call(ctx, given, expr)
    return _built_in(ctx, head, bracket, expr)


def _built_in(ctx: Context, head: syntax.Name, bracket: syntax.Bracket | None, expr: syntax.Call) -> Value:
    if head.id not in BUILT_IN:
        return _unknown_function(ctx, head)
    if bracket is None:
        if head.id in FUNCTIONS:
            return _elementwise(ctx, head.id, expr)
        if head.id in (*REDUCTIONS, *ALONG, *LINEAR, *SEARCHES):
            return ctx.wrong("E308", f"`{head.id}` needs the axes that it works on", head.span,
                             help=f"write `{head.id}[v](…)`; nothing is reduced without its name")  # fmt: skip
        return special.plain(ctx, head.id, expr)
    if head.id in REDUCTIONS:
        return reductions.reduction(ctx, head.id, bracket, expr)
    if head.id in ALONG:
        return reductions.along(ctx, head.id, bracket, expr)
    if head.id in LINEAR:
        return special.linear(ctx, head.id, bracket, expr)
    if head.id in SEARCHES:
        return special.search(ctx, head.id, bracket, expr)
    return ctx.wrong("E306", f"`{head.id}` works entry by entry and takes no axes", bracket.span,
                     help=f"write `{head.id}(…)`")  # fmt: skip


def _unknown_function(ctx: Context, head: syntax.Name) -> Value:
    if head.id in ctx.frame.values:
        return ctx.wrong("E207", f"`{head.id}` is a value, and cannot be called", head.span,
                         help=f"a selection is written with brackets: `{head.id}[v = y]`; a product with `*`")  # fmt: skip
    if head.id in ctx.session.unread:
        return WRONG
    hints = list(did_you_mean(head.id, [*BUILT_IN, *ctx.frame.terms])) or _in_library(head.id)
    return ctx.wrong("E107", f"there is no term or function `{head.id}`", head.span, help=hints)


def _in_library(name: str) -> list[str]:
    """How to import the term of the library that has this name, or one like it."""
    from lossc.compiler.library import home_of, shipped_terms

    meant = name if name in shipped_terms() else nearest(name, shipped_terms())
    if meant is None:
        return []
    how = f"`use {home_of(meant)} ({meant})`"
    return [f"import it: {how}" if meant == name else f"did you mean `{meant}`? import it: {how}"]


def _elementwise(ctx: Context, function: str, expr: syntax.Call) -> Value:
    arity = FUNCTIONS[function].arity
    for argument in expr.arguments:
        if argument.name is not None or argument.to is not None:
            names = {"clip": ("x", "lo", "hi")}.get(function)
            if names is None or argument.to is not None:
                return ctx.wrong("E202", f"the arguments of `{function}` have no names", argument.span)
    number = len(expr.arguments)
    if number != arity if arity is not None else number < 2:
        wanted = str(arity) if arity is not None else "two or more"
        hint = f"to reduce over an axis write `{function}[v](x)`" if function in REDUCTIONS else ""
        return ctx.wrong("E201", f"`{function}` takes {wanted} argument{'s' * (arity != 1)}, and {number} are given",
                         expr.span, help=hint)  # fmt: skip
    values = [ctx.value(argument.value) for argument in _in_order(function, expr.arguments)]
    if any(value.wrong for value in values):
        return WRONG
    return arithmetic.elementwise(ctx, function, values, expr)


def _in_order(function: str, arguments: tuple[syntax.Argument, ...]) -> tuple[syntax.Argument, ...]:
    """`clip(x, lo = -1, hi = 1)`: the one function whose bounds are often named."""
    if function != "clip" or all(argument.name is None for argument in arguments):
        return arguments
    order = {"x": 0, "lo": 1, "hi": 2}
    return tuple(
        argument
        for _, argument in sorted(enumerate(arguments), key=lambda item: order.get(item[1].name or "", item[0]))
    )
