"""`f'(u)`: the symbolic derivative of a term of the language with respect to its first argument."""

from __future__ import annotations

from dataclasses import replace

from lossc.compiler import core
from lossc.compiler import intervals as iv
from lossc.compiler.elaborate.context import Context, declared_note
from lossc.compiler.elaborate.terms import ABSTRACT, built_in, call
from lossc.compiler.elaborate.types import read_type
from lossc.compiler.intervals import Interval
from lossc.compiler.kinds import NUMBERS, REAL
from lossc.compiler.mentions import formal_axes
from lossc.compiler.primitives import PRIMITIVES
from lossc.compiler.symbols import Frame, TermSymbol
from lossc.compiler.values import WRONG, Value
from lossc.grammar import syntax

MAX_ORDER = 6
"""The most primes: each derivative is several times as long as what it is of."""


def derivative_call(ctx: Context, head: syntax.Name, expr: syntax.Call) -> Value:
    """`f'(u, …)`: the derivative of a term with respect to its first argument, at u and the other arguments."""
    from lossc.compiler.derivative import cancelled, derivative

    given = ctx.frame.values.get(head.id)
    term = given.term if isinstance(given, Value) else ctx.frame.terms.get(head.id)
    if term is None:
        term = built_in(ctx, head.id) if head.id in PRIMITIVES else None
    if term is None:
        return ctx.wrong("E107", f"there is no term `{head.id}` to differentiate", head.span)
    if not expr.arguments or expr.arguments[0].name is not None or formal_axes(term.declaration):
        return ctx.wrong("E210", f"`{head.id}'` is the derivative of a term without axes by its first argument", expr.span,
                         notes=declared_note(Value(core.ZERO, declared=term.span)))  # fmt: skip
    if head.primes > MAX_ORDER:
        return ctx.wrong("E505", f"a derivative of order {head.primes} is too long to write out", expr.span,
                         help=f"the order is at most {MAX_ORDER}")  # fmt: skip
    values = [ctx.value(argument.value) for argument in expr.arguments]
    if any(value.wrong for value in values):
        return WRONG
    at = values[0]
    if term is ABSTRACT:
        return Value(core.Call("abstract", (at.node,)), REAL, at.present)
    unknown = core.Input("'", tuple(sorted(at.axes)), "real", _promised(ctx, term, at))
    names = [f"{number}'" for number in range(len(values))]
    known = dict(zip(names, [Value(unknown), *values[1:]], strict=True))
    frame = Frame("term", own=False, values={**known}, terms={head.id: term}, objective=ctx.session.top)
    arguments = tuple(
        replace(argument, value=syntax.Name(name, span=argument.value.span))
        for name, argument in zip(names, expr.arguments, strict=True)
    )
    inner = ctx.inside(frame, quiet=True)
    value = call(inner, term, None, syntax.Call(syntax.Name(head.id), arguments, span=expr.span))
    if value.wrong:
        return WRONG
    node = value.node
    for _ in range(head.primes):
        node = derivative(node, unknown)
    node = cancelled(node)  # before an exp is put in
    present = core.all_of(*(value.present for value in values))
    return Value(core.substitute(node, {unknown: at.node}), REAL, present)


def _promised(ctx: Context, term: TermSymbol, at: Value) -> Interval:
    """The domain of a term's first argument: that of its signature if it lies within the value's, otherwise the value's."""
    type_ = term.declaration.formals[0].type if term.declaration.formals else None
    read = read_type(ctx, type_) if type_ is not None else None
    stated = read[0].bounds if read is not None and read[0].name in NUMBERS else iv.REAL
    return stated if stated.within(at.node.domain) else at.node.domain
