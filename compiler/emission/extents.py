"""Extents of the axes that a program makes: by renaming, slicing, sorting, or calling what only then tells its size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import NamedTuple, TypeAlias

from lossc.compiler.core import BINDING, Along, Call, Const, Input, Local, Node, Rename, Slice, walk


class Product(NamedTuple):
    """As many entries as several axes have together."""

    axes: tuple[str, ...]


Extent: TypeAlias = "str | int | Product | tuple[str, ...] | Node"
"""Where the extent of an axis comes from: a number, another axis, all entries of several axes, the smallest of several axes, or
the value of a call."""


def made_by(node: Node) -> tuple[str, Extent] | None:
    """The axis that a node makes, with where its extent comes from; None where it makes none, or calls what alone tells it."""
    match node:
        case Rename(old=old, new=new):
            return new, old
        case Slice(new=new, start=start, stop=stop):
            return new, stop - start
        case Along(op="sort", axis=axis, new=str() as new):
            return new, axis
        case Along(op="topk", option=Const() as number, new=str() as new):
            return new, int(float(number))
        case Call(function="svdvals" | "eigvals", order=order, produced=(new,)):
            return new, order
        case Call(function="sort", order=order, produced=(new,)):
            return new, Product(order)
    return None


def made_extents(roots: Iterable[Node]) -> dict[str, Extent]:
    """The axes that the graphs make, each with where its extent comes from."""
    nodes = list(walk(*roots))
    own = {axis for node in nodes if isinstance(node, Input) for axis in node.order}
    found: dict[str, Extent] = {}
    for node in nodes:
        made = made_by(node)
        if made is not None and made[0] not in own and not _comes_from(made[1], made[0], found):
            found.setdefault(*made)
        match node:
            case Call(function="model" | "extern", produced=produced):
                kept = [axis for axis in produced if axis not in own and (axis not in found or _is_open(found[axis]))]
                found.update(dict.fromkeys(kept, node))
            case Call(function="leaf:svdvals", produced=(_, new)) if new not in own:
                found.setdefault(new, node)
    return found


def _is_open(extent: Extent) -> bool:
    """Whether an extent is known only from a call inside a search, where the search's variable has a value."""
    return isinstance(extent, Node) and bool(_open_locals(extent))


def _open_locals(root: Node) -> frozenset[Node]:
    """The variables of a graph that no search or fold in it binds."""
    found: dict[Node, frozenset[Node]] = {}
    for node in walk(root):
        inside = frozenset[Node]().union(*(found[child] for child in node.children))
        if isinstance(node, Call) and node.function in BINDING and isinstance(node.arguments[1], Local):
            body, variable, *others = node.arguments
            binds = node.function != "grad" or bool(others)
            inside = (found[body] - {variable} if binds else inside).union(*(found[other] for other in others))
        found[node] = frozenset((node,)) if isinstance(node, Local) else inside
    return found[root]


def _comes_from(axis: Extent, other: str, made: Mapping[str, Extent]) -> bool:
    """Whether an axis is another one, or was made from it. Of two axes that are renamed to each other, the first counts."""
    while isinstance(axis, str) and axis != other and axis in made:
        axis = made[axis]
    return axis == other


def complete_extents(made: Mapping[str, Extent], sizes: Mapping[str, int]) -> dict[str, int]:
    """The extents `sizes` with those of the axes in `made` that follow from them."""
    found = dict(sizes)
    for axis in made:
        extent = _extent(axis, made, found)
        if extent is not None:
            found.setdefault(axis, extent)
    return found


def _extent(source: Extent, made: Mapping[str, Extent], known: Mapping[str, int]) -> int | None:
    while isinstance(source, str) and source in made:
        source = made[source]
    if isinstance(source, tuple):
        axes, total = (source.axes, prod) if isinstance(source, Product) else (source, min)
        extents = [extent for part in axes if (extent := _extent(part, made, known)) is not None]
        return total(extents) if len(extents) == len(axes) else None
    if isinstance(source, Node):
        return None
    return source if isinstance(source, int) else known.get(source)
