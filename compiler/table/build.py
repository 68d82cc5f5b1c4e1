"""From the roots of an objective to its statistic tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from lossc.compiler.core import Along, Call, Node, Reduce, differentiable, walk
from lossc.compiler.lagrangian import with_constraints
from lossc.compiler.program import Program, TermInfo
from lossc.compiler.table.canonical import Canonical
from lossc.compiler.table.centre import Centres
from lossc.compiler.table.extract import Extraction
from lossc.compiler.table.lowering import Lowering
from lossc.compiler.table.model import Table
from lossc.compiler.table.registry import Registry


def statistic_table(roots: Mapping[str, Node], axis: str) -> Table:
    """The statistic table of named values over one class axis.

    Equal mathematics gives equal tables, however it was written.
    """
    lowering, registry = Lowering(axis), Registry(axis)
    lowered = {name: lowering.lower(root) for name, root in roots.items()}
    centres = Centres(axis, registry)
    centres.find(lowering, lowered.values())
    canonical = Canonical(axis, lowering, registry, centres)
    seam = {name: canonical.root(root) for name, root in lowered.items()}
    return Extraction(canonical).table(seam)


def tables(program: Program) -> tuple[Table, ...]:
    """A table for each class axis that the terms or monitors of a program reduce, or select from."""
    roots = program_roots(program)
    return tuple(
        statistic_table(concerned, axis)
        for axis in class_axes(program)
        if (concerned := {name: root for name, root in roots.items() if concerns(root, axis)})
    )


def class_axes(program: Program) -> tuple[str, ...]:
    """The class axes of a program: axes of distributions, codomains of labels, and axes that a softmax or logsumexp normalises.

    Axes with named positions and batch axes are not among them, nor are axes that only states have, such as training
    examples.
    """
    kinds = [tensor.kind for tensor in program.tensors.values()]
    named = [axis for kind in kinds for axis in (kind.axis, kind.codomain) if axis is not None and kind.name != "embedding"]
    normalised = {axis for root in program_roots(program).values() for axis in _normalised(root, frozenset(named))}
    there = normalised.union(*(tensor.order for tensor in program.tensors.values()))
    kept = {axis for state in program.states.values() for axis in state.order} - there
    found = dict.fromkeys((*named, *sorted(normalised)))
    return tuple(axis for axis in found if not _is_row(program, axis) and axis not in kept)


def _is_row(program: Program, axis: str) -> bool:
    info = program.axes.get(axis)
    return info is not None and (info.batch or info.positions is not None)


def _normalised(root: Node, named: frozenset[str]) -> Iterator[str]:
    """The axes of every softmax and logsumexp in a graph.

    Those over what was reduced from another class axis, and those that pass no gradient, such as sums over lengths, do
    not count.
    """
    for node in walk(root):
        if isinstance(node, Reduce) and node.op == "logsumexp" and node.groups is None:
            axes = node.over
        elif isinstance(node, Along) and node.op in ("softmax", "log_softmax") and node.by is None:
            axes = (node.axis,)
        else:
            continue
        if differentiable(node.body) and not any(part.axes & (named - set(axes)) for part in walk(node.body)):
            yield from axes


def program_roots(program: Program) -> dict[str, Node]:
    """The numerators, denominators and coefficients of all parts of all terms, constraints and monitors, by name."""
    roots: dict[str, Node] = {}
    whole = with_constraints(program)
    for term in (*whole.terms, *whole.monitors):
        roots.update(_term_roots(term))
    return roots


def _term_roots(term: TermInfo) -> Iterable[tuple[str, Node]]:
    alone = len(term.parts) == 1
    for number, part in enumerate(term.parts, start=1):
        name = term.name if alone else f"{term.name}.{number}"
        yield name, part.numerator
        if part.denominator is not None:
            yield f"{name} denominator", part.denominator
        yield f"{name} coefficient", part.coefficient


def is_opaque(root: Node) -> bool:
    """Whether a value contains a search or a call of the caller's code.

    It is then run as it stands, without a table.
    """
    return any(isinstance(node, Call) and node.is_opaque for node in walk(root))


def concerns(root: Node, axis: str) -> bool:
    """Whether a value depends on anything with this axis, and can be read into a table."""
    return any(axis in node.axes for node in walk(root)) and not is_opaque(root)
