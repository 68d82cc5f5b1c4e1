"""The statistic table as plain data.

The graph of an objective over a class axis `v` is cut in three. *Row programs* read the vocabulary-sized streams and
accumulate the `statistics` of each row. The *seam*, a graph on rows, turns statistics into values. And the gradient of
a value L is

    dL/dx_j = sum_k (dL/dstatistic_k) * (d body_k / d x_j)        elementwise in j, where the mask of k holds.

The graphs of a table are core graphs over leaves: tensors and parameters of the caller, the `leaf` of every stream,
scalar and statistic (whose names begin with `@`, as no declared name does), and `Index` along the class axis. As in the
language, 0 * log 0 is 0: a centred entry of -inf does not count where it is multiplied by 0.
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
    """A derivative by the stream or scalar with the name `of`."""

    of: str
    value: Node


@dataclass(frozen=True)
class Stream:
    """A value indexed by the class axis: `dense` [rows, v] or a `column` [v].

    `source` is what the provider reads: a `tensor` or `parameter`, entries selected along the `rows` of one, inner
    products of two embeddings (`pairs`), the result of a torch operation (`computed`, with the `reason`), or, for a
    `centred` stream, its definition over other leaves, from which `sign * shift` is subtracted.
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
    """A row value that bodies read. It is known after `level` sweeps."""

    name: str
    leaf: Node
    value: Node
    level: int
    differentiable: bool


@dataclass(frozen=True)
class Merge:
    """How a statistic of one block of classes is moved to another shift, before the blocks are combined.

    Let delta be what the entries of a centred stream grow by. `rescale` is the sum of factor * statistic, where the
    statistic `size` is the number of classes. A `largest`, and an `owner` (the entry at the label, in the block that
    has it), move by `growth`. `add` and `any` need no rescaling. `first` is the position of the largest; `recount`
    counts the ties in the blocks that attain the largest. `rescan` has no such form: its shift must be final before the
    sweep.
    """

    kind: Combination
    terms: tuple[tuple[Node, str], ...] = ()
    growth: Node | None = None


@dataclass(frozen=True)
class Statistic:
    """`op` over the class axis of `body` where `mask`, known after `level` sweeps (0: entries read without a sweep).

    A `shift` is the largest entry, held constant, or 0 if that is not finite. A `select` reads `body` at the class
    `at`. `gradients` are d statistic / d entry of a stream; `sensitivities` are d statistic / d scalar, over statistics
    of the same sweep. `purpose` is why it is in the table: for the value, only for the gradient, or only for merging.
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
        """The row axes of its value."""
        return tuple(sorted(self.leaf.axes))


@dataclass(frozen=True)
class Root:
    """A value of the objective, over statistics and row values.

    If it is `separable`, a sum over rows of functions of one row each, then the coefficients of a row depend on no
    other row.
    """

    name: str
    value: Node
    separable: bool


@dataclass(frozen=True)
class Computed:
    """A value that a torch operation computes for a block, because it is no statistic; with the reason."""

    name: str
    leaf: Node
    node: Node
    reason: str


@dataclass(frozen=True)
class Table:
    """The statistics of one objective over one class axis.

    `order` names all entries, each after those that it needs.
    """

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
        """The number of sweeps for values and sensitivities; the gradient takes one more."""
        return max((statistic.level for statistic in self.statistics), default=0)

    def statistic(self, name: str) -> Statistic:
        return next(statistic for statistic in self.statistics if statistic.name == name)

    def stream(self, name: str) -> Stream:
        return next(stream for stream in self.streams if stream.name == name)
