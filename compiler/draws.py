"""Draws as tensors: they are computed before a call and passed to it, so that all backends see the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from lossc.compiler.core import Draw, Input, Node, substitute, walk
from lossc.compiler.emission import Extent, complete_extents, made_extents
from lossc.compiler.program import Part, Program, TermInfo
from lossc.compiler.simplify import roots

NAME = "drawn "
"""What the names of such tensors begin with; no name that is declared does."""


@dataclass(frozen=True)
class Drawn:
    """A random tensor: its name, its distribution, its axes in order, and whether each call has its own.

    A tensor without a batch axis is the same for all calls and ranks of a step.
    """

    name: str
    distribution: Literal["normal", "uniform"]
    order: tuple[str, ...]
    place: int
    each_call: bool


@dataclass(frozen=True)
class WithDraws:
    """A program whose draws are tensors. `made` has the axes made inside it, as `made_extents` returns them."""

    program: Program
    draws: dict[str, Drawn]
    made: dict[str, Extent]

    def extents(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """The extents, with those of the axes that are made inside."""
        return complete_extents(self.made, sizes)


def with_draws(program: Program) -> WithDraws:
    """The program with a tensor in place of each draw."""
    nodes = [node for node in walk(*roots(program)) if isinstance(node, Draw)]
    if not nodes:
        return WithDraws(program, {}, {})
    batch = program.batch_axes
    drawn = {node: Drawn(f"{NAME}{node.place}", node.distribution, node.order, node.place, bool(batch & set(node.order)))
             for node in sorted(nodes, key=lambda node: node.place)}  # fmt: skip
    leaves: dict[Node, Node] = {node: Input(each.name, each.order, "real", node.domain, True) for node, each in drawn.items()}
    found = mapped(program, lambda node: substitute(node, leaves))
    return WithDraws(found, {each.name: each for each in drawn.values()}, made_extents(roots(program)))


def mapped(program: Program, change: Callable[[Node], Node]) -> Program:
    """The program with a function applied to every graph."""

    def maybe(node: Node | None) -> Node | None:
        return None if node is None else change(node)

    def part(one: Part) -> Part:
        return replace(
            one, coefficient=change(one.coefficient), numerator=change(one.numerator), denominator=maybe(one.denominator),
            body=maybe(one.body), admitted=maybe(one.admitted),
        )  # fmt: skip

    def terms(every: Iterable[TermInfo]) -> tuple[TermInfo, ...]:
        return tuple(replace(term, value=change(term.value), parts=tuple(map(part, term.parts))) for term in every)

    lets = {n: replace(let, node=change(let.node), present=maybe(let.present)) for n, let in program.lets.items()}
    states = {n: replace(state, renewal=change(state.renewal), renewal_present=maybe(state.renewal_present))
              for n, state in program.states.items()}  # fmt: skip
    constraints = tuple(replace(each, value=change(each.value), present=maybe(each.present), by=maybe(each.by))
                        for each in program.constraints)  # fmt: skip
    return replace(program, terms=terms(program.terms), monitors=terms(program.monitors), lets=lets, states=states,
                   constraints=constraints)  # fmt: skip
