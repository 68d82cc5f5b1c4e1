"""A plan as plain data. Bytes assume fp32 (fp64 for row statistics) and are None where an extent is not given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lossc.compiler.core import Input
from lossc.compiler.table import Table

Axes = tuple[str, ...]


@dataclass(frozen=True)
class Pass:
    """One program over the rows of a batch, which reads streams and writes statistics, gradients or both.

    A pass of kind `visit` writes both while a row is in the cache, in `sweeps` loops over its classes.
    """

    kind: Literal["visit", "statistics", "gradient"]
    rows: Axes
    sweeps: int
    reads: tuple[str, ...]
    statistics: tuple[str, ...]
    gradients: tuple[str, ...]


@dataclass(frozen=True)
class Visit:
    """The traffic of one dense stream: read `reads` times, its gradient written or not."""

    stream: str
    axes: Axes
    reads: int
    writes: int
    bytes: int | None


@dataclass(frozen=True)
class Intermediate:
    """A vocabulary-sized value that is materialized, and why."""

    name: str
    axes: Axes
    reason: str
    bytes: int | None


@dataclass(frozen=True)
class AxisPlan:
    """The plan of one class axis.

    `coupled` lists terms whose gradient cannot start before every row is known, `late` terms whose weight in the loss
    is known only after the statistics; in either case rows are visited twice. `reason` says why there is no kernel,
    where there is none.
    """

    table: Table
    coupled: tuple[str, ...]
    late: tuple[str, ...]
    passes: tuple[Pass, ...]
    visits: tuple[Visit, ...]
    intermediates: tuple[Intermediate, ...]
    workspace: int | None
    rows: int | None
    classes: int | None
    reason: str = ""

    @property
    def heads(self) -> tuple[str, ...]:
        """The logits that may be given as hidden states and a weight."""
        dense = [stream for stream in self.table.streams if stream.provider == "tensor" and stream.shape == "dense"]
        return tuple(s.name for s in dense if isinstance(s.leaf, Input) and s.leaf.kind == "logits" and s.differentiable)

    @property
    def once(self) -> bool:
        """Whether each row is visited only once."""
        return all(each.kind != "gradient" for each in self.passes)

    @property
    def moved(self) -> int | None:
        """Bytes of all streams read and gradients written."""
        return _sum(visit.bytes and visit.bytes * (visit.reads + visit.writes) for visit in self.visits)

    @property
    def floor(self) -> int | None:
        """Bytes of reading each stream once and writing each gradient once: the least possible traffic."""
        return _sum(visit.bytes and visit.bytes * (1 + visit.writes) for visit in self.visits)

    @property
    def gradients(self) -> int | None:
        """Bytes of the gradients."""
        return _sum(visit.bytes and visit.bytes * visit.writes for visit in self.visits)


@dataclass(frozen=True)
class PairsPlan:
    """What happens to a matrix of all pairs when it is given as a linear head.

    `along` lists the class axes of the tables that go through it, in order. `whole` lists the reasons why it is
    materialized after all; empty if it is not.
    """

    name: str
    axes: Axes
    along: tuple[str, ...]
    whole: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The plan of a program.

    `rows_only` lists terms and monitors without a class axis, and `widest` is the largest value among them. `whole`
    lists those that run as emitted because of a call in them, each with its largest value, which has a class axis where
    one occurs.
    """

    name: str
    axes: tuple[AxisPlan, ...]
    rows_only: tuple[str, ...]
    widest: Intermediate | None
    sizes: Mapping[str, int]
    positions: Mapping[str, Axes]
    whole: tuple[Intermediate, ...] = ()
    classes: frozenset[str] = frozenset()
    pairs: tuple[PairsPlan, ...] = ()

    @property
    def largest(self) -> Intermediate | None:
        """The largest vocabulary-sized value that is materialized."""
        every = [entry for plan in self.axes for entry in plan.intermediates]
        every += [entry for entry in self.whole if self.classes & set(entry.axes)]
        return max(every, key=lambda entry: (entry.bytes or 0, len(entry.axes)), default=None)

    def render(self) -> str:
        """The plan as text."""
        from lossc.compiler.plan.show import render_plan

        return render_plan(self)

    def to_record(self) -> dict[str, object]:
        """The plan as a JSON object."""
        from lossc.compiler.plan.show import plan_record

        return plan_record(self)


def _sum(amounts: object) -> int | None:
    total = 0
    for amount in amounts:  # type: ignore[attr-defined]
        if amount is None:
            return None
        total += amount
    return total
