"""What a syntax tree mentions: its nodes, the axes of a signature, and the axes that an expression makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from typing import Any

from lossc.compiler.symbols import TermSymbol
from lossc.grammar.source import Span
from lossc.grammar.syntax import Bracket, Call, Extern, Name, Node, Selector, Term, Type


def axes_made(root: object, terms: Mapping[str, TermSymbol]) -> Iterator[tuple[str, Span]]:
    """The axes that an expression makes: by `->`, and by calling a term whose result has an axis that it makes."""
    for node in syntax_nodes(root):
        if isinstance(node, Selector) and node.form == "rename" and node.new:
            yield node.new, node.span
        elif isinstance(node, Call):
            head = node.function.head if isinstance(node.function, Bracket) else node.function
            term = terms.get(head.id) if isinstance(head, Name) else None
            if term is not None:
                bracket = node.function if isinstance(node.function, Bracket) else None
                for name in _let_out(term.declaration):
                    yield _bound_to(name, bracket), node.span


def _let_out(declaration: Term | Extern) -> list[str]:
    """The axes of a result that no argument has; without a declared result, also those that a faulty body may have."""
    given = {name for formal in declaration.formals if formal.type is not None for name in axes_of(formal.type)}
    made = list(formal_axes(declaration))
    if isinstance(declaration, Term) and declaration.result is None:
        body = syntax_nodes((declaration.lets, declaration.body))
        made += [node.new for node in body if isinstance(node, Selector) and node.form == "rename" and node.new]
    return [name for name in made if name not in given]


def _bound_to(name: str, bracket: Bracket | None) -> str:
    """The name that a bracket gives to an axis: `covariance[e = k](x)`."""
    for selector in bracket.selectors if bracket is not None else ():
        if selector.name == name and selector.form == "at" and isinstance(selector.value, Name):
            return selector.value.id
    return name


def formal_axes(declaration: Term | Extern) -> tuple[str, ...]:
    """The axes that a signature names, in order of first mention."""
    names: dict[str, None] = {}
    for formal in declaration.formals:
        if formal.type is not None:
            names.update(dict.fromkeys(axes_of(formal.type)))
    if declaration.result is not None:
        names.update(dict.fromkeys(axes_of(declaration.result)))
    return tuple(names)


def axes_of(type_: Type) -> Iterator[str]:
    """The axes that a type names, including those of a model's arguments and result."""
    yield from type_.axes or ()
    for inner in (*type_.parameters, *((type_.result,) if type_.result is not None else ())):
        yield from axes_of(inner)
    if type_.kind == "label" and isinstance(type_.within, str):
        yield type_.within


def syntax_nodes(root: object) -> Iterator[Node]:
    """Every syntax node below `root`, itself included."""
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, tuple):
            stack.extend(node)
        elif isinstance(node, Node):
            yield node
            stack.extend(getattr(node, name) for name in _parts_of(type(node)))  # type: ignore[arg-type]


@cache
def _parts_of(kind: Any) -> tuple[str, ...]:
    """The fields of a syntax node that carry meaning."""
    return tuple(field.name for field in fields(kind) if field.compare)
