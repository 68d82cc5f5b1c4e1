"""Choices made before compilation: in `a if mode == fast else b`, the branch not taken is neither computed nor planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lossc.compiler import core
from lossc.compiler.constants import constant_value
from lossc.compiler.core import Const, Map, Node, rewrite
from lossc.compiler.draws import mapped
from lossc.compiler.normalise import Normaliser
from lossc.compiler.program import ParamInfo, Program, TermInfo
from lossc.compiler.simplify import masks


def choices(program: Program) -> dict[str, ParamInfo]:
    """The parameters whose values are one of several names."""
    return {name: info for name, info in program.params.items() if info.kind.name == "choice"}


def settle(program: Program, chosen: Mapping[str, int] | None = None) -> Program:
    """The program with every choice made: as in `chosen`, by position of the name, otherwise by default.

    Terms are split into parts again, since a branch that is not taken may have depended on how the batch is split.
    """
    numbers = {info.node: _number(info, chosen or {}) for info in choices(program).values()}
    made: dict[Node, Node] = {node: core.const(number) for node, number in numbers.items() if number is not None}
    if not made:
        return program
    memo: dict[Node, Node] = dict(made)

    def change(node: Node) -> Node:
        return rewrite(node, _decided, memo)

    normaliser = Normaliser(program.batch_axes)
    settled = mapped(program, change)
    return replace(
        settled,
        terms=tuple(_normalised(term, normaliser, memo) for term in settled.terms),
        monitors=tuple(_normalised(term, normaliser, memo) for term in settled.monitors),
        spans={memo.get(node, node): span for node, span in program.spans.items()},
    )


def _number(info: ParamInfo, chosen: Mapping[str, int]) -> int | None:
    if info.name in chosen:
        return chosen[info.name]
    value = None if info.default is None else constant_value(info.default, {})
    return None if value is None else int(value)


def _normalised(term: TermInfo, normaliser: Normaliser, memo: dict[Node, Node]) -> TermInfo:
    present = None if term.present is None else rewrite(term.present, _decided, memo)
    return replace(term, parts=normaliser.parts(term.value, present), present=present)


def _decided(node: Node) -> Node:
    """One node over decided parts: decides comparisons of numbers, logic over these, and the branch taken."""
    if not isinstance(node, Map):
        return node
    result = _map(node.function, node.arguments)
    return node if result is None or result.axes != node.axes else result


def _map(function: str, arguments: tuple[Node, ...]) -> Node | None:
    match function, arguments:
        case "eq" | "ne", (Const(value=left), Const(value=right)):
            return masks.constant((left == right) is (function == "eq"))
        case "not", (mask,) if mask in (masks.TRUE, masks.FALSE):
            return masks.constant(mask is masks.FALSE)
        case "and" | "or", (left, right):
            neutral = masks.TRUE if function == "and" else masks.FALSE
            return right if left is neutral else left if right is neutral else None
        case "where", (mask, then, otherwise) if mask in (masks.TRUE, masks.FALSE):
            return then if mask is masks.TRUE else otherwise
    return None
