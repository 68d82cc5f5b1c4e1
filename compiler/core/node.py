"""`Node`, the base of all nodes: parts, axes, a domain and a hash. Equal constructions are one object."""

from __future__ import annotations

import atexit
import hashlib
from dataclasses import dataclass, fields
from typing import Any, ClassVar, cast
from weakref import WeakValueDictionary

from lossc.compiler import intervals as iv
from lossc.compiler.intervals import Interval

Axes = frozenset[str]
NO_AXES: Axes = frozenset()


class _Interned(type):
    """Returns the same object for equal constructions (hash-consing)."""

    _table: ClassVar[WeakValueDictionary[tuple[Any, ...], Any]] = WeakValueDictionary()

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        node = super().__call__(*args, **kwargs)
        key = (cls, *(getattr(node, f.name) for f in fields(node)))
        return _Interned._table.setdefault(key, node)


# At exit, nodes would otherwise outlive the modules that the comparison of their fields needs.
atexit.register(_Interned._table.clear)


@dataclass(frozen=True, eq=False)
class Node(metaclass=_Interned):
    """A value over named axes. Subclasses derive `axes` and `domain` from their fields."""

    axes: ClassVar[Axes]
    domain: ClassVar[Interval]

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", self._axes())
        object.__setattr__(self, "domain", self._domain())

    def _axes(self) -> Axes:
        return NO_AXES.union(*(child.axes for child in self.children))

    def _domain(self) -> Interval:
        return iv.REAL

    @property
    def children(self) -> tuple[Node, ...]:
        """The nodes that it is made of, in a fixed order. `rebuild` takes as many."""
        return ()

    def rebuild(self, children: tuple[Node, ...]) -> Node:
        """The same node with other children."""
        return self

    @property
    def is_mask(self) -> bool:
        return False

    @property
    def digest(self) -> bytes:
        """A hash of the whole expression, equal in every process. Operands are ordered by it."""
        if "_digest" not in self.__dict__:
            for part in _undigested(self):
                object.__setattr__(part, "_digest", _digest(part))
        return cast(bytes, self.__dict__["_digest"])


def _undigested(root: Node) -> list[Node]:
    """The nodes of a graph that have no digest yet, children first. Not recursive, since chains may be long."""
    found: dict[Node, None] = {}
    stack = [(root, False)]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            found[node] = None
        elif node not in found and "_digest" not in node.__dict__:
            stack.append((node, True))
            stack.extend((child, False) for child in node.children)
    return list(found)


def _digest(node: Node) -> bytes:
    state = hashlib.blake2b(type(node).__name__.encode(), digest_size=16)
    for entry in fields(node):
        state.update(_hashable(getattr(node, entry.name)))
    return state.digest()


def _hashable(value: Any) -> bytes:
    if isinstance(value, Node):
        return value.digest
    if isinstance(value, tuple):
        return b"(" + b",".join(_hashable(item) for item in value) + b")"
    return repr(value).encode()
