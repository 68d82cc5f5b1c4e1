"""The core: one typed graph of about a dozen node types, between what was written and what runs.

Nodes are immutable and hash-consed: equal expressions are one node, compared by identity. Each node derives its named
axes and its domain (the interval of its values) from its parts. Absence has been compiled away: where a value can be
absent, the graph holds masks. `Reduce.where`, and the condition of `where`, mean *unseen*: an entry that they exclude
contributes neither value nor gradient, whatever stands there, NaN included.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any, ClassVar, Literal, TypeVar, cast
from weakref import WeakValueDictionary

from lossc.compiler import intervals as iv
from lossc.compiler.intervals import Interval
from lossc.compiler.primitives import PRIMITIVES

Axes = frozenset[str]
NO_AXES: Axes = frozenset()

ReduceOp = Literal["sum", "mean", "prod", "max", "min", "logsumexp", "std", "var", "any", "all", "argmax", "quantile",
                   "median", "count"]  # fmt: skip
AlongOp = Literal["softmax", "log_softmax", "cumsum", "cumprod", "cummax", "cumlogsumexp", "rank", "shift", "scan", "sort",
                  "topk"]  # fmt: skip


class _Interned(type):
    """Makes equal constructions return one object."""

    _table: WeakValueDictionary[tuple[Any, ...], Any] = WeakValueDictionary()

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


# ------------------------------------------------------------------------------------------------ leaves


@dataclass(frozen=True, eq=False)
class Input(Node):
    """A tensor of the batch. `order` is the order of its dimensions; `kind` is `label`, `mask` or another kind."""

    name: str
    order: tuple[str, ...]
    kind: str = "real"
    bounds: Interval = iv.REAL
    detached: bool = False

    def _axes(self) -> Axes:
        return frozenset(self.order)

    def _domain(self) -> Interval:
        return iv.MASK if self.kind == "mask" else self.bounds

    @property
    def is_mask(self) -> bool:
        return self.kind == "mask"


@dataclass(frozen=True, eq=False)
class Const(Node):
    """An exact rational, or `pi` or `inf`; rounded once, on emission."""

    value: Fraction | Literal["pi", "inf"]

    def _domain(self) -> Interval:
        return iv.point(float(self))

    def __float__(self) -> float:
        if self.value == "pi":
            return math.pi
        try:
            return float(self.value)
        except OverflowError:
            return math.copysign(math.inf, cast(Fraction, self.value))


@dataclass(frozen=True, eq=False)
class Param(Node):
    """A run-time value: `param` (fixed for a run), `learn` (trained), `state`, or `run` (`step`, `progress`)."""

    name: str
    role: Literal["param", "learn", "state", "run"] = "param"
    order: tuple[str, ...] = ()
    bounds: Interval = iv.REAL

    def _axes(self) -> Axes:
        return frozenset(self.order)

    def _domain(self) -> Interval:
        return self.bounds


@dataclass(frozen=True, eq=False)
class Index(Node):
    """The position along an axis, from 0."""

    axis: str

    def _axes(self) -> Axes:
        return frozenset((self.axis,))

    def _domain(self) -> Interval:
        return Interval(0, iv.INF, integer=True)


@dataclass(frozen=True, eq=False)
class Size(Node):
    """The extent of an axis, padding included."""

    axis: str

    def _domain(self) -> Interval:
        return Interval(1, iv.INF, integer=True)


@dataclass(frozen=True, eq=False)
class Draw(Node):
    """A random tensor, seeded by its place in the program and the step."""

    distribution: Literal["normal", "uniform"]
    order: tuple[str, ...]
    place: int

    def _axes(self) -> Axes:
        return frozenset(self.order)

    def _domain(self) -> Interval:
        return iv.UNIT if self.distribution == "uniform" else iv.REAL


# ------------------------------------------------------------------------------------------------ operations


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
    if op in ("count", "argmax"):
        return Interval(-1 if op == "argmax" else 0, iv.INF, integer=True)
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


@dataclass(frozen=True, eq=False)
class Call(Node):
    """A function that is not elementwise and not a reduction: linear algebra, a model, an extern, a search.

    `consumed` axes are removed, `produced` ones added; `text` carries fixed options of the function.
    """

    function: str
    arguments: tuple[Node, ...]
    consumed: tuple[str, ...] = ()
    produced: tuple[str, ...] = ()
    bounds: Interval = iv.REAL
    text: str = ""

    def _axes(self) -> Axes:
        inner = NO_AXES.union(*(child.axes for child in self.arguments))
        return (inner - frozenset(self.consumed)) | frozenset(self.produced)

    def _domain(self) -> Interval:
        return self.bounds

    @property
    def children(self) -> tuple[Node, ...]:
        return self.arguments

    def rebuild(self, children: tuple[Node, ...]) -> Node:
        return Call(self.function, children, self.consumed, self.produced, self.bounds, self.text)


# ------------------------------------------------------------------------------------------------ construction

ZERO = Const(Fraction(0))
ONE = Const(Fraction(1))
HALF = Const(Fraction(1, 2))
INFINITY = Const("inf")
PI = Const("pi")


def const(value: int | Fraction | str) -> Const:
    return Const(Fraction(value))


def apply(function: str, *arguments: Node) -> Node:
    return Map(function, arguments)


def add(*terms: Node) -> Node:
    """The sum, flattened; without terms 0."""
    flat = _flatten("add", terms)
    return Map("add", flat) if len(flat) > 1 else flat[0] if flat else ZERO


def mul(*factors: Node) -> Node:
    """The product, flattened; without factors 1."""
    flat = _flatten("mul", factors)
    return Map("mul", flat) if len(flat) > 1 else flat[0] if flat else ONE


def _flatten(function: str, parts: Iterable[Node]) -> tuple[Node, ...]:
    flat: list[Node] = []
    for part in parts:
        flat.extend(part.arguments if isinstance(part, Map) and part.function == function else (part,))
    return tuple(flat)


def neg(x: Node) -> Node:
    if isinstance(x, Const) and isinstance(x.value, Fraction):
        return Const(-x.value)
    return mul(Const(Fraction(-1)), x)


def sub(x: Node, y: Node) -> Node:
    return add(x, neg(y))


def div(x: Node, y: Node) -> Node:
    return Map("div", (x, y))


def power(x: Node, y: Node) -> Node:
    return Map("pow", (x, y))


def all_of(*masks: Node | None) -> Node | None:
    """The conjunction of the masks that are given; None is true."""
    result: Node | None = None
    for mask in dict.fromkeys(masks):
        if mask is not None:
            result = mask if result is None else Map("and", (result, mask))
    return result


def where(condition: Node | None, then: Node, otherwise: Node) -> Node:
    return then if condition is None or then is otherwise else Map("where", (condition, then, otherwise))


# ------------------------------------------------------------------------------------------------ traversal

R = TypeVar("R")


def walk(*roots: Node) -> Iterator[Node]:
    """Every node reachable from `roots` once, parts before wholes."""
    seen: set[int] = set()
    stack: list[tuple[Node, bool]] = [(root, False) for root in reversed(roots)]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            yield node
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((child, False) for child in reversed(node.children))


def rewrite(root: Node, step: Callable[[Node], Node], memo: dict[Node, Node] | None = None) -> Node:
    """The graph with `step` applied to every node, parts first."""
    done: dict[Node, Node] = {} if memo is None else memo
    for node in walk(root):
        if node not in done:
            children = tuple(done[child] for child in node.children)
            done[node] = step(node if children == node.children else node.rebuild(children))
    return done[root]


def substitute(root: Node, replacements: dict[Node, Node]) -> Node:
    """The graph with some nodes replaced by others."""
    done: dict[Node, Node] = dict(replacements)
    for node in walk(root):
        if node not in done:
            done[node] = node.rebuild(tuple(done[child] for child in node.children)) if node.children else node
    return done[root]


def depends_on(root: Node, leaf: Node) -> bool:
    return any(node is leaf for node in walk(root))
