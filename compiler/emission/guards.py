"""Guards: which entries of a value are seen by whatever is computed from it.

A guard is a chain of conditions, all of which must hold; each is computed under the guard before it. Where a guard does
not hold, the emitter puts safe numbers in place of the entries, so that neither values nor gradients pass through an
excluded entry, whatever it holds. The empty chain admits everything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

from lossc.compiler.core import Axes, Map, Node
from lossc.compiler.emission.bounds import Bounds, bound_of, conditions, shifted, tightened


@dataclass(frozen=True)
class Lifted:
    """True where the guard holds for some entry along the axes `over`."""

    guard: Guard
    over: Axes

    @cached_property
    def axes(self) -> Axes:
        return axes_of(self.guard) - self.over

    @property
    def reads(self) -> tuple[Node, ...]:
        return ()


@dataclass(frozen=True)
class Renamed:
    """The guard with its axis `new` renamed back to `old`: for the body of a renaming from `old` to `new`."""

    guard: Guard
    old: str
    new: str

    @cached_property
    def axes(self) -> Axes:
        return (axes_of(self.guard) - {self.new}) | {self.old}

    @property
    def reads(self) -> tuple[Node, ...]:
        return ()


@dataclass(frozen=True)
class Ahead:
    """True at i where the guard holds `amount` entries later, or, without an amount, at i or anywhere later.

    Entries outside `where` do not exist, and entries with another value of the label `by` belong to other sequences.
    """

    guard: Guard
    axis: str
    amount: int | None
    where: Node | None = None
    by: Node | None = None

    @cached_property
    def axes(self) -> Axes:
        return axes_of(self.guard).union(*(part.axes for part in self.reads))

    @property
    def reads(self) -> tuple[Node, ...]:
        return tuple(part for part in (self.where, self.by) if part is not None)


@dataclass(frozen=True)
class Read:
    """True at i of an axis where the guard holds for some entry that reads `at` = i; `rest` are its other axes."""

    guard: Guard
    axis: str
    at: Node
    rest: Axes

    @cached_property
    def axes(self) -> Axes:
        return self.rest | {self.axis}

    @property
    def reads(self) -> tuple[Node, ...]:
        return (self.at,)


Condition: TypeAlias = "Node | Lifted | Renamed | Ahead | Read"
Guard: TypeAlias = "tuple[Condition, ...]"

ALL: Guard = ()


def axes_of(guard: Guard) -> Axes:
    return frozenset().union(*(condition.axes for condition in guard))


def extended(guard: Guard, condition: Node | None) -> Guard:
    """The guard and the condition, which is split at `and`."""
    if condition is None or condition in guard:
        return guard
    if isinstance(condition, Map) and condition.function == "and":
        for part in condition.arguments:
            guard = extended(guard, part)
        return guard
    return (*guard, condition)


def projected(guard: Guard, axes: Axes) -> Guard:
    """The guard of a value that has only `axes`: true where some entry along the other axes is seen."""
    extra = axes_of(guard) - axes
    if not extra:
        return guard
    first = next(at for at, condition in enumerate(guard) if condition.axes & extra)
    if first == len(guard) - 1 and isinstance(guard[first], Lifted):
        lifted = guard[first]
        assert isinstance(lifted, Lifted)
        return (*guard[:first], Lifted(lifted.guard, lifted.over | extra))
    return (*guard[:first], Lifted(guard, extra))


def read(guard: Guard, axes: Axes, axis: str, at: Node) -> Guard:
    """The guard of a value with these axes, given that its entries `at` along an axis are seen under the guard."""
    return (Read(guard, axis, at, (axes_of(guard) | at.axes) & (axes - {axis})),)


def renamed(guard: Guard, old: str, new: str) -> Guard:
    return (Renamed(guard, old, new),) if new in axes_of(guard) else guard


def ahead(guard: Guard, axis: str, amount: int | None, where: Node | None = None, by: Node | None = None) -> Guard:
    if axis not in axes_of(guard):
        return guard
    return _shifted(guard, axis, amount) if amount is not None and where is None and by is None else (
        Ahead(guard, axis, amount, where, by),
    )  # fmt: skip


def _shifted(guard: Guard, axis: str, amount: int) -> Guard:
    """Shifts by whole amounts, in one order: all bounds together, and by axes how far the rest of the guard is shifted."""
    within: Bounds = {}
    rest: Guard = ()
    for condition in guard:
        if bound := bound_of(condition):
            within = tightened(within, *bound)
        else:
            rest = (*rest, condition)
    inner, amounts = _moved(rest)
    amounts[axis] = amounts.get(axis, 0) + amount
    for along, by in sorted(amounts.items()):
        inner = (Ahead(inner, along, by),) if by and along in axes_of(inner) else inner
    return (*inner, *conditions(shifted(within, axis, amount)))


def _moved(guard: Guard) -> tuple[Guard, dict[str, int]]:
    """The guard below shifts by whole amounts, and the amounts by axis."""
    amounts: dict[str, int] = {}
    while len(guard) == 1 and isinstance(guard[0], Ahead):
        outer = guard[0]
        if outer.amount is None or outer.where is not None or outer.by is not None:
            break
        amounts[outer.axis] = amounts.get(outer.axis, 0) + outer.amount
        guard = outer.guard
    return guard, amounts


def unlifted(guard: Guard, axis: str | None) -> Guard:
    """The guard for each entry along an axis, where the given guard asks whether some entry along it is seen."""
    return tuple(part for condition in guard for part in _unlifted(condition, axis))


def _unlifted(condition: Condition, axis: str | None) -> Guard:
    if isinstance(condition, Node) or axis is None:
        return (condition,)
    inner = unlifted(condition.guard, axis)
    if isinstance(condition, Lifted):
        over = condition.over - {axis}
        return (Lifted(inner, over),) if over else inner
    if isinstance(condition, Read):
        return (replace(condition, guard=inner, rest=condition.rest | (axes_of(inner) & {axis})),)
    return (replace(condition, guard=inner),)
