"""The statistic table as plain data.

An objective over a class axis `v` is cut in three. *Row programs* read what is vocabulary-sized and accumulate the
`statistics`; the *seam*, a core graph on rows, turns them into values; and the gradient of a value L is

    dL/dx_j = sum_k (dL/dstatistic_k) * (d body_k / d x_j)        elementwise in j, where the mask of k holds.

Graphs in the table are core over leaves: the caller's tensors and parameters, `leaf` of every stream, scalar and
statistic (their names begin with `@`, which no name of a program does), and `Index` along the class axis. In bodies as in
the language 0 * log 0 is 0: a centred stream that is -inf does not count where it is multiplied by 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lossc.compiler.core import Node

Operation = Literal["shift", "sum", "max", "ties", "any", "argmax", "select"]
Provider = Literal["tensor", "parameter", "rows", "draw", "pairs", "computed", "centred"]
Combination = Literal["largest", "add", "rescale", "any", "first", "owner", "recount", "rescan"]
Purpose = Literal["value", "gradient", "merge"]


@dataclass(frozen=True)
class Slope:
    """The derivative with respect to the stream or scalar called `of`."""

    of: str
    value: Node


@dataclass(frozen=True)
class Stream:
    """What the class axis indexes: `dense` [rows, v] or a `column` [v].

    `source` is what the provider reads: a tensor or parameter, entries picked along its rows (`rows`), inner products of
    two embeddings (`pairs`), what a torch operation delivers (`computed`, with the reason), or, for a `centred` stream,
    its definition over other leaves, `sign * shift` subtracted.
    """

    name: str
    leaf: Node
    shape: Literal["dense", "column"]
    provider: Provider
    source: Node
    differentiable: bool
    shift: str | None = None
    sign: int = 1
    reason: str = ""


@dataclass(frozen=True)
class Scalar:
    """A row value that stands in bodies; known after `level` sweeps."""

    name: str
    leaf: Node
    value: Node
    level: int
    differentiable: bool


@dataclass(frozen=True)
class Merge:
    """How a statistic of one block of classes is brought to another shift, before the blocks are combined.

    With `delta` of a centred stream = what its entries grow by: `rescale` is the sum of factor * statistic, where the
    statistic `size` is the number of classes; a `largest`, and an `owner` (the block that holds the label), move by `growth`.
    `add` and `any` need no rescaling; `first` is the position of the largest; `recount` counts the ties of the
    blocks that attain the largest; `rescan` has no such form, and its shift must be final before the sweep.
    """

    kind: Combination
    terms: tuple[tuple[Node, str], ...] = ()
    growth: Node | None = None


@dataclass(frozen=True)
class Statistic:
    """`op` over the class axis of `body` where `mask`, known after `level` sweeps (0: read at once).

    A `shift` is the largest entry, a constant, 0 where that is not finite. A `select` reads `body` at the class `at`.
    `gradients` are d statistic / d stream entry, `sensitivities` d statistic / d scalar as expressions over statistics
    of the same sweep. `purpose` says whether the value needs it, only the gradient, or only merging.
    """

    name: str
    leaf: Node
    op: Operation
    body: Node
    mask: Node | None
    at: Node | int | None
    level: int
    purpose: Purpose
    gradients: tuple[Slope, ...] = ()
    sensitivities: tuple[Slope, ...] = ()
    merge: Merge = Merge("add")

    @property
    def rows(self) -> tuple[str, ...]:
        """The axes of its value."""
        return tuple(sorted(self.leaf.axes))


@dataclass(frozen=True)
class Root:
    """A value of the objective over statistics and row values.

    Where it is `separable`, a sum over rows of functions of one row each, the coefficients of a row need no other row.
    """

    name: str
    value: Node
    separable: bool


@dataclass(frozen=True)
class Computed:
    """What does not fit: a torch operation on the chunk delivers it."""

    name: str
    leaf: Node
    node: Node
    reason: str


@dataclass(frozen=True)
class Table:
    """The statistics of one objective over one class axis; `order` names what is evaluated, each after what it needs."""

    axis: str
    streams: tuple[Stream, ...]
    scalars: tuple[Scalar, ...]
    statistics: tuple[Statistic, ...]
    computed: tuple[Computed, ...]
    seam: tuple[Root, ...]
    order: tuple[str, ...]
    deltas: tuple[tuple[str, Node], ...] = ()
    """The leaf that stands for the move of each centred stream in a merge."""

    @property
    def levels(self) -> int:
        """The number of sweeps that values and sensitivities take; the gradient takes one more."""
        return max((statistic.level for statistic in self.statistics), default=0)

    def statistic(self, name: str) -> Statistic:
        return next(statistic for statistic in self.statistics if statistic.name == name)

    def stream(self, name: str) -> Stream:
        return next(stream for stream in self.streams if stream.name == name)
