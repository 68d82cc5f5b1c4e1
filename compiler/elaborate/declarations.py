"""Declared names as values: tensors, parameters, states and lets, each elaborated when it is first used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lossc.compiler import core
from lossc.compiler.elaborate.context import Context
from lossc.compiler.elaborate.types import read_type
from lossc.compiler.elaborate.variables import as_variable
from lossc.compiler.kinds import NUMBERS, REAL, Kind
from lossc.compiler.mentions import syntax_nodes
from lossc.compiler.symbols import ValueSymbol
from lossc.compiler.values import WRONG, Value
from lossc.grammar import syntax
from lossc.grammar.diagnostics import Note


def value_of(ctx: Context, symbol: ValueSymbol) -> Value:
    """The value of a declared name; a cycle of lets is reported where it closes."""
    session = ctx.session
    if symbol in session.values:
        return session.values[symbol]
    if symbol in session.open:
        cycle = [*session.open[session.open.index(symbol) :], symbol]
        path = " -> ".join(f"`{link.name}`" for link in cycle)
        notes = [Note(f"`{link.name}` is declared here", link.span) for link in cycle[:-1]]
        session.values[symbol] = WRONG
        return ctx.wrong("E106", f"`{symbol.name}` is defined by itself: {path}", symbol.span, notes=notes,
                         help="an equation over the steps before it is written with `scan`, `cumsum` or a `state`")  # fmt: skip
    session.open.append(symbol)
    inner = Context(session, symbol.frame)
    value = _declared(inner, symbol)
    session.open.pop()
    session.values.setdefault(symbol, value)
    return session.values[symbol]


def in_order(symbols: Iterable[ValueSymbol]) -> list[ValueSymbol]:
    """The symbols, each after those that its declaration uses, whatever their order in the file; cycles stay cycles.

    It does not recurse, so that a chain of any length can be evaluated one by one.
    """
    done: dict[ValueSymbol, None] = {}
    entered: set[ValueSymbol] = set()
    stack = [(symbol, False) for symbol in reversed(list(symbols))]
    while stack:
        symbol, expanded = stack.pop()
        if expanded:
            done[symbol] = None
        elif symbol not in entered:
            entered.add(symbol)
            stack.append((symbol, True))
            stack.extend((other, False) for other in _reads(symbol))
    return list(done)


def _reads(symbol: ValueSymbol) -> Iterator[ValueSymbol]:
    """The lets that a let uses; all other declarations are leaves of the graph."""
    if isinstance(symbol.declaration, syntax.Let):
        for node in syntax_nodes(symbol.declaration.value):
            other = symbol.frame.values.get(node.id) if isinstance(node, syntax.Name) else None
            if isinstance(other, ValueSymbol):
                yield other


def _declared(ctx: Context, symbol: ValueSymbol) -> Value:
    match symbol.declaration:
        case syntax.Let(value=expression):
            value = ctx.value(expression)
            if symbol in ctx.session.differentiated:
                value = as_variable(ctx.session, symbol.name, value)
            return value if value.wrong else Value(value.node, value.kind, value.present, symbol.span, term=value.term)
        case syntax.Tensor(type=type_, role=role):
            read = read_type(ctx, type_)
            if read is None:
                return WRONG
            kind, order = read
            node = core.Input(symbol.name, order, kind.name, kind.bounds, role == "data")
            return _value(ctx, node, kind, symbol)
        case syntax.Param(type=type_, role=role):
            read = read_type(ctx, type_)
            if read is None:
                return WRONG
            kind, order = read
            return _value(ctx, core.Param(symbol.name, role, order, kind.bounds), kind, symbol)
        case syntax.State(type=type_):
            read = read_type(ctx, type_)
            if read is None:
                return WRONG
            kind, order = read
            return _value(ctx, core.Param(symbol.name, "state", order, kind.bounds), kind, symbol)


def _value(ctx: Context, node: core.Node, kind: Kind, symbol: ValueSymbol) -> Value:
    if kind.name == "prob" and kind.axis:
        ctx.session.distributions[node] = kind.axis
    ctx.session.spans.setdefault(node, symbol.span)
    return Value(node, REAL if kind.name in NUMBERS else kind, None, symbol.span)
