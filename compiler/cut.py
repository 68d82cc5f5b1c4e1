"""An objective in two: the values that a statistic table delivers, one table for each class axis, and the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lossc.compiler.core import Node, walk
from lossc.compiler.program import Program
from lossc.compiler.table import Table, class_axes, statistic_table


@dataclass(frozen=True)
class Cut:
    """Every root is in the seam of one table or in `rest`."""

    tables: tuple[Table, ...]
    rest: dict[str, Node]


def cut(program: Program, roots: Mapping[str, Node]) -> Cut:
    """The roots over statistics; one that has two class axes is cut along the first, one that keeps it is left whole."""
    rest = dict(roots)
    found: list[Table] = []
    for axis in class_axes(program):
        concerned = {name: root for name, root in rest.items() if _concerns(root, axis)}
        if concerned:
            found.append(statistic_table(concerned, axis))
            rest = {name: root for name, root in rest.items() if name not in concerned}
    return Cut(tuple(found), rest)


def _concerns(root: Node, axis: str) -> bool:
    return axis not in root.axes and any(axis in node.axes for node in walk(root))
