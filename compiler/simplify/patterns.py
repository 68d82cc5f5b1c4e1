"""Patterns: formulas whose names are variables, and what the variables are bound to in a match.

A name matches any one operand; `k`, `j` and `rest` match whatever remains of a product or a sum (1 or 0 where nothing
does). The name of an axis matches a whole bracket, all its axes with their groups, and `where m` matches a mask or the
absence of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

from lossc.compiler import core
from lossc.compiler.core import Along, Const, Index, Input, Map, Node, Reduce, Rename, Select, Size, StopGrad
from lossc.compiler.faults import InternalError
from lossc.compiler.formula import formula, parsed
from lossc.grammar import syntax

VARIABLE = "variable"
"""The kind of an `Input` that stands for something else."""

REMAINING = frozenset(("k", "j", "rest"))


@dataclass(frozen=True)
class Axes:
    """What the name of an axis is bound to: the axes of a bracket, its groups, and the `by` of an operation along an axis."""

    over: tuple[str, ...]
    groups: tuple[Node, str] | None = None
    by: Node | None = None


Bound: TypeAlias = Node | Axes | int | None
Binding: TypeAlias = Mapping[str, Bound]


@cache
def pattern(text: str) -> Node:
    """The core graph of a pattern, with its names as variables."""
    names = {name: Input(name, (), VARIABLE) for name in sorted(_names(parsed(text)))}
    return formula(text, names)


def _names(expression: syntax.Expr) -> Iterator[str]:
    """The names that are neither axes nor functions."""
    match expression:
        case syntax.Name(id=name) if name not in ("pi", "inf"):
            yield name
        case syntax.Unary(operand=operand):
            yield from _names(operand)
        case syntax.Binary(left=left, right=right):
            yield from _names(left)
            yield from _names(right)
        case syntax.Compare(operands=operands):
            for operand in operands:
                yield from _names(operand)
        case syntax.IfElse(then=then, condition=condition, otherwise=otherwise):
            for part in (then, condition, otherwise):
                yield from _names(part)
        case syntax.Call(function=function, arguments=arguments):
            yield from _names(function) if isinstance(function, syntax.Bracket) else ()
            for argument in arguments:
                yield from _names(argument.value)
        case syntax.Bracket(head=head, selectors=selectors, where=where):
            yield from () if _is_function(head) else _names(head)
            for value in (*(selector.value for selector in selectors), where):
                yield from _names(value) if value is not None else ()


def _is_function(head: syntax.Expr) -> bool:
    return isinstance(head, syntax.Name) and head.id in (*core.REDUCE_OPS, *core.ALONG_OPS, "size", "index")


def variable(node: Node | int | None) -> str | None:
    """The name of a pattern node that is a variable."""
    return node.name if isinstance(node, Input) and node.kind == VARIABLE else None


@cache
def variables(node: Node) -> frozenset[str]:
    """The names in a pattern; those of axes are in brackets."""
    found: set[str] = set()
    for part in core.walk(node):
        match part:
            case Input(name=name):
                found.add(name)
            case Reduce(over=over):
                found.update(f"[{axis}]" for axis in over)
            case Along(axis=axis) | Select(axis=axis) | Size(axis=axis) | Index(axis=axis):
                found.add(f"[{axis}]")
            case Rename(old=old, new=new):
                found.update((f"[{old}]", f"[{new}]"))
    return frozenset(found)


class Unfit(Exception):  # noqa: N818
    """The result of a rule cannot be constructed for this match, such as a softmax over two axes."""


def instantiate(node: Node, binding: Binding, construct: Callable[[Node], Node]) -> Node:
    """The pattern with its variables replaced; every node is made by `construct`, parts first."""
    result = _instance(node, binding, construct)
    if result is None:
        raise Unfit
    return result


def _instance(node: Node, binding: Binding, construct: Callable[[Node], Node]) -> Node | None:
    """The instance of one node; None is a mask that admits everything."""
    name = variable(node)
    if name is not None:
        value = binding[name]
        if isinstance(value, Axes):
            raise InternalError("an axis stands where a value should")
        if isinstance(value, int):
            return core.const(value)
        return construct(value) if value is not None else None
    match node:
        case Const():
            return node
        case Size(axis=axis):
            return construct(core.mul(*(Size(name) for name in _bound_axes(binding, axis).over)))
        case Index(axis=axis):
            return Index(_single(binding, axis))
        case Map(function="and", arguments=(left, right)):
            joined = core.all_of(_instance(left, binding, construct), _instance(right, binding, construct))
            return construct(joined) if joined is not None else None
        case Map(function=function, arguments=arguments):
            parts = [instantiate(argument, binding, construct) for argument in arguments]
            return construct(_joined(function, parts))
        case StopGrad(body=body):
            return construct(StopGrad(instantiate(body, binding, construct)))
        case Rename(body=body, old=old, new=new):
            inner = instantiate(body, binding, construct)
            return construct(Rename(inner, _single(binding, old), _single(binding, new)))
        case Select(body=body, axis=axis, at=at):
            inner = instantiate(body, binding, construct)
            return construct(Select(inner, _single(binding, axis), _position(at, binding)))
        case Reduce() | Along():
            return construct(_over(node, binding, construct))
    raise InternalError(f"a pattern holds a {type(node).__name__}")


def _joined(function: str, parts: list[Node]) -> Node:
    if function == "add":
        return core.add(*parts)
    return core.mul(*parts) if function == "mul" else Map(function, tuple(parts))


def _position(at: Node | int, binding: Binding) -> Node | int:
    name = variable(at)
    position = at if name is None else binding[name]
    if not isinstance(position, Node | int):
        raise InternalError("a selection without a position")
    return position


def _over(node: Reduce | Along, binding: Binding, construct: Callable[[Node], Node]) -> Node:
    body = instantiate(node.body, binding, construct)
    where = _instance(node.where, binding, construct) if node.where is not None else None
    if isinstance(node, Along):
        axes = _bound_axes(binding, node.axis)
        if len(axes.over) != 1 or axes.groups is not None:
            raise Unfit
        return Along(node.op, axes.over[0], body, where, axes.by)
    (name,) = node.over
    axes = _bound_axes(binding, name)
    if axes.by is not None:
        raise Unfit
    return Reduce(node.op, axes.over, body, where, axes.groups)


def _bound_axes(binding: Binding, name: str) -> Axes:
    axes = binding[f"[{name}]"]
    if not isinstance(axes, Axes):
        raise InternalError(f"`{name}` does not stand for an axis")
    return axes


def _single(binding: Binding, name: str) -> str:
    axes = _bound_axes(binding, name)
    if len(axes.over) != 1 or axes.groups is not None or axes.by is not None:
        raise Unfit
    return axes.over[0]
