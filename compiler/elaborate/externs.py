"""Python functions, `extern drift(x : real[d]) -> real from "mypkg.terms:drift"`: checked here, never imported."""

from __future__ import annotations

import re

from lossc.compiler import core
from lossc.compiler.core import Node
from lossc.compiler.elaborate.context import Context
from lossc.compiler.elaborate.types import read_type
from lossc.compiler.kinds import DISTRIBUTIONS, NUMBERS, REAL
from lossc.compiler.symbols import TermSymbol
from lossc.compiler.values import WRONG, Value
from lossc.grammar import syntax

_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
_TAKEN = (*NUMBERS, *DISTRIBUTIONS, "label", "mask")


def check_extern(ctx: Context, term: TermSymbol) -> None:
    """The path of the function, and the kinds of its arguments and result."""
    declaration = term.declaration
    assert isinstance(declaration, syntax.Extern)
    if not _TARGET.fullmatch(declaration.target):
        ctx.wrong("E507", f'"{declaration.target}" is not the path of a function', declaration.span,
                  help='write `from "package.module:function"`')  # fmt: skip
    for formal in declaration.formals:
        if formal.type is not None and formal.type.kind not in _TAKEN:
            ctx.wrong("E211", f"a function in Python takes numbers, labels and masks, and `{formal.name}` is none",
                      formal.span)  # fmt: skip
    if declaration.result.kind not in (*NUMBERS, *DISTRIBUTIONS):
        ctx.wrong("E211", "a function in Python gives numbers", declaration.result.span, help="write `-> real[b]`")


def extern_call(inner: Context, name: str, declaration: syntax.Extern) -> Value:
    """The call; `inner` binds the formals.

    Axes that the declaration does not name come first, in all arguments and the result.
    """
    read = read_type(inner, declaration.result)
    types = [read_type(inner, formal.type or syntax.Type("real")) for formal in declaration.formals]
    known = [each for each in types if each is not None]
    if read is None or len(known) < len(types):
        return WRONG
    kind, order = read
    values = [value for formal in declaration.formals if isinstance(value := inner.frame.values[formal.name], Value)]
    there = frozenset[str]().union(*(value.axes for value in values))
    consumed = tuple(sorted(there & {axis for _, named in known for axis in named}))
    options = (name, declaration.target, order, tuple((of.name, named) for of, named in known))
    node: Node = core.Call("extern", tuple(map(_given, values)), consumed, order, kind.bounds, options)
    present = core.all_of(*(_present(value, order) for value in values))
    return Value(node, REAL if kind.name in NUMBERS else kind, present)


def _given(value: Value) -> Node:
    """The argument passed to the function, with 0 in place of absent entries."""
    return value.node if value.is_label or value.is_mask else core.where(value.present, value.node, core.ZERO)


def _present(value: Value, order: tuple[str, ...]) -> Node | None:
    """Where all entries exist from which an entry of the result is made: along consumed axes, every one."""
    if value.present is None:
        return None
    lost = tuple(sorted(axis for axis in value.present.axes if axis in value.axes and axis not in order))
    return core.Reduce("all", lost, value.present) if lost else value.present
