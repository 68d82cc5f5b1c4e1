"""Values computed once a step from all of its calls: the renewal of a state, the violation of a constraint.

A value is divided in two. Its sums over batch axes are *gathered*: each call computes its own, and those of several
calls (micro-batches, ranks) are merged, which is exact. The rest is a graph over the gathered values, free of the
batch, and computed after the last call. Values that are not sums (a median, pairs of the batch) are averaged over the
calls instead.

| gathered | of | merged by |
|---|---|---|
| `add` | sum, count, numerator and denominator of a mean, size | + |
| `any`, `all` | any, all | or, and |
| `max`, `min`, `logaddexp` | max, min, logsumexp | the same, entry by entry |
| `first` | what does not depend on the rows of a call | the first |

An average is itself a quotient of two gathered values: the sum over the calls in which the value is present, and their
number.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from lossc.compiler import core
from lossc.compiler.core import Input, Map, Node, Reduce
from lossc.compiler.lagrangian import whole_violation
from lossc.compiler.normalise import Normaliser
from lossc.compiler.program import Program

Merging = Literal["add", "any", "all", "max", "min", "logaddexp", "first"]

NAME = "gathered "
"""What the names of gathered values begin with; no name that is declared does."""

_EXTREMES: dict[str, tuple[Merging, Node]] = {
    "max": ("max", core.neg(core.INFINITY)), "min": ("min", core.INFINITY), "logsumexp": ("logaddexp", core.neg(core.INFINITY))
}  # fmt: skip
"""Reductions that are merged as they are, with their value of nothing."""


@dataclass(frozen=True)
class Gathered:
    """A value of each call, how values of several calls are merged, and the leaf that stands for the merged value."""

    merging: Merging
    node: Node
    leaf: Input

    @property
    def name(self) -> str:
        return self.leaf.name


@dataclass(frozen=True)
class Behind:
    """A value computed after the calls of a step from gathered values; `present` masks its entries that exist (None: all)."""

    value: Node
    present: Node | None

    @property
    def reads_calls(self) -> bool:
        """Whether it reads any gathered value."""
        roots = (self.value,) if self.present is None else (self.value, self.present)
        return any(isinstance(part, Input) for part in core.walk(*roots))


@dataclass
class Gathering:
    """Divides values in two; `found` collects what to gather. `batch` are the axes that are split over calls."""

    batch: Iterable[str]
    found: dict[Node, Gathered] = field(default_factory=dict)
    coupled: bool = False
    """Whether something was averaged, which depends on how the batch is split."""

    def __post_init__(self) -> None:
        self._normaliser = Normaliser(self.batch)
        self._axes = frozenset(self.batch)

    def behind(self, value: Node, present: Node | None) -> Behind:
        """A value and its presence as graphs over gathered values."""
        exists = None if present is None else self._rest(present, present)
        return Behind(self._rest(value, present), exists)

    def _rest(self, root: Node, present: Node | None) -> Node:
        done: dict[Node, Node] = {}
        ahead = [(root, False)]
        while ahead:
            part, expanded = ahead.pop()
            if expanded:
                done[part] = part.rebuild(tuple(done[child] for child in part.children))
            elif part not in done:
                whole = self._whole(part, present)
                if whole is not None:
                    done[part] = whole
                else:
                    ahead += [(part, True), *((child, False) for child in part.children)]
        return done[root]

    def _whole(self, node: Node, present: Node | None) -> Node | None:
        """The replacement for a node that is handled as a whole; None where its parts are to be handled."""
        if not self._normaliser.depends(node):
            if not any(isinstance(part, Input) for part in core.walk(node)):
                return node
            return None if isinstance(node, Map) else self._gathered("first", node)
        reduced = self._reduced(node) if isinstance(node, Reduce) else None
        if reduced is not None:
            return reduced
        if isinstance(node, core.Size):
            return self._gathered("add", node)
        split = node.axes & self._axes or any(child.axes & self._axes for child in node.children)
        return self._averaged(node, present) if split or not node.children else None

    def _averaged(self, node: Node, present: Node | None) -> Node:
        """The mean over the calls in which the value is present."""
        self.coupled = True
        if _is_label(node):
            return self._gathered("first", node)
        value = core.where(node, core.ONE, core.ZERO) if node.is_mask else node
        total = self._gathered("add", core.where(present, value, core.ZERO))
        number = self._gathered("add", core.where(present, core.ONE, core.ZERO))
        mean = core.div(total, core.where(core.apply("ne", number, core.ZERO), number, core.ONE))
        return core.apply("lt", core.HALF, mean) if node.is_mask else mean

    def _reduced(self, node: Reduce) -> Node | None:
        """A reduction over the batch of values that each row gives on its own."""
        if not self._axes & set(node.over) or not all(self._normaliser.local(child) for child in node.children):
            return None
        match node.op:
            case "sum" | "count":
                return self._gathered("add", node)
            case "any" | "all":
                return self._gathered(node.op, node)
            case "mean":
                number = self._gathered("add", _number(node))
                some = core.apply("ne", number, core.ZERO)
                return core.div(self._gathered("add", replace(node, op="sum")), core.where(some, number, core.ONE))
            case "max" | "min" | "logsumexp":
                merging, nothing = _EXTREMES[node.op]
                return self._gathered(merging, core.where(_some(node), node, nothing))
        return None

    def _gathered(self, merging: Merging, node: Node) -> Node:
        if node not in self.found:
            kind = "mask" if node.is_mask else "label" if _is_label(node) else "real"
            leaf = Input(f"{NAME}{len(self.found)}", tuple(sorted(node.axes)), kind, node.domain, True)
            self.found[node] = Gathered(merging, node, leaf)
        return self.found[node].leaf


def _number(node: Reduce) -> Node:
    """The number of entries of a mean."""
    there = node.where.axes if node.where is not None else frozenset[str]()
    there |= node.groups[0].axes if node.groups is not None else frozenset()
    inner = tuple(axis for axis in node.over if axis in there)
    repeated = [core.Size(axis) for axis in node.over if axis not in there]
    if inner:
        return core.mul(Reduce("count", inner, core.ONE, node.where, node.groups), *repeated)
    return core.where(node.where, core.mul(*repeated), core.ZERO)


def _some(node: Reduce) -> Node | None:
    """Whether a reduction admits any entry; None where it always does."""
    condition = node.where
    if condition is None and node.groups is not None:
        label = node.groups[0]
        condition = core.apply("eq", label, label)
    if condition is None:
        return None
    over = tuple(axis for axis in node.over if axis in condition.axes)
    return Reduce("any", over, condition, None, node.groups) if over else condition


def _is_label(node: Node) -> bool:
    if isinstance(node, Input):
        return node.kind == "label"
    return isinstance(node, Reduce) and node.op == "argmax"


@dataclass(frozen=True)
class Renewals:
    """What the calls of a step gather, and what is computed from that.

    These are the new value of each state and the violation of each constraint.
    """

    gathered: tuple[Gathered, ...]
    states: dict[str, Behind]
    violations: dict[str, Behind]
    coupled: bool


def renewals(program: Program) -> Renewals:
    """The renewal of every state and the violation of every constraint of a program, divided in two."""
    gathering = Gathering(program.batch_axes)
    states = {name: gathering.behind(state.renewal, state.renewal_present) for name, state in program.states.items()}
    violations = {each.name: gathering.behind(*whole_violation(each)) for each in program.constraints}
    return Renewals(tuple(gathering.found.values()), states, violations, gathering.coupled)
