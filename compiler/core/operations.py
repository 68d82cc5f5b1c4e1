"""The operations of the graph: elementwise functions, reductions, selections, operations along an axis, calls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from lossc.compiler import intervals as iv
from lossc.compiler.core.node import NO_AXES, Axes, Node
from lossc.compiler.core.traverse import walk
from lossc.compiler.intervals import Interval
from lossc.compiler.primitives import PRIMITIVES

ReduceOp = Literal["sum", "mean", "prod", "max", "min", "logsumexp", "std", "var", "any", "all", "argmax", "quantile",
                   "median", "count"]  # fmt: skip
AlongOp = Literal["softmax", "log_softmax", "cumsum", "cumprod", "cummax", "cumlogsumexp", "rank", "shift", "scan", "sort",
                  "topk"]  # fmt: skip

REDUCE_OPS: Final[tuple[ReduceOp, ...]] = get_args(ReduceOp)
ALONG_OPS: Final[tuple[AlongOp, ...]] = get_args(AlongOp)


@dataclass(frozen=True, eq=False)
class Map(Node):
    """A primitive of the table, elementwise, its operands aligned by axis name."""

    function: str
    arguments: tuple[Node, ...]

    def _domain(self) -> Interval:
        return PRIMITIVES[self.function].image(*(argument.domain for argument in self.arguments))

    @property
    def children(self) -> tuple[Node, ...]:
        return self.arguments

    def rebuild(self, children: tuple[Node, ...]) -> Node:
        return Map(self.function, children)

    @property
    def is_mask(self) -> bool:
        if self.function == "where":
            return self.arguments[1].is_mask and self.arguments[2].is_mask
        return PRIMITIVES[self.function].mask


@dataclass(frozen=True, eq=False)
class Reduce(Node):
    """`op` over `over`, of the entries that `where` admits.

    With `groups` (a label, >= 0 where it is a member, and the axis of the groups) entries are reduced within their group
    and the result has that axis. `count` has a body only to carry axes. `option` is the level of a quantile or the ddof
    of var and std. Of no entries: sum and count are 0, prod 1, logsumexp -inf, any false, all true, the rest 0; what is
    absent then is masked by the graph around it.
    """

    op: ReduceOp
    over: tuple[str, ...]
    body: Node
    where: Node | None = None
    groups: tuple[Node, str] | None = None
    option: Node | None = None

    def _axes(self) -> Axes:
        inner = NO_AXES.union(*(child.axes for child in self.children)) - frozenset(self.over)
        return inner | {self.groups[1]} if self.groups else inner

    def _domain(self) -> Interval:
        if self.op == "argmax":
            never_none = self.where is None and self.groups is None
            return Interval(0 if never_none else -1, iv.INF, integer=True)
        return _reduce_domain(self.op, self.body.domain)

    @property
    def children(self) -> tuple[Node, ...]:
        label = self.groups[0] if self.groups else None
        return tuple(child for child in (self.body, self.where, label, self.option) if child is not None)

    def rebuild(self, children: tuple[Node, ...]) -> Node:
        left = iter(children)
        body = next(left)
        where = next(left) if self.where is not None else None
        groups = (next(left), self.groups[1]) if self.groups else None
        return Reduce(self.op, self.over, body, where, groups, next(left) if self.option is not None else None)

    @property
    def is_mask(self) -> bool:
        return self.op in ("any", "all")


def _reduce_domain(op: str, body: Interval) -> Interval:
    if op in ("mean", "max", "min", "median", "quantile"):
        return body.hull(iv.point(0))
    if op == "sum":
        return Interval(0 if body.nonneg else -iv.INF, 0 if body.nonpos else iv.INF, integer=body.integer)
    if op in ("any", "all"):
        return iv.MASK
    if op == "count":
        return Interval(0, iv.INF, integer=True)
    if op in ("std", "var"):
        return iv.NONNEG
    if op == "prod":
        return iv.UNIT if body.within(iv.UNIT) else iv.NONNEG if body.nonneg else iv.REAL
    return iv.REAL


@dataclass(frozen=True, eq=False)
class Select(Node):
    """The entry of `body` at `at` along `axis`: a label or index (a node), or a fixed position (an int).

    A label that is *none* reads position 0; the graph around masks the result.
    """

    body: Node
    axis: str
    at: Node | int

    def _axes(self) -> Axes:
        index = self.at.axes if isinstance(self.at, Node) else NO_AXES
        return (self.body.axes - {self.axis}) | index

    def _domain(self) -> Interval:
        return self.body.domain

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.body, self.at) if isinstance(self.at, Node) else (self.body,)

    def rebuild(self, children: tuple[Node, ...]) -> Node:
        return Select(children[0], self.axis, children[1] if isinstance(self.at, Node) else self.at)

    @property
    def is_mask(self) -> bool:
        return self.body.is_mask


@dataclass(frozen=True, eq=False)
class Slice(Node):
    """Positions `start` to `stop` (exclusive) of `axis`, on the new axis `new`."""

    body: Node
    axis: str
    new: str
    start: int
    stop: int

    def _axes(self) -> Axes:
        return (self.body.axes - {self.axis}) | {self.new}

    def _domain(self) -> Interval:
        return self.body.domain

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.body,)

    def rebuild(self, children: tuple[Node, ...]) -> Node:
        return Slice(children[0], self.axis, self.new, self.start, self.stop)

    @property
    def is_mask(self) -> bool:
        return self.body.is_mask


@dataclass(frozen=True, eq=False)
class Rename(Node):
    """The same values with axis `old` under the name `new`."""

    body: Node
    old: str
    new: str

    def _axes(self) -> Axes:
        return (self.body.axes - {self.old}) | {self.new}

    def _domain(self) -> Interval:
        return self.body.domain

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.body,)

    def rebuild(self, children: tuple[Node, ...]) -> Node:
        return Rename(children[0], self.old, self.new)

    @property
    def is_mask(self) -> bool:
        return self.body.is_mask


@dataclass(frozen=True, eq=False)
class Along(Node):
    """`op` along `axis`, which stays (or becomes `new` for `sort` and `topk`); entries outside `where` do not exist.

    `by` starts anew with each value of a label; `option` is the key of `sort`, the decay of `scan`, the amount of
    `shift`, the number of `topk`; `fill` what `shift` brings in.
    """

    op: AlongOp
    axis: str
    body: Node
    where: Node | None = None
    by: Node | None = None
    option: Node | None = None
    fill: Node | None = None
    new: str | None = None

    def _axes(self) -> Axes:
        inner = NO_AXES.union(*(child.axes for child in self.children))
        return (inner - {self.axis}) | {self.new} if self.new else inner

    def _domain(self) -> Interval:
        body = self.body.domain
        if self.op == "softmax":
            return iv.UNIT if self.where is not None else Interval(0, 1, True, True)
        if self.op == "log_softmax":
            return iv.LOGPROB
        if self.op == "rank":
            return Interval(0, iv.INF, integer=True)
        if self.op in ("cummax", "sort", "topk", "shift"):
            return body.hull(iv.point(0))
        return iv.NONNEG if body.nonneg and self.op in ("cumsum", "cumprod") else iv.REAL

    @property
    def is_mask(self) -> bool:
        return self.op == "shift" and self.body.is_mask

    @property
    def children(self) -> tuple[Node, ...]:
        return tuple(c for c in (self.body, self.where, self.by, self.option, self.fill) if c is not None)

    def rebuild(self, children: tuple[Node, ...]) -> Node:
        left = iter(children)
        old = (self.where, self.by, self.option, self.fill)
        body = next(left)
        where, by, option, fill = (next(left) if part is not None else None for part in old)
        return Along(self.op, self.axis, body, where, by, option, fill, self.new)


@dataclass(frozen=True, eq=False)
class StopGrad(Node):
    """The value of `body` with derivative zero; never merged away."""

    body: Node

    def _domain(self) -> Interval:
        return self.body.domain

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.body,)

    def rebuild(self, children: tuple[Node, ...]) -> Node:
        return StopGrad(children[0])

    @property
    def is_mask(self) -> bool:
        return self.body.is_mask


BINDING = ("grad", "worst", "root", "fold")
"""Calls that bind a variable; of `grad`, some do."""
OPAQUE = ("model", "extern", *BINDING)
"""Calls that run the caller's code or bind a variable."""


@dataclass(frozen=True, eq=False)
class Call(Node):
    """A function that is not elementwise and not a reduction: linear algebra, a model, an extern, a search, a fold.

    `consumed` axes are removed, `produced` ones added. `order` are the axes that the bracket of the function names, in that
    order; `names` says of each argument by which name it is given ("": by its place; "where": a mask); `options` is what else
    is fixed. Where a call binds a `Local`, it is their second argument.
    """

    function: str
    arguments: tuple[Node, ...]
    consumed: tuple[str, ...] = ()
    produced: tuple[str, ...] = ()
    bounds: Interval = iv.REAL
    options: tuple[object, ...] = ()
    order: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def _axes(self) -> Axes:
        inner = NO_AXES.union(*(child.axes for child in self.arguments))
        return (inner - frozenset(self.consumed)) | frozenset(self.produced)

    @property
    def is_opaque(self) -> bool:
        """Whether the value is more than an expression of its arguments.

        Such a call runs the caller's code, binds a variable, or follows the leaves of a group of weights.
        """
        return self.function in OPAQUE or self.function.startswith("leaf:")

    @property
    def mixed(self) -> Axes:
        """The axes along which it mixes entries; those that a function of the caller takes and gives may be mixed too."""
        if not self.is_opaque:
            return frozenset((*self.consumed, *self.produced))
        steps = self.order[:1] if self.function == "fold" else ()
        return (frozenset(self.consumed) ^ frozenset(self.produced)) | frozenset(steps)

    def given(self, name: str) -> Node | None:
        """The argument that is given by a name."""
        return next((argument for argument, own in zip(self.arguments, self.names, strict=False) if own == name), None)

    def _domain(self) -> Interval:
        return self.bounds

    @property
    def children(self) -> tuple[Node, ...]:
        return self.arguments

    def rebuild(self, children: tuple[Node, ...]) -> Node:
        return replace(self, arguments=children)


def own_axes(node: Node) -> Axes:
    """The axes that a node removes, makes or runs along."""
    match node:
        case Reduce(over=over, groups=groups):
            return frozenset(over) | ({groups[1]} if groups else frozenset())
        case Along(axis=axis, new=new):
            return frozenset((axis, new)) if new else frozenset((axis,))
        case Rename(old=old, new=new):
            return frozenset((old, new))
        case Slice(axis=axis, new=new):
            return frozenset((axis, new))
        case Select(axis=axis):
            return frozenset((axis,))
        case Call(consumed=consumed, produced=produced):
            return frozenset(consumed) | frozenset(produced)
    return NO_AXES


def mixed_axes(root: Node, part: Node) -> Axes:
    """The axes along which an operation between a part of a graph and its root mixes entries."""
    reached: set[Node] = set()
    found = NO_AXES
    for node in walk(root):
        if node is part or any(child in reached for child in node.children):
            reached.add(node)
            found |= node.mixed if isinstance(node, Call) else own_axes(node)
    return found
