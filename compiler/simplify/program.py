"""The simplification of a checked program, with an account of what it did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from lossc.compiler.core import ZERO, Node, walk
from lossc.compiler.program import LetInfo, Part, Program, Pruned, StateInfo, TermInfo
from lossc.compiler.simplify.engine import Simplifier
from lossc.compiler.verify import verified
from lossc.grammar.source import Span


@dataclass(frozen=True)
class Fired:
    """A rule that was applied: its name, what it gains, how often, and where first, if that is known."""

    rule: str
    why: str
    count: int
    span: Span | None


@dataclass(frozen=True)
class Simplified:
    """A program in normal form; `fired` and `pruned` say how it came to it."""

    program: Program
    fired: tuple[Fired, ...]
    pruned: tuple[Pruned, ...]


def simplify(program: Program) -> Simplified:
    """The program with every graph in normal form.

    Numerators and denominators stay separate. A value that the caller gives in place of a `let` has to be put into the
    graph first, because a `let` may not survive as a node of its own.
    """
    simplifier = Simplifier()
    pruned: dict[Pruned, None] = {}
    terms = tuple(_term(term, program, simplifier, pruned) for term in program.terms)
    monitors = tuple(_term(term, program, simplifier, pruned) for term in program.monitors)
    result = replace(
        program,
        lets={name: _let(let, simplifier) for name, let in program.lets.items()},
        states={name: _state(state, simplifier) for name, state in program.states.items()},
        terms=terms,
        monitors=monitors,
        constraints=tuple(replace(c, value=_same_axes(c.value, simplifier)) for c in program.constraints),
    )
    result = replace(result, spans=_spans(program, simplifier))
    verified("simplify", roots(result))
    return Simplified(result, _fired(program, simplifier), tuple(pruned))


def roots(program: Program) -> Iterator[Node]:
    """Every graph of a program."""
    for term in (*program.terms, *program.monitors):
        yield term.value
        for part in term.parts:
            yield from (node for node in _nodes(part) if node is not None)
    for let in program.lets.values():
        yield from (node for node in (let.node, let.present) if node is not None)
    for state in program.states.values():
        yield from (state.initial, state.renewal)
    yield from (constraint.value for constraint in program.constraints)


def _nodes(part: Part) -> tuple[Node | None, ...]:
    return (part.coefficient, part.numerator, part.denominator, part.body, part.admitted)


def _same_axes(node: Node, simplifier: Simplifier) -> Node:
    """The normal form; the node itself where the normal form would lose an axis that others rely on."""
    result = simplifier(node)
    return result if result.axes == node.axes else node


def _optional(node: Node | None, simplifier: Simplifier) -> Node | None:
    return None if node is None else _same_axes(node, simplifier)


def _term(term: TermInfo, program: Program, simplifier: Simplifier, pruned: dict[Pruned, None]) -> TermInfo:
    known = len(simplifier.record.vanished)
    value = simplifier(term.value)
    parts = [_part(part, simplifier) for part in term.parts]
    for node in simplifier.record.vanished[known:]:
        pruned[Pruned(term.name, _text(node, program))] = None
    kept = []
    for before, part in zip(term.parts, parts, strict=True):
        if part.coefficient is ZERO or part.numerator is ZERO:
            pruned.setdefault(Pruned(term.name, _text(before.body or before.numerator, program, term.text)))
        else:
            kept.append(part)
    return replace(term, value=value, parts=tuple(kept))


def _part(part: Part, simplifier: Simplifier) -> Part:
    return replace(
        part,
        coefficient=simplifier(part.coefficient),
        numerator=_same_axes(part.numerator, simplifier),
        denominator=_optional(part.denominator, simplifier),
        body=_optional(part.body, simplifier),
        admitted=_optional(part.admitted, simplifier),
    )


def _let(let: LetInfo, simplifier: Simplifier) -> LetInfo:
    return replace(let, node=_same_axes(let.node, simplifier), present=_optional(let.present, simplifier))


def _state(state: StateInfo, simplifier: Simplifier) -> StateInfo:
    return replace(
        state,
        initial=simplifier(state.initial),
        renewal=_same_axes(state.renewal, simplifier),
        renewal_present=_optional(state.renewal_present, simplifier),
    )


def _text(node: Node, program: Program, otherwise: str = "") -> str:
    """How a node was written; where its origin is not known, its graph as text of the language."""
    span = program.spans.get(node)
    if span is not None and span.text:
        return span.text
    if otherwise:
        return otherwise
    from lossc.compiler.display import core_text

    return core_text(node)


def _spans(program: Program, simplifier: Simplifier) -> dict[Node, Span]:
    """Where the nodes of the new graphs were first written."""
    spans = dict(program.spans)
    for node, span in program.spans.items():
        spans.setdefault(simplifier(node), span)
    return spans


def _fired(program: Program, simplifier: Simplifier) -> tuple[Fired, ...]:
    record = simplifier.record
    return tuple(
        Fired(rule.name, rule.why, count, _span(record.first[rule], program.spans.items()))
        for rule, count in record.fired.items()
    )


def _span(node: Node, spans: Iterable[tuple[Node, Span]]) -> Span | None:
    """The place of a node, or of the smallest expression around it, or of the largest one inside it."""
    around, inside = [], []
    parts = set(walk(node))
    for whole, span in spans:
        if whole in parts:
            inside.append(span)
        if whole is node or any(part is node for part in walk(whole)):
            around.append(span)
    if around:
        return min(around, key=_length)
    return max(inside, key=_length, default=None)


def _length(span: Span) -> int:
    return span.end - span.start
