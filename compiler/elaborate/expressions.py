"""The form of an expression decides which rules apply; this file only dispatches and looks names up."""

from __future__ import annotations

from fractions import Fraction

from lossc.compiler import core
from lossc.compiler.builtins import ALONG, BUILT_IN, LINEAR, REDUCTIONS, RUN_VALUES, SEARCHES
from lossc.compiler.elaborate import (
    along,
    arithmetic,
    derivatives,
    folds,
    leaves,
    linear,
    models,
    reductions,
    searches,
    selections,
    special,
    terms,
)
from lossc.compiler.elaborate.context import Context, axes_text
from lossc.compiler.elaborate.declarations import value_of
from lossc.compiler.elaborate.run_values import run_value
from lossc.compiler.elaborate.signature import match_arguments
from lossc.compiler.elaborate.unknown import unknown_function, unknown_value
from lossc.compiler.primitives import FUNCTIONS
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
            return arithmetic.logical_not(ctx.alone(), expr)
        case syntax.Unary():
            return arithmetic.negate(ctx, expr)
        case syntax.Binary():
            return _chain(ctx, expr)
        case syntax.Compare():
            return arithmetic.compare(ctx.alone(), expr)
        case syntax.IfElse():
            return arithmetic.if_else(ctx, expr)
        case syntax.AxisConstant():
            return selections.axis_constant(ctx, expr)
        case syntax.Bracket():
            return _bracket(ctx, expr)
        case syntax.Call():
            return _call(ctx if _passes_infinity(ctx, expr) else ctx.alone(), expr)


def _passes_infinity(ctx: Context, call: syntax.Call) -> bool:
    """Whether a call is a logarithm, or leaves one as it is: times 0 that is 0, as of no other function."""
    head = call.function
    return isinstance(head, syntax.Name) and head.id in ("log", "log2", "log1p", "sg") and head.id not in ctx.frame.terms


def _chain(ctx: Context, expr: syntax.Binary) -> Value:
    """A chain of operators of one precedence, walked along its left spine: sums may be long."""
    links: list[syntax.Binary] = []
    left: syntax.Expr = expr
    while isinstance(left, syntax.Binary) and left.op in _CHAINS.get(expr.op, (expr.op,)) and expr.op != "^":
        links.append(left)
        left = left.left
    if not links:
        links, left = [expr], expr.left
    inner = _times_names(ctx, links)
    value = inner.value(left)
    for link in reversed(links):
        right = _after(inner, link, value).value(link.right)
        value = WRONG if value.wrong or right.wrong else _operate(ctx, value, right, link)
        if not value.wrong:
            ctx.session.spans.setdefault(value.node, link.span)
    return value


def _times_names(ctx: Context, links: list[syntax.Binary]) -> Context:
    """The context of the operands of a chain: in `log(p) * p` the logarithm is not reached where p is 0."""
    if links[0].op not in "+-*/":
        return ctx.alone()
    names = [link.right for link in links if link.op == "*" and isinstance(link.right, syntax.Name)]
    values = (name(ctx, each) for each in names if each.id in ctx.frame.values)
    return ctx.times(*(value.node for value in values if not value.wrong))


def _after(ctx: Context, link: syntax.Binary, left: Value) -> Context:
    """The context of the right operand, behind the left: in `p * log(p)` the logarithm is not reached where p is 0."""
    if link.op == "/":
        return ctx.alone()
    return ctx.times(left.node) if link.op == "*" and not left.wrong else ctx


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
    if expr.id in RUN_VALUES:
        return run_value(expr.id)
    term = ctx.frame.terms.get(expr.id)
    if term is not None:
        term.used = True
        return Value(core.ZERO, terms.TERM, declared=term.span, term=term)
    if expr.id in FUNCTIONS:
        return Value(core.ZERO, terms.TERM, term=terms.built_in(ctx, expr.id))
    return unknown_value(ctx, expr)


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
        return derivatives.derivative_call(ctx, head, expr)
    given = ctx.frame.values.get(head.id)
    if isinstance(given, Value) and given.term is not None:
        return terms.call(ctx, given.term, bracket, expr)
    term = ctx.frame.terms.get(head.id)
    if term is not None:
        return terms.call(ctx, term, bracket, expr)
    if isinstance(given, ValueSymbol) and _is_model(given):
        given.used = True
        given = value_of(ctx, given)
    if isinstance(given, Value) and given.kind.name == "model" and bracket is not None:
        return ctx.wrong("E306", f"the model `{head.id}` takes no axes", bracket.span, help=f"write `{head.id}(…)`")
    if isinstance(given, Value) and given.kind.name == "model":
        return models.model_call(ctx, head.id, given, expr)
    return _built_in(ctx, head, bracket, expr)


def _is_model(symbol: ValueSymbol) -> bool:
    return isinstance(symbol.declaration, syntax.Tensor) and symbol.declaration.type.kind == "model"


def _built_in(ctx: Context, head: syntax.Name, bracket: syntax.Bracket | None, expr: syntax.Call) -> Value:
    if head.id in ctx.session.unread.functions:
        return WRONG
    if head.id not in BUILT_IN:
        return unknown_function(ctx, head, expr)
    if head.id == "fold" or (head.id == "scan" and folds.carries(bracket)):
        return folds.recurrence(ctx, head.id, bracket, expr)
    if bracket is None:
        if head.id in FUNCTIONS:
            return _elementwise(ctx, head.id, expr)
        if head.id in (*REDUCTIONS, *ALONG, *LINEAR, *SEARCHES):
            return _without_axes(ctx, head, expr)
        return special.plain(ctx, head.id, expr)
    if leaves.is_of_leaves(ctx, head.id, bracket):
        return leaves.leafwise(ctx, head.id, bracket, expr)
    if head.id in REDUCTIONS:
        return reductions.reduction(ctx, head.id, bracket, expr)
    if head.id in ALONG:
        return along.along(ctx, head.id, bracket, expr)
    if head.id in LINEAR:
        return linear.linear(ctx, head.id, bracket, expr)
    if head.id in SEARCHES:
        return searches.search(ctx, head.id, bracket, expr)
    return ctx.wrong("E306", f"`{head.id}` works entry by entry and takes no axes", bracket.span,
                     help=f"write `{head.id}(…)`")  # fmt: skip


def _elementwise(ctx: Context, function: str, expr: syntax.Call) -> Value:
    arguments = _placed(ctx, function, expr)
    if arguments is None:
        return WRONG
    values = [ctx.alone().value(argument.value) for argument in arguments]
    if any(value.wrong for value in values):
        return WRONG
    return arithmetic.elementwise(ctx, function, values, arguments)


def _without_axes(ctx: Context, head: syntax.Name, expr: syntax.Call) -> Value:
    """`mean(x)`: which axes is never guessed; the help shows those that the argument has."""
    values = [ctx.value(argument.value) for argument in expr.arguments]
    first = values[0] if values and not values[0].wrong else None
    axes = first.axes if first is not None else frozenset()
    if head.id in ALONG and first is not None and first.kind.axis is not None:
        axes = frozenset((first.kind.axis,))
    named = axes_text(ctx, axes) if axes else "v"
    return ctx.wrong("E308", f"`{head.id}` needs the axes that it works on", head.span,
                     help=f"name them: `{head.id}[{named}](…)`")  # fmt: skip


def _placed(ctx: Context, function: str, expr: syntax.Call) -> tuple[syntax.Argument, ...] | None:
    """The arguments by position; only the bounds of `clip(x, lo = -1, hi = 1)` have names."""
    names = ("x", "lo", "hi") if function == "clip" else ()
    for argument in expr.arguments:
        if argument.to is not None:
            ctx.wrong("E210", f"`->` has no meaning in a call of `{function}`", argument.span)
            return None
        if argument.name is not None and not names:
            ctx.wrong("E202", f"the arguments of `{function}` have no names", argument.span)
            return None
    arity, number = FUNCTIONS[function].arity, len(expr.arguments)
    if number != arity if arity is not None else number < 2:
        wanted = f"{arity} argument{'s' * (arity != 1)}" if arity is not None else "two arguments or more"
        hint = f"to reduce over an axis write `{function}[v](x)`" if function in REDUCTIONS else ""
        given = "1 is given" if number == 1 else f"{number} are given"
        ctx.wrong("E201", f"`{function}` takes {wanted}, and {given}", expr.span, help=hint)
        return None
    if not names:
        return expr.arguments
    placed = match_arguments(ctx, function, expr, names)
    return tuple(placed[name] for name in names) if placed is not None else None
