"""W306: recurrences that are linear in what they carry, which `scan`, `sum` and `cumsum` have in a few operations."""

from __future__ import annotations

from typing import NamedTuple

from lossc.compiler.core import ONE, ZERO, Map, Node, add, div, mul, walk
from lossc.compiler.display import core_text
from lossc.compiler.elaborate.context import Context
from lossc.grammar import syntax
from lossc.grammar.expressions import print_expr
from lossc.grammar.source import Span


class Step(NamedTuple):
    """factor * a + term, of the carried a."""

    factor: Node
    term: Node


def linear_step(following: Node, carried: Node) -> Step | None:
    """What a step multiplies and adds; None where it does anything else."""
    found: dict[Node, Step | None] = {}
    for node in walk(following):
        if node is carried:
            found[node] = Step(ONE, ZERO)
        elif not any(found[child] is None or found[child].factor is not ZERO for child in node.children):  # type: ignore[union-attr]
            found[node] = Step(ZERO, node)
        else:
            found[node] = _of_parts(node, [found[child] for child in node.children]) if isinstance(node, Map) else None
    return found[following]


def _of_parts(node: Map, parts: list[Step | None]) -> Step | None:
    steps = [part for part in parts if part is not None]
    moving = [at for at, step in enumerate(steps) if step.factor is not ZERO]
    if len(steps) < len(parts):
        return None
    if node.function == "add":
        return Step(_sum([step.factor for step in steps]), _sum([step.term for step in steps]))
    if len(moving) != 1 or node.function not in ("mul", "div") or (node.function == "div" and moving != [0]):
        return None
    own = steps[moving[0]]
    others = [argument for at, argument in enumerate(node.arguments) if at != moving[0]]
    if node.function == "div":
        return Step(div(own.factor, others[0]), own.term if own.term is ZERO else div(own.term, others[0]))
    return Step(_product([own.factor, *others]), ZERO if own.term is ZERO else mul(own.term, *others))


def _sum(terms: list[Node]) -> Node:
    return add(*(term for term in terms if term is not ZERO))


def _product(factors: list[Node]) -> Node:
    return mul(*(factor for factor in factors if factor is not ONE))


def lint_linear(ctx: Context, function: str, bracket: syntax.Bracket, call: syntax.Call, step: Step) -> None:
    """Says how a recurrence that begins at 0 is written as a `scan`, or as a sum where nothing is multiplied."""
    t = bracket.selectors[0].name
    m = print_expr(bracket.where) if bracket.where is not None else ""
    x, c = (_written(ctx, node, call.span) for node in (step.term, step.factor))
    where = f" where {m}" if m else ""
    if step.factor is ONE:
        instead = f"{'cumsum' if function == 'scan' else 'sum'}[{t}{where}]({x})"
    elif function == "scan":
        instead = f"scan[{t}{where}]({x}, {c})"
    elif m:
        instead = f"scan[{t}]({x} if {m} else 0, {c} if {m} else 1)[{t} = size[{t}] - 1]"
    else:
        instead = f"scan[{t}]({x}, {c})[{t} = size[{t}] - 1]"
    name = bracket.selectors[-1].name
    ctx.warn("W306", f"each step multiplies `{name}` and adds to it: that is linear", call.span, help=f"write `{instead}`")


def _written(ctx: Context, node: Node, inside: Span) -> str:
    """A part of a step as it was written there, or as it would be where it is put together of several."""
    span = ctx.session.spans.get(node)
    here = span is not None and span.source is inside.source and inside.start <= span.start and span.end <= inside.end
    text = " ".join(span.text.split()) if span is not None and here else core_text(node)
    return f"({text})" if " if " in text else text
