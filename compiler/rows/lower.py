"""Graphs on rows as loops: what each loop reads, computes entry by entry, and reduces.

Selections at fixed positions, slices and renamed axes are read in place, at other indices; the result of a reduction is
kept in a buffer. A program is therefore a list of jobs, each of which computes one value over its axes. Jobs are
ordered by level: a job reads only buffers of lower levels. Every loop runs over axes of some tensor, so the work is
never more than that of reading the inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from lossc.compiler.core import (
    INFINITY,
    ZERO,
    Const,
    Index,
    Input,
    Map,
    Node,
    Param,
    Reduce,
    Rename,
    Select,
    Size,
    Slice,
    StopGrad,
    add,
    apply,
    const,
    div,
    neg,
    power,
    sub,
    walk,
    where,
)
from lossc.compiler.kernels.model import RowType, type_of
from lossc.compiler.rows.faults import NoRowsError
from lossc.compiler.rows.reverse import count_of

DEEPEST = 120
"""The deepest graph that is printed, since printing recurses."""

MOST = 2000
"""The most nodes."""

REDUCED = ("sum", "max", "min", "any", "all")

Places = Mapping[str, str]
"""The index along each axis as C text; along others it is that of the loop."""


class Reading(NamedTuple):
    """A tensor or parameter that is read, with the axes of its dimensions."""

    kind: Literal["tensor", "param"]
    name: str
    axes: tuple[str, ...]
    type: RowType


class Output(NamedTuple):
    """A value that is written out, with the axes of its dimensions."""

    name: str
    axes: tuple[str, ...]
    type: RowType


class Entry(NamedTuple):
    """What a leaf is inside a loop: an entry of a reading or of a buffer, or an index or extent as text."""

    kind: Literal["reading", "buffer", "text"]
    at: int
    text: str
    type: RowType
    indices: tuple[str, ...] = ()


class Job(NamedTuple):
    """One value: `body`, reduced by `op` over the axes `over` wherever `mask` holds.

    It goes into the buffer with the number `target`, or with the operation `store` into the output with that number.
    """

    level: int
    axes: tuple[str, ...]
    over: tuple[str, ...]
    op: str
    body: Node
    mask: Node | None
    target: int


class Buffer(NamedTuple):
    """A value kept over these axes, available to loops of higher levels."""

    axes: tuple[str, ...]
    type: RowType
    level: int


@dataclass
class Lowering:
    """A program under construction. `entries` says what every leaf in the bodies of jobs stands for."""

    readings: list[Reading] = field(default_factory=list)
    axes: dict[str, int] = field(default_factory=dict)
    buffers: list[Buffer] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    entries: dict[Node, Entry] = field(default_factory=dict)
    _kept: dict[Node, int] = field(default_factory=dict)
    _done: dict[tuple[Node, tuple[tuple[str, str], ...]], Node] = field(default_factory=dict)

    def add(self, values: Mapping[str, Node], outputs: Sequence[Output]) -> None:
        """Adds the jobs that compute these values, one for each output."""
        check_size(values.values())
        for axis in (*_numbered(values.values()), *(axis for output in outputs for axis in output.axes)):
            self.axes.setdefault(axis, len(self.axes))
        for node in walk(*values.values()):
            if isinstance(node, Reduce) and node.op in ("max", "min"):
                self.lowered(node, {})
        for at, output in enumerate(outputs):
            node = values[output.name]
            if not node.axes <= frozenset(output.axes):
                raise NoRowsError(f"`{output.name}` is delivered without some of its axes")
            body = self.lowered(node, {})
            self.jobs.append(Job(self._level(body), self.sorted(output.axes), (), "store", body, None, at))
        self._check_loops()

    def sorted(self, axes: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted(axes, key=self.axes.__getitem__))

    def index(self, axis: str, places: Places) -> str:
        return places.get(axis, f"i{self.axes[axis]}")

    def nests(self) -> Iterator[list[Job]]:
        """Jobs grouped by the loops that they share, in the order in which they run."""
        found: dict[tuple[int, tuple[str, ...], tuple[str, ...]], list[Job]] = {}
        for job in self.jobs:
            found.setdefault((job.level, job.axes, job.over), []).append(job)
        yield from (found[key] for key in sorted(found, key=lambda key: key[0]))

    def _level(self, *bodies: Node | None) -> int:
        leaves = (self.entries.get(leaf) for leaf in walk(*(body for body in bodies if body is not None)))
        return max((self.buffers[e.at].level for e in leaves if e is not None and e.kind == "buffer"), default=0)

    def _check_loops(self) -> None:
        known = [frozenset(reading.axes) for reading in self.readings]
        for job in self.jobs:
            if not any(frozenset(job.axes + job.over) <= axes for axes in (*known, frozenset())):
                raise NoRowsError("a value has axes that no tensor has together")

    # -------------------------------------------------------------------------------------- nodes

    def lowered(self, node: Node, places: Places) -> Node:
        """The graph in terms of entries at these indices."""
        key = (node, tuple((axis, places[axis]) for axis in sorted(node.axes) if axis in places))
        if key not in self._done:
            self._done[key] = self._lowered(node, places)
        return self._done[key]

    def _lowered(self, node: Node, places: Places) -> Node:
        match node:
            case Const():
                return node
            case Input() | Param():
                return self._read(node, places)
            case Index(axis=axis):
                return self._leaf(Entry("text", 0, f"(int)({self.index(axis, places)})", "integer"), node)
            case Size(axis=axis):
                self.axes.setdefault(axis, len(self.axes))
                return self._leaf(Entry("text", 0, f"(double)n{self.axes[axis]}", "number"), node)
            case StopGrad(body=body):
                return self.lowered(body, places)
            case Map(function=function, arguments=arguments):
                return Map(function, tuple(self.lowered(argument, places) for argument in arguments))
            case Select(body=body, axis=axis, at=int() as at) if at >= 0:
                return self.lowered(body, {**places, axis: str(at)})
            case Slice(body=body, axis=axis, new=new, start=start):
                return self.lowered(body, {**places, axis: f"({self.index(new, places)} + {start})"})
            case Rename(body=body, old=old, new=new):
                return self.lowered(body, {**places, old: self.index(new, places)})
            case Reduce():
                return self._reduced(node, places)
        raise NoRowsError(f"`{type(node).__name__}` is no operation on rows")

    def _read(self, node: Input | Param, places: Places) -> Node:
        kind: Literal["tensor", "param"] = "param" if isinstance(node, Param) else "tensor"
        reading = Reading(kind, node.name, node.order, type_of(node))
        if reading not in self.readings:
            self.readings.append(reading)
        indices = tuple(self.index(axis, places) for axis in node.order)
        return self._leaf(Entry("reading", self.readings.index(reading), "", reading.type, indices), node)

    def _leaf(self, entry: Entry, node: Node) -> Node:
        """A fresh leaf for an entry, with the bounds known for the node."""
        kind = getattr(node, "kind", "mask" if node.is_mask else "real")
        name = f"@{entry.kind} {entry.at} {entry.text} {' '.join(entry.indices)}"
        leaf = Input(name, (), kind, node.domain)
        self.entries[leaf] = entry
        return leaf

    # -------------------------------------------------------------------------------------- reductions

    def _reduced(self, node: Reduce, places: Places) -> Node:
        simple = _in_simple_terms(node)
        if simple is not node:
            return self.lowered(simple, places)
        if node.groups is not None or node.op not in REDUCED:
            raise NoRowsError(f"`{node.op}` is no reduction on rows")
        if node not in self._kept:
            self._kept[node] = self._keep(node)
        at = self._kept[node]
        indices = tuple(self.index(axis, places) for axis in self.buffers[at].axes)
        return self._leaf(Entry("buffer", at, "", self.buffers[at].type, indices), node)

    def _keep(self, node: Reduce) -> int:
        mask = None if node.where is None else self.lowered(node.where, {})
        body = self.lowered(node.body, {})
        if node.op in ("max", "min") and self.entries.get(body) is None:
            body = self._held(node, body)
        level = self._level(body, mask)
        axes = self.sorted(node.axes)
        self.buffers.append(Buffer(axes, "mask" if node.is_mask else "number", level + 1))
        self.jobs.append(Job(level, axes, self.sorted(node.over), node.op, body, mask, len(self.buffers) - 1))
        return len(self.buffers) - 1

    def _held(self, node: Reduce, body: Node) -> Node:
        """The entries under an extremum, in a buffer: ties are found by comparing, which needs the very same numbers."""
        if node.body not in self._kept:
            level = self._level(body)
            self.buffers.append(Buffer(self.sorted(node.body.axes), "number", level + 1))
            self._kept[node.body] = len(self.buffers) - 1
            self.jobs.append(Job(level, self.sorted(node.body.axes), (), "keep", body, None, self._kept[node.body]))
            leaf = Entry("buffer", self._kept[node.body], "", "number",
                         tuple(self.index(axis, {}) for axis in self.sorted(node.body.axes)))  # fmt: skip
            self._done[node.body, ()] = self._leaf(leaf, node.body)
        return self._done[node.body, ()]


def check_size(values: Iterable[Node]) -> None:
    """Raises NoRowsError for graphs too large to be worth compiling."""
    depths: dict[Node, int] = {}
    for node in walk(*values):
        depths[node] = 1 + max((depths[child] for child in node.children), default=0)
    if len(depths) > MOST or max(depths.values(), default=0) > DEEPEST:
        raise NoRowsError("the program is too large")


def _in_simple_terms(node: Reduce) -> Node:
    """A reduction in terms of simpler ones: counts, moments, logsumexp as a sum of centred exponentials."""
    if node.groups is not None:
        return node
    if node.op == "count":
        return count_of(node)
    if node.op == "mean":
        number = count_of(node)
        summed = Reduce("sum", node.over, node.body, node.where)
        return where(apply("lt", ZERO, number), div(summed, number), ZERO)
    if node.op in ("var", "std"):
        return _spread(node)
    if node.op == "logsumexp":
        largest = Reduce("max", node.over, node.body, node.where)
        shifted = Reduce("sum", node.over, apply("exp", sub(node.body, largest)), node.where)
        infinite = apply("eq", apply("abs", largest), INFINITY)
        empty = Reduce("any", node.over, apply("eq", ZERO, ZERO), node.where)
        return where(empty, where(infinite, largest, add(largest, apply("log", shifted))), neg(INFINITY))
    return node


def _spread(node: Reduce) -> Node:
    """sum (x - mean)^2 / (n - ddof), 0 where n <= ddof; or its root."""
    centred = sub(node.body, Reduce("mean", node.over, node.body, node.where))
    squares = Reduce("sum", node.over, power(centred, const(2)), node.where)
    freedom = sub(count_of(node), ZERO if node.option is None else node.option)
    variance = where(apply("lt", ZERO, freedom), div(squares, freedom), ZERO)
    return variance if node.op == "var" else apply("sqrt", variance)


def _numbered(values: Iterable[Node]) -> Iterator[str]:
    """The axes in the order of the longest tensors; loops nest in this order."""
    found: dict[str, None] = {}
    nodes = list(walk(*values))
    leaves = [node.order for node in nodes if isinstance(node, Input | Param)]
    for order in sorted(leaves, key=lambda order: (-len(order), order)):
        found |= dict.fromkeys(order)
    for node in nodes:
        found |= dict.fromkeys(sorted(node.axes))
    yield from found
