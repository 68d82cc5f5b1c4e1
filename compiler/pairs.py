"""Objectives over matrices of all pairs that a head makes, as parts that each go through the matrix along one of its axes.

What runs along the rows of a matrix `s[r, c]` has the class axis `c`; what runs along its columns has the class axis `r`, over
the transposed matrix. A root that has both becomes a sum of roots of one kind where it is one:

    mean[r](f[r] + g[c -> r]) = mean[r](f) + mean[c](g)

and otherwise what runs along the other axis is a value of its own, known before the root:

    logsumexp[c](s - logsumexp[r](s))   ->   L[c] = logsumexp[r](s),   logsumexp[c](s - L)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from lossc.compiler.core import (
    ONE,
    ZERO,
    Along,
    Call,
    Index,
    Input,
    Map,
    Node,
    Reduce,
    Rename,
    Select,
    Size,
    Slice,
    StopGrad,
    add,
    all_of,
    apply,
    differentiable,
    div,
    mul,
    sub,
    walk,
    where,
)
from lossc.compiler.emission.prepare import recursion_for
from lossc.compiler.table import is_opaque

FACTORS = {"mul": None, "div": 0, "where": 1}
"""Functions that are linear in one argument, with its place."""


@dataclass(frozen=True)
class Part:
    """Roots over one class axis, or (`axis` None) over none; `masks` are where some of them are seen."""

    axis: str | None
    roots: dict[str, Node]
    masks: dict[str, Node]


@dataclass(frozen=True)
class Crossed:
    """`parts` in the order in which they are worked out; a root of `sums` is the sum of the roots named there.

    Roots among `leaves` are tensors of later parts, as `transposed` matrices are, by the name of the matrix; `leaves` and
    `orders` are the axes of both.
    """

    parts: tuple[Part, ...]
    sums: dict[str, tuple[str, ...]]
    leaves: dict[str, tuple[str, ...]]
    transposed: dict[str, str]
    orders: dict[str, tuple[str, ...]]

    @property
    def covered(self) -> frozenset[str]:
        """The roots that are worked out here."""
        return frozenset(self.sums)


class _UncrossableError(Exception):
    """A root that needs the matrix, or more than one of its axes at once."""


def crossed(roots: Mapping[str, Node], seen: Mapping[str, Node], heads: Iterable[str]) -> tuple[Crossed, ...]:
    """The roots that read matrices made by heads, for each pair of axes that such matrices have."""
    names = frozenset(heads)
    found = dict.fromkeys(node for node in walk(*roots.values()) if isinstance(node, Input) and node.name in names)
    groups: dict[tuple[str, ...], list[Input]] = {}
    for node in found:
        if len(node.order) == 2:
            groups.setdefault(node.order, []).append(node)
    done: frozenset[str] = frozenset()
    results = []
    with recursion_for({**roots, **{f"mask of {name}": mask for name, mask in seen.items()}}):
        for (rows, classes), matrices in groups.items():
            left = {name: root for name, root in roots.items() if name not in done}
            result = _Crossing(rows, classes, matrices).run(left, seen)
            done |= result.covered
            results.append(result)
    return tuple(results)


@dataclass
class _Definition:
    """What a leaf stands for: a root over `axis`, after `layer` others."""

    axis: str | None
    value: Node
    layer: int


@dataclass
class _Crossing:
    """The roots over matrices `[rows, classes]`; definitions fill while it goes."""

    rows: str
    classes: str
    matrices: list[Input]
    definitions: dict[Node, _Definition] = field(default_factory=dict)
    _leaves: dict[tuple[Node, str | None], Input] = field(default_factory=dict)
    _done: dict[tuple[Node, str | None], Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.both = frozenset((self.rows, self.classes))
        self.turned: dict[Node, Input] = {}
        for matrix in self.matrices:
            order = (self.classes, self.rows)
            self.turned[matrix] = Input(f"transposed {matrix.name}", order, matrix.kind, matrix.bounds, matrix.detached)
        self._depends: dict[Node, bool] = {}

    def run(self, roots: Mapping[str, Node], seen: Mapping[str, Node]) -> Crossed:
        groups: dict[tuple[int, bool, str | None], Part] = {}
        sums: dict[str, tuple[str, ...]] = {}
        for name, root in roots.items():
            if not self.depends(root) or self.both <= root.axes or is_opaque(root):
                continue
            pieces = self._pieces(root, seen.get(name))
            if not pieces:
                continue
            named = {name if len(pieces) == 1 else f"{name} {at}": piece for at, piece in enumerate(pieces)}
            sums[name] = tuple(named)
            for key, (axis, value, mask) in named.items():
                part = groups.setdefault((self._layer(value, mask), True, axis), Part(axis, {}, {}))
                part.roots[key] = value
                if mask is not None:
                    part.masks[key] = mask
        used = self._used(value for part in groups.values() for value in (*part.roots.values(), *part.masks.values()))
        for leaf, made in used.items():
            groups.setdefault((made.layer, False, made.axis), Part(made.axis, {}, {})).roots[leaf.name] = made.value
        ordered = sorted(groups.items(), key=lambda item: (item[0][0], item[0][1], item[0][2] or ""))
        leaves = {leaf.name: leaf.order for leaf in used}
        names = {matrix.name: self.turned[matrix].name for matrix in self.matrices}
        orders: dict[str, tuple[str, ...]] = dict.fromkeys(names.values(), (self.classes, self.rows))
        return Crossed(tuple(part for _, part in ordered), sums, leaves, names, orders)

    def _used(self, values: Iterable[Node]) -> dict[Input, _Definition]:
        """The definitions of the leaves that values read, and of those that these read."""
        found: dict[Input, _Definition] = {}
        stack = list(values)
        while stack:
            for node in walk(stack.pop()):
                if isinstance(node, Input) and node in self.definitions and node not in found:
                    found[node] = self.definitions[node]
                    stack.append(found[node].value)
        return found

    def _pieces(self, root: Node, mask: Node | None) -> list[tuple[str | None, Node, Node | None]]:
        """The root as summands, each with its class axis and the mask outside of which it is not seen."""
        try:
            found: dict[str | None, list[Node]] = {}
            for summand in self._summands(root) if mask is None else [root]:
                axis = self._axis_of(summand)
                found.setdefault(axis, []).append(self.of(summand, axis))
            return [(axis, add(*parts), None if mask is None else self.of(mask, axis)) for axis, parts in found.items()]
        except _UncrossableError:
            return [] if self.classes in root.axes else [(self.classes, root, mask)]

    def _layer(self, *values: Node | None) -> int:
        """One more than that of the last leaf that the values read."""
        read = walk(*(value for value in values if value is not None))
        return 1 + max((self.definitions[node].layer for node in read if node in self.definitions), default=0)

    # -------------------------------------------------------------------------------------- what a node is

    def depends(self, node: Node) -> bool:
        """Whether a value is made of a matrix."""
        if node not in self._depends:
            for part in walk(node):
                if part not in self._depends:
                    self._depends[part] = part in self.turned or any(self._depends[child] for child in part.children)
        return self._depends[node]

    def _directions(self, node: Node) -> frozenset[str]:
        """The class axes over either of which a node takes in values that have both axes."""
        if not any(self.both <= child.axes for child in node.children):
            return frozenset()
        match node:
            case Reduce(over=over):
                return self.both & frozenset(over)
            case Select(axis=axis):
                return self.both & {axis}
            case Along(axis=axis) if self.depends(node):
                return self.both & {axis}
            case Slice() | Rename() | Call() if self.depends(node):
                raise _UncrossableError
        return frozenset()

    def _crosses(self, node: Node) -> bool:
        """Whether a node gives the entries along one of the axes to the other."""
        return isinstance(node, Rename) and {node.old, node.new} == self.both

    def _axis_of(self, root: Node) -> str | None:
        """The class axis of a summand: that of what it takes in, the rows of the matrix first."""
        found: set[str] = set()
        stack = [root]
        seen: set[Node] = set()
        while stack:
            node = stack.pop()
            if node in seen or not self.depends(node):
                continue
            seen.add(node)
            directions = self._directions(node)
            found |= {self.classes} if len(directions) > 1 else directions
            if not directions and not self._crosses(node):
                stack.extend(node.children)
        axes = found - root.axes
        return self.classes if self.classes in axes else self.rows if self.rows in axes else None

    # -------------------------------------------------------------------------------------- along one axis

    def of(self, node: Node, axis: str | None) -> Node:
        """The value with leaves in place of whatever does not run along `axis`."""
        key = (node, axis)
        if key not in self._done:
            self._done[key] = self._of(node, axis)
        return self._done[key]

    def _of(self, node: Node, axis: str | None) -> Node:
        if node in self.turned:
            if axis is None:
                raise _UncrossableError
            return self.turned[node] if axis == self.rows else node
        if axis is not None and (self._crosses(node) or self._is_known(node)):
            return self._leaf(node, None)
        directions = self._directions(node)
        if directions and axis not in directions:
            if isinstance(node, Along):
                return self.of(_without_softmax(node), axis)
            return self._leaf(node, self.classes if len(directions) > 1 else next(iter(directions)))
        return self._rebuilt(node, axis)

    def _rebuilt(self, node: Node, axis: str | None) -> Node:
        children = tuple(self.of(child, axis) for child in node.children)
        return node if children == node.children else node.rebuild(children)

    def _is_known(self, node: Node) -> bool:
        """Whether a value reads no matrix and sums up rows, such as the number of those that count."""
        return not node.axes and not self.depends(node) and any(isinstance(part, Reduce | Select) for part in walk(node))

    def _leaf(self, node: Node, axis: str | None) -> Input:
        """A leaf for a value that is worked out before."""
        if (node, axis) not in self._leaves:
            if self.both <= node.axes:
                raise _UncrossableError
            value = self._rebuilt(node, axis)
            name, order = f"before {len(self._leaves)}", tuple(sorted(node.axes))
            leaf = Input(name, order, _kind(node), node.domain, not differentiable(node))
            self._leaves[node, axis] = leaf
            self.definitions[leaf] = _Definition(axis, value, self._layer(value))
        return self._leaves[node, axis]

    # -------------------------------------------------------------------------------------- sums

    def _summands(self, node: Node) -> Iterator[Node]:
        """Values of which a root is the sum; means are sums over the number of their entries."""
        for term in self._terms(node):
            inner = _inner(term, self.depends)
            if isinstance(inner, Reduce) and inner.op in ("sum", "mean") and inner.groups is None:
                for reduced in self._of_sum(inner):
                    yield _replaced(term, inner, self._as_sum(reduced))
            else:
                yield term

    def _terms(self, node: Node) -> Iterator[Node]:
        """The terms of a sum, with what it is multiplied by."""
        inner = _inner(node, self.depends)
        if isinstance(inner, Map) and inner.function == "add":
            for argument in inner.arguments:
                yield from self._terms(_replaced(node, inner, argument))
        else:
            yield node

    def _of_sum(self, node: Reduce) -> Iterator[Reduce]:
        """A sum over rows of values of rows and of values of columns, as a sum over rows and one over columns."""
        if self.rows not in node.over or self.classes in node.over or any(self.both <= child.axes for child in node.children):
            yield node
            return
        terms = list(self._terms(node.body))
        moved = {term: turned for term in terms if self.depends(term) and (turned := self._moved(term)) is not None}
        stay = [term for term in terms if term not in moved]
        admitted = None if node.where is None else self._moved(node.where)
        over = frozenset(node.over)
        if not moved or (node.where is not None and admitted is None) or any(not over <= term.axes for term in terms):
            yield node
            return
        if stay:
            yield Reduce(node.op, node.over, add(*stay), node.where)
        columns = tuple(self.classes if axis == self.rows else axis for axis in node.over)
        yield Reduce(node.op, columns, add(*moved.values()), admitted)

    def _moved(self, node: Node) -> Node | None:
        """A value of rows as one of columns with the same entries; None where it reads rows of the matrix."""
        if self.rows not in node.axes:
            return None if self.classes in node.axes else node
        if isinstance(node, Rename) and (node.old, node.new) == (self.classes, self.rows):
            return node.body
        if isinstance(node, Index):
            return Index(self.classes)
        if not self.depends(node):
            return Rename(node, self.rows, self.classes)
        if not isinstance(node, Map | StopGrad):
            return None
        children = [self._moved(child) for child in node.children]
        found = tuple(child for child in children if child is not None)
        return node.rebuild(found) if len(found) == len(children) else None

    def _as_sum(self, node: Reduce) -> Node:
        """A mean as a sum over a number that is known beforehand, so that blocks of rows add up."""
        masks = () if node.where is None else (node.where,)
        if node.op == "sum" or any(self.depends(mask) for mask in masks):
            return node
        counted = tuple(axis for axis in node.over if any(axis in mask.axes for mask in masks))
        sizes = [Size(axis) for axis in node.over if axis not in counted]
        total = Reduce("sum", node.over, node.body, node.where)
        if not counted:
            return div(total, mul(*sizes))
        return div(total, apply("max", mul(*sizes, Reduce("count", counted, ONE, all_of(*masks))), ONE))


def _kind(node: Node) -> str:
    """The kind of a leaf that stands for a value."""
    if node.is_mask:
        return "mask"
    while isinstance(node, Rename | Select | Slice):
        node = node.body
    is_place = (isinstance(node, Input) and node.kind == "label") or (isinstance(node, Reduce) and node.op == "argmax")
    return "label" if is_place or isinstance(node, Index) else "real"


def _without_softmax(node: Along) -> Node:
    """A softmax over sums."""
    if node.op not in ("softmax", "log_softmax") or node.by is not None:
        raise _UncrossableError
    log = sub(node.body, Reduce("logsumexp", (node.axis,), node.body, node.where))
    return log if node.op == "log_softmax" else where(node.where, apply("exp", log), ZERO)


def _inner(node: Node, depends: Callable[[Node], bool]) -> Node:
    """The one factor of a product or quotient, or of what is 0 under a condition, that depends on a matrix."""
    while isinstance(node, Map) and node.function in FACTORS:
        moving = [argument for argument in node.arguments if depends(argument)]
        place = FACTORS[node.function]
        if len(moving) != 1 or (place is not None and moving[0] is not node.arguments[place]):
            return node
        if node.function == "where" and node.arguments[2] is not ZERO:
            return node
        node = moving[0]
    return node


def _replaced(node: Node, inner: Node, new: Node) -> Node:
    """A product or quotient with another factor."""
    if node is inner:
        return new
    assert isinstance(node, Map)
    if node.function != "mul":
        return node.rebuild(tuple(_replaced(part, inner, new) if _has(part, inner) else part for part in node.arguments))
    return mul(*(_replaced(part, inner, new) if _has(part, inner) else part for part in node.arguments))


def _has(node: Node, inner: Node) -> bool:
    return any(part is inner for part in walk(node))
