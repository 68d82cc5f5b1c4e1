"""What every node of the graph has: parts, axes, a domain, a hash; equal constructions are one object."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Any, ClassVar, cast
from weakref import WeakValueDictionary

from lossc.compiler import intervals as iv
from lossc.compiler.intervals import Interval

Axes = frozenset[str]
NO_AXES: Axes = frozenset()


class _Interned(type):
    """Makes equal constructions return one object."""

    _table: ClassVar[WeakValueDictionary[tuple[Any, ...], Any]] = WeakValueDictionary()

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        node = super().__call__(*args, **kwargs)
        key = (cls, *(getattr(node, f.name) for f in fields(node)))
        return _Interned._table.setdefault(key, node)


@dataclass(frozen=True, eq=False)
class Node(metaclass=_Interned):
    """A value over named axes. Subclasses state how `axes` and `domain` follow from their fields."""

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
        """The parts, in a fixed order; `rebuild` takes as many."""
        return ()

    def rebuild(self, children: tuple[Node, ...]) -> Node:
        """The same node over other parts."""
        return self

    @property
    def is_mask(self) -> bool:
        return False

    @property
    def digest(self) -> bytes:
        """A hash of the whole expression, the same in every process; it orders operands."""
        cached = self.__dict__.get("_digest")
        if cached is None:
            state = hashlib.blake2b(type(self).__name__.encode(), digest_size=16)
            for entry in fields(self):
                state.update(_hashable(getattr(self, entry.name)))
            cached = state.digest()
            object.__setattr__(self, "_digest", cached)
        return cast(bytes, cached)


def _hashable(value: Any) -> bytes:
    if isinstance(value, Node):
        return value.digest
    if isinstance(value, tuple):
        return b"(" + b",".join(_hashable(item) for item in value) + b")"
    return repr(value).encode()
