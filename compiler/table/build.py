"""The statistic table of an objective, from the mathematics of its graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lossc.compiler.core import Node, walk
from lossc.compiler.program import Program, TermInfo
from lossc.compiler.table.canonical import Canonical
from lossc.compiler.table.centre import Centres
from lossc.compiler.table.extract import Extraction
from lossc.compiler.table.lowering import Lowering
from lossc.compiler.table.model import Table
from lossc.compiler.table.registry import Registry


def statistic_table(roots: Mapping[str, Node], axis: str) -> Table:
    """The table of the named values over one class axis; equal mathematics gives equal tables."""
    lowering, registry = Lowering(axis), Registry(axis)
    lowered = {name: lowering.lower(root) for name, root in roots.items()}
    centres = Centres(axis, registry)
    centres.find(lowering, lowered.values())
    canonical = Canonical(axis, lowering, registry, centres)
    seam = {name: canonical.node(canonical.of(root)) for name, root in lowered.items()}
    return Extraction(canonical).table(seam)


def tables(program: Program) -> tuple[Table, ...]:
    """A table for each class axis of the program that its terms or monitors reduce or select."""
    roots = program_roots(program)
    return tuple(
        statistic_table(concerned, axis)
        for axis in class_axes(program)
        if (concerned := {name: root for name, root in roots.items() if _concerns(root, axis)})
    )


def class_axes(program: Program) -> tuple[str, ...]:
    """The axes of distributions and the codomains of labels, batch axes and named positions aside."""
    found: dict[str, None] = {}
    for tensor in program.tensors.values():
        if tensor.kind.name in ("logits", "logprob", "prob"):
            found.update(dict.fromkeys([tensor.kind.axis or tensor.order[-1]] if tensor.order else []))
        if tensor.kind.codomain:
            found[tensor.kind.codomain] = None
    return tuple(axis for axis in found if not _is_row(program, axis))


def _is_row(program: Program, axis: str) -> bool:
    info = program.axes.get(axis)
    return info is not None and (info.batch or info.positions is not None)


def program_roots(program: Program) -> dict[str, Node]:
    """Numerators, denominators and coefficients of every part of every term, and of the monitors."""
    roots: dict[str, Node] = {}
    for term in (*program.terms, *program.monitors):
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


def _concerns(root: Node, axis: str) -> bool:
    return any(axis in node.axes for node in walk(root))
