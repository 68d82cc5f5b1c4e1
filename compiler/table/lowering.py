"""Writes every operation over the class axis with a few: sum, max, any, argmax, logsumexp and selection.

Other functions of a whole row (a sort, a quantile, a grouped sum), and operations that mix rows but keep the class
axis, become *computed* values: leaves that a torch operation delivers, each with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lossc.compiler import core
from lossc.compiler.core import (
    ONE,
    ZERO,
    Along,
    Call,
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
    all_of,
    apply,
    conjuncts,
    differentiable,
    differentiable_leaf,
    div,
    mul,
    neg,
    sub,
    walk,
    where,
)
from lossc.compiler.table.itself import compares_itself
from lossc.compiler.table.roots import kept_from_below

MINUS_INFINITY = neg(core.INFINITY)


@dataclass(frozen=True)
class Computed:
    """A value that a torch operation delivers, and the reason why it is no statistic."""

    leaf: Input
    node: Node
    reason: str


@dataclass
class Lowering:
    """Lowers graphs with respect to one class axis, and collects `computed` values and `spreads` on the way."""

    axis: str
    computed: dict[Node, Computed] = field(default_factory=dict)
    spreads: list[tuple[Node, Node | None]] = field(default_factory=list)
    """Values of which a variance is taken, with their masks: they are centred first."""
    _done: dict[Node, Node] = field(default_factory=dict)

    def lower(self, root: Node) -> Node:
        """The graph with every operation over the class axis lowered."""
        kept: dict[Node, Node] = {node: self.compute(node, "compared with an entry of itself")
                                  for node in walk(root) if compares_itself(node, self.axis)}  # fmt: skip
        return core.rewrite(core.substitute(root, kept | kept_from_below(root, self.axis)), self._step, self._done)

    def _has(self, node: Node | None) -> bool:
        return node is not None and self.axis in node.axes

    def _step(self, node: Node) -> Node:
        match node:
            case Along():
                return self._along(node)
            case Reduce():
                hoisted = _hoisted(node)
                stopped = hoisted.body if isinstance(hoisted, StopGrad) else hoisted
                assert isinstance(stopped, Reduce)
                reduced = self._reduce(stopped)
                return reduced if stopped is hoisted else StopGrad(reduced)
            case Select():
                return self._select(node)
            case StopGrad():
                return _hoisted(node)
            case Slice() | Rename():
                return self._moved(node)
            case Call() if any(self._has(argument) for argument in node.arguments) or self._has(node):
                return self.compute(node, f"`{node.function}` is not a statistic of a row")
            case Map():
                return _hoisted(node)
        return node

    def compute(self, node: Node, reason: str) -> Node:
        """The leaf of a value that a torch operation delivers."""
        kind = "mask" if node.is_mask else "computed"
        name = f"@u{node.digest.hex()}"
        leaf = Input(name, tuple(sorted(node.axes)), kind, node.domain, not differentiable(node))
        self.computed[leaf] = Computed(leaf, node, reason)
        return leaf

    # -------------------------------------------------------------------------------------- along, selections

    def _along(self, node: Along) -> Node:
        if node.axis != self.axis:
            mixes = self._has(node)
            return self.compute(node, f"`{node.op}` along `{node.axis}` keeps `{self.axis}`") if mixes else node
        if node.op not in ("softmax", "log_softmax") or node.by is not None:
            return self.compute(node, f"`{node.op}` needs the whole row at once")
        log = sub(node.body, Reduce("logsumexp", (self.axis,), node.body, self._parts_of(node.where)[0]))
        return log if node.op == "log_softmax" else where(node.where, apply("exp", log), ZERO)

    def _select(self, node: Select) -> Node:
        if node.axis != self.axis and isinstance(node.at, Node) and self._has(node.at):
            return self.compute(node, f"an entry of `{node.axis}` is read for each `{self.axis}`")
        return _hoisted(node)

    def _moved(self, node: Slice | Rename) -> Node:
        axes = (node.axis, node.new) if isinstance(node, Slice) else (node.old, node.new)
        if not self._has(node) and not self._has(node.body):
            return node
        if self.axis not in axes or (node.new == self.axis and self.is_view(node.body)):
            return node
        return self.compute(node, f"`{axes[0]} -> {axes[1]}` moves entries of the class axis")

    def is_view(self, node: Node) -> bool:
        """Whether a node is a tensor of the caller, or entries of one selected along its rows."""
        while isinstance(node, Select | Slice | Rename):
            if isinstance(node, Select | Slice) and node.axis == self.axis:
                return False
            node = node.body
        return isinstance(node, Input | Param)

    # -------------------------------------------------------------------------------------- reductions

    def _reduce(self, node: Reduce) -> Node:
        if node.op == "count" and node.groups is None:
            return self._count(node)
        if self.axis not in node.over:
            return self._over_rows(node)
        if node.groups is not None:
            return self.compute(node, f"a sum over `{self.axis}` by groups")
        decompose = getattr(self, f"_{node.op}", None)
        if decompose is None or (node.op == "argmax" and len(node.over) > 1):
            return self.compute(node, f"`{node.op}` needs the whole row at once")
        result: Node = decompose(node)
        return result

    def _over_rows(self, node: Reduce) -> Node:
        if not self._has(node):
            return node
        over = ", ".join(node.over)
        if node.groups is not None and node.groups[1] == self.axis:
            return self.compute(node, f"rows are gathered into `{self.axis}`")
        return self.compute(node, f"`{node.op}[{over}]` keeps `{self.axis}`")

    def _parts(self, node: Reduce) -> tuple[Node | None, Node | None, tuple[str, ...]]:
        """The masks that vary over classes, the other masks, and the reduced row axes."""
        return *self._parts_of(node.where), tuple(axis for axis in node.over if axis != self.axis)

    def _parts_of(self, mask: Node | None) -> tuple[Node | None, Node | None]:
        masks = conjuncts(mask)
        classes = all_of(*(mask for mask in masks if self._has(mask)))
        return classes, all_of(*(mask for mask in masks if not self._has(mask)))

    def _sum(self, node: Reduce) -> Node:
        classes, rows, rest = self._parts(node)
        swapped = self._swapped(node.body, classes)
        inner = Reduce("sum", (self.axis,), node.body, classes) if swapped is None else swapped
        return Reduce("sum", rest, inner, rows) if rest else where(rows, inner, ZERO)

    def _swapped(self, body: Node, classes: Node | None) -> Node | None:
        """A sum over classes of a sum over rows, as a sum over rows of a sum over classes; None if it is none."""
        inner = self.computed[body].node if body in self.computed else None
        if not isinstance(inner, Reduce) or inner.op not in ("sum", "mean") or inner.groups is not None:
            return None
        if inner.op == "mean" and (inner.where is not None or not set(inner.over) <= inner.body.axes):
            return None
        here, there, rest = self._parts(inner)
        value: Node = Reduce("sum", rest, Reduce("sum", (self.axis,), inner.body, all_of(classes, here)), there)
        return div(value, mul(*(Size(axis) for axis in rest))) if inner.op == "mean" else value

    def _count(self, node: Reduce) -> Node:
        covered = frozenset().union(*(mask.axes for mask in conjuncts(node.where)))
        counted = tuple(axis for axis in node.over if axis in covered)
        sizes = [Size(axis) for axis in node.over if axis not in covered]
        if self.axis in counted:
            return mul(self._sum(Reduce("sum", counted, ONE, node.where)), *sizes)
        if counted:
            return mul(self._over_rows(Reduce("count", counted, ONE, node.where)), *sizes)
        return where(node.where, mul(*sizes), ZERO)

    def _mean(self, node: Reduce) -> Node:
        """The sum divided by the count; 0 of nothing."""
        number = self._count(node)
        under = number if node.where is None else apply("max", number, ONE)
        return div(self._sum(node), under)

    def _var(self, node: Reduce) -> Node:
        ddof = node.option or ZERO
        number = self._count(node)
        self.spreads.append((node.body, self._parts(node)[0]))
        deviation = sub(node.body, self._mean(Reduce("mean", node.over, node.body, node.where)))
        squares = self._sum(Reduce("sum", node.over, core.power(deviation, core.const(2)), node.where))
        return div(squares, apply("max", sub(number, ddof), ONE))

    def _std(self, node: Reduce) -> Node:
        """The square root of the variance, with slope 0 where that is 0."""
        variance = self._var(node)
        some = apply("ne", variance, ZERO)
        return where(some, apply("sqrt", where(some, variance, ONE)), ZERO)

    def _max(self, node: Reduce) -> Node:
        classes, rows, rest = self._parts(node)
        inner = Reduce("max", (self.axis,), node.body, classes)
        if not rest:
            return where(rows, inner, ZERO)
        return Reduce("max", rest, inner, all_of(rows, self._some(classes)))

    def _min(self, node: Reduce) -> Node:
        return neg(self._max(Reduce("max", node.over, neg(node.body), node.where)))

    def _some(self, classes: Node | None) -> Node | None:
        return None if classes is None else Reduce("any", (self.axis,), classes)

    def _logsumexp(self, node: Reduce) -> Node:
        classes, rows, rest = self._parts(node)
        inner = Reduce("logsumexp", (self.axis,), node.body, classes)
        if not rest:
            return where(rows, inner, MINUS_INFINITY)
        return Reduce("logsumexp", rest, inner, all_of(rows, self._some(classes)))

    def _any(self, node: Reduce) -> Node:
        classes, rows, rest = self._parts(node)
        holds = _meaningful(all_of(classes, node.body))
        if holds is None:
            some: Node = apply("eq", ZERO, ZERO)
        else:
            some = Reduce("any", (self.axis,), holds) if self._has(holds) else holds
        if rest:
            return Reduce("any", rest, some, rows)
        return some if rows is None else apply("and", rows, some)

    def _all(self, node: Reduce) -> Node:
        return apply("not", self._any(Reduce("any", node.over, apply("not", node.body), node.where)))

    def _argmax(self, node: Reduce) -> Node:
        classes, rows, _ = self._parts(node)
        return where(rows, Reduce("argmax", (self.axis,), node.body, classes), core.const(-1))


def _meaningful(mask: Node | None) -> Node | None:
    """The conjunction without `x == x`, which is there only for its axes."""
    kept = [part for part in conjuncts(mask) if not (isinstance(part, Map) and part.function == "eq"
            and part.arguments[0] is part.arguments[1])]  # fmt: skip
    return all_of(*kept)


# ------------------------------------------------------------------------------------------------ stop-gradients


def _constant(node: Node) -> bool:
    return isinstance(node, Const | Size | Index) or node.is_mask or (
        isinstance(node, Input | Param) and not differentiable_leaf(node)
    )  # fmt: skip


def _hoisted(node: Node) -> Node:
    """The node with stop-gradients moved outwards: `f(sg(x))` becomes `sg(f(x))`, so that both can share f(x)."""
    children = node.children
    if isinstance(node, StopGrad):
        return node.body if isinstance(node.body, StopGrad) or node.body.is_mask else node
    stopped = [isinstance(child, StopGrad) for child in children]
    if not any(stopped):
        return node
    bare = tuple(child.body if isinstance(child, StopGrad) else child for child in children)
    if node.is_mask:
        return node.rebuild(bare)
    if all(is_stopped or _constant(child) for is_stopped, child in zip(stopped, children, strict=True)):
        return StopGrad(node.rebuild(bare))
    return node

