"""Named quantities by which some `grad[h](u)` differentiates.

Such a quantity is a variable while expressions are built from it, so that it is found whole in all of them: sums and
products are flattened, and `h + 1` would otherwise become one sum with the terms of h. Its definition is substituted
once all expressions are built.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from itertools import count
from typing import Any, TypeVar

from lossc.compiler import core
from lossc.compiler.core import Local, Map, Node
from lossc.compiler.elaborate.context import Session
from lossc.compiler.intervals import REAL, Interval
from lossc.compiler.mentions import syntax_nodes
from lossc.compiler.symbols import Frame, ValueSymbol
from lossc.compiler.values import Value
from lossc.grammar.syntax import Bracket, Let, Name

Record = TypeVar("Record")

_PROVISIONAL = count(1)
"""Sets variables apart whose depth is not known before their expression is."""


def unknown(name: str, order: tuple[str, ...], bounds: Interval) -> Local:
    """A fresh variable, equal to no other."""
    return Local(name, -next(_PROVISIONAL), order, replace(bounds, integer=False))


def differentiated_names(root: object) -> Iterator[str]:
    """The names x of every `grad[x]` in a syntax tree."""
    for node in syntax_nodes(root):
        if isinstance(node, Bracket) and isinstance(node.head, Name) and node.head.id == "grad":
            yield from (selector.name for selector in node.selectors)


def differentiated(frame: Frame, items: Iterable[object]) -> set[ValueSymbol]:
    """The lets by which items of a file, or lets that these use, differentiate."""
    readers: list[tuple[Frame, object]] = [(frame, item) for item in items]
    lets = [symbol for symbol in frame.values.values() if isinstance(symbol, ValueSymbol)]
    readers += [(symbol.frame, symbol.declaration) for symbol in lets if isinstance(symbol.declaration, Let)]
    found = (reader.values.get(name) for reader, item in readers for name in differentiated_names(item))
    return {symbol for symbol in found if isinstance(symbol, ValueSymbol) and isinstance(symbol.declaration, Let)}


def as_variable(session: Session, name: str, value: Value) -> Value:
    """The value as a variable, unless it is a leaf or not a number.

    A constant becomes one too, since equal constants are one node.
    """
    leaf = isinstance(value.node, core.Input | core.Param | Local)
    if leaf or value.wrong or value.term is not None or value.kind.name in ("label", "mask", "model", "choice"):
        return value
    bounds = value.node.domain
    variable = unknown(name, tuple(sorted(value.axes)), REAL if bounds.lo == bounds.hi else bounds)
    session.pending[variable] = value.node
    if value.node in session.distributions:
        session.distributions[variable] = session.distributions[value.node]
    return replace(value, node=variable)


def settled(session: Session, node: Node, before: int = 0) -> Node:
    """The graph with these variables replaced by their definitions, except for the first `before`."""
    pending = dict(list(session.pending.items())[before:])
    while any(part in pending for part in core.walk(node)):
        node = core.rewrite(node, lambda part: _flat(pending.get(part, part)))
    return node


def exposed(session: Session, node: Node, of: Node) -> Node:
    """The graph where those variables are replaced by their definitions through which it depends on another variable."""
    pending = session.pending

    def through(part: Node) -> bool:
        return part in pending and part is not of and _reaches(session, pending[part], of)

    while any(through(part) for part in core.walk(node)):
        node = core.rewrite(node, lambda part: _flat(pending[part] if through(part) else part))
    return node


def _reaches(session: Session, node: Node, of: Node) -> bool:
    """Whether a node depends on another one, definitions included."""
    parts = list(core.walk(node))
    if of in parts:
        return True
    return any(part in session.pending and _reaches(session, session.pending[part], of) for part in parts)


def _flat(node: Node) -> Node:
    if isinstance(node, Map) and node.function in ("add", "mul"):
        return (core.add if node.function == "add" else core.mul)(*node.arguments)
    return node


def settled_value(session: Session, value: Value, before: int = 0) -> Value:
    if len(session.pending) <= before:
        return value
    present = None if value.present is None else settled(session, value.present, before)
    return replace(value, node=settled(session, value.node, before), present=present)


def settled_record(session: Session, record: Record) -> Record:
    """A record of the program with all its graphs settled."""
    if not session.pending:
        return record
    entries: dict[str, Any] = {entry.name: getattr(record, entry.name) for entry in fields(record)}  # type: ignore[arg-type]
    graphs = {name: settled(session, graph) for name, graph in entries.items() if isinstance(graph, Node)}
    return replace(record, **graphs)  # type: ignore[type-var]
