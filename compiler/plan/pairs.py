"""The part of a plan about matrices of all pairs that may be given as their two factors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lossc.compiler.core import Input, Node, substitute, walk
from lossc.compiler.cut import Cut, across, cut
from lossc.compiler.emission import made_extents
from lossc.compiler.plan.model import PairsPlan
from lossc.compiler.program import LetInfo, Program
from lossc.compiler.simplify import Simplifier
from lossc.compiler.table import program_roots
from lossc.compiler.table.blocks import mixed


def pairs_plans(program: Program) -> Iterator[PairsPlan]:
    """One entry for each `let` of a program that is a matrix of all pairs of a batch.

    Takes the program before simplification, in which values defined by a `let` can still be recognized.
    """
    roots = program_roots(program)
    made = made_extents(roots.values())
    for let in program.lets.values():
        if len(let.order) == 2 and not let.node.is_mask and _are_pairs(let, made):
            given = Input(let.name, let.order, let.kind.name, let.kind.bounds)
            simplifier = Simplifier()
            ready = {name: simplifier(substitute(root, {let.node: given})) for name, root in roots.items()}
            if any(given is node for node in walk(*ready.values())):
                yield _plan(given, ready, program)


def _are_pairs(let: LetInfo, made: Mapping[str, object]) -> bool:
    """Whether one of the axes is a renamed copy of the other."""
    first, second = let.order
    return made.get(first) == second or made.get(second) == first


def _plan(given: Input, roots: dict[str, Node], program: Program) -> PairsPlan:
    parts = across(program, roots, {}, (given.name,)) or cut(program, roots)
    along = tuple(table.axis for table in parts.tables if table.axis in given.order)
    return PairsPlan(given.name, given.order, along, tuple(dict.fromkeys(_whole(given, parts))))


def _whole(given: Input, parts: Cut) -> Iterator[str]:
    """Why the matrix is materialized, if it is."""
    for name, root in parts.rest.items():
        if any(given is node for node in walk(root)):
            yield f"`{name}` runs as it stands"
    for table in parts.tables:
        rows = [axis for axis in given.order if axis != table.axis]
        if table.axis in given.order and mixed(table) & set(rows):
            yield from (entry.reason for entry in table.computed)
