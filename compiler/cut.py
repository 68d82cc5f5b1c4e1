"""Divides an objective: values that statistic tables deliver, one table for each class axis, and the rest."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from lossc.compiler.core import Index, Node, Size, walk
from lossc.compiler.emission import Extent, made_extents
from lossc.compiler.pairs import Crossed, crossed
from lossc.compiler.program import Program
from lossc.compiler.table import Table, class_axes, concerns, statistic_table

SEEN = "seen "
"""What the names of roots begin with that are masks of other roots."""


@dataclass(frozen=True)
class Between:
    """Values without a class axis, computed between tables; `masks` says where some of them are seen."""

    roots: dict[str, Node]
    masks: dict[str, Node]


@dataclass(frozen=True)
class Cut:
    """Every root is in the seam of one table or in `rest`; the mask of a root (`seen`) is wherever the root is.

    `made` has the axes that the roots make, each with the axis from which it came or its extent. Where heads make
    matrices of all pairs, `steps` lists tables, by number, and computations between them, in order; `crossings` says
    which roots are sums of others, and which ones later tables read.
    """

    tables: tuple[Table, ...]
    rest: dict[str, Node]
    rest_seen: dict[str, Node]
    made: dict[str, Extent]
    steps: tuple[int | Between, ...] = ()
    crossings: tuple[Crossed, ...] = field(default=())


def cut(program: Program, roots: Mapping[str, Node], seen: Mapping[str, Node] | None = None) -> Cut:
    """The roots over statistics.

    A root with two class axes is cut along the first; one that keeps a class axis is left whole.
    """
    masks = seen or {}
    rest = dict(roots)
    found: list[Table] = []
    made = made_extents((*roots.values(), *masks.values()))
    told = {axis for axis in made if _is_told(axis, made)}
    left = {name for name, root in roots.items() if any(_counts(part, told) for part in walk(root))}
    for axis in class_axes(program):
        if axis in told:
            continue
        concerned = {
            name: root for name, root in rest.items() if name not in left and axis not in root.axes and concerns(root, axis)
        }
        if concerned:
            shown = {f"{SEEN}{name}": masks[name] for name in concerned if name in masks}
            found.append(statistic_table({**concerned, **shown}, axis))
            rest = {name: root for name, root in rest.items() if name not in concerned}
    return Cut(tuple(found), rest, {name: mask for name, mask in masks.items() if name in rest}, made)


def _is_told(axis: str, made: Mapping[str, Extent]) -> bool:
    """Whether the number of classes is known only from a call of the caller's code; no table is made then."""
    source: Extent = axis
    while isinstance(source, str) and source in made:
        source = made[source]
    return isinstance(source, Node)


def _counts(node: Node, axes: Collection[str]) -> bool:
    """Whether the node is an index or size of one of these axes."""
    return isinstance(node, Index | Size) and node.axis in axes


def across(
    program: Program, roots: Mapping[str, Node], seen: Mapping[str, Node], heads: Iterable[str]
) -> Cut | None:  # fmt: skip
    """The roots, divided for the case that some tensors are heads, so that no matrix [rows, classes] has to exist.

    None where the heads make no matrix of all pairs, or where `cut` serves as well.
    """
    crossings = crossed(roots, seen, heads)
    covered = frozenset().union(*(each.covered for each in crossings))
    if all(_is_plain(each, roots, class_axes(program)) for each in crossings):
        return None
    others = cut(program, {name: root for name, root in roots.items() if name not in covered}, seen)
    tables: list[Table] = []
    steps: list[int | Between] = []
    for part in (part for each in crossings for part in each.parts):
        if part.axis is None:
            steps.append(Between(part.roots, part.masks))
        else:
            steps.append(len(tables))
            masks = {f"{SEEN}{name}": mask for name, mask in part.masks.items()}
            tables.append(statistic_table({**part.roots, **masks}, part.axis))
    steps += range(len(tables), len(tables) + len(others.tables))
    made = made_extents((*roots.values(), *seen.values()))
    return Cut((*tables, *others.tables), others.rest, others.rest_seen, made, tuple(steps), crossings)


def _is_plain(crossing: Crossed, roots: Mapping[str, Node], axes: tuple[str, ...]) -> bool:
    """Whether everything already runs along class axes."""
    return all(part.axis in axes and all(roots.get(name) is root for name, root in part.roots.items())
               for part in crossing.parts)  # fmt: skip
