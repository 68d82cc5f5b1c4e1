"""Emits bodies over a block of rows as torch operations: values only.

Nothing is differentiated through what is emitted here, so no entry needs guarding, and sums of products are emitted as
torch's fused multiply-add. `exact` keeps 0 * log 0 = 0, and does not see what a mask multiplies where the mask is false;
without it the caller must ensure that every entry and every logarithm is finite.
"""

from __future__ import annotations

from collections.abc import Mapping

from lossc.compiler.core import ZERO, Input, Map, Node, Reduce, Select, Slice, add, all_of, mul, where
from lossc.compiler.emission.arithmetic import product
from lossc.compiler.emission.builder import Builder
from lossc.compiler.emission.emitter import Emitter
from lossc.compiler.emission.facts import is_representable, may_be_infinite, may_vanish
from lossc.compiler.emission.guards import Guard
from lossc.compiler.emission.procedure import Emitted
from lossc.compiler.emission.restrict import Restrictor
from lossc.compiler.table.model import Scalar, Statistic, Table

SPECIAL = {"shift": "operations.centre", "ties": "operations.ties"}


class SweepEmitter(Emitter):
    """The caller binds the leaves `given`; other leaves of the table are emitted where they are first needed."""

    def __init__(self, builder: Builder, table: Table, given: frozenset[str], *, exact: bool) -> None:
        super().__init__(builder)
        self.axis = table.axis
        self.exact = exact
        self.given = given
        self.centred = {f"@{s.name}": s for s in table.streams if s.provider == "centred"}
        self.raw = {s.leaf: s for s in table.streams if s.provider != "centred"}
        self.scalars: Mapping[str, Scalar] = {f"@{scalar.name}": scalar for scalar in table.scalars}
        self.statistics: Mapping[str, Statistic] = {f"@{statistic.name}": statistic for statistic in table.statistics}
        self._restrictor = Restrictor()

    def guarded(self, value: Emitted, guard: Guard, safe: float) -> Emitted:
        return value

    # -------------------------------------------------------------------------------------- leaves

    def _input(self, node: Input) -> Emitted:
        if node in self.raw:
            return self.number_of(super()._input(node))
        if node.name in self.given or not self.is_defined(node.name):
            return super()._input(node)
        return self.defined(node.name)

    def is_defined(self, name: str) -> bool:
        """Whether the table defines a leaf; others come from the caller."""
        return name in self.centred or name in self.scalars or name in self.statistics

    def defined(self, name: str) -> Emitted:
        """The value of a leaf, from its definition in the table."""
        if name in self.centred:
            return self.emit(self.centred[name].source)
        if name in self.scalars:
            return self.emit(self.scalars[name].value)
        return self.statistic(self.statistics[name])

    def number_of(self, value: Emitted) -> Emitted:
        """A stream as a number; streams come in the type that the caller has them in."""
        if value.type != "number":
            return value
        return self.builder.call("operations.number", (value.at, self.builder.like), value.axes)

    # -------------------------------------------------------------------------------------- statistics

    def statistic(self, statistic: Statistic) -> Emitted:
        match statistic.op:
            case "select":
                assert statistic.at is not None
                return self.entry(statistic.body, statistic.at)
            case "shift" | "ties":
                return self._special(statistic)
        return self.emit(Reduce(statistic.op, (self.axis,), statistic.body, statistic.mask))

    def entry(self, body: Node, at: Node | int) -> Emitted:
        """A body at one class: the selection is moved down to the streams."""
        return self.emit(self._restrictor.gathered(body, self.axis, at))

    def _special(self, statistic: Statistic) -> Emitted:
        """The shift of a row, or the number of its largest entries."""
        builder = self.builder
        body = builder.tensor(builder.number(self.emit(statistic.body)))
        mask = None if statistic.mask is None else self.emit(statistic.mask)
        axes = builder.sorted({self.axis, *body.axes, *(mask.axes if mask else ())})
        x = builder.arranged(builder.expanded(body, (self.axis,)) if self.axis not in body.axes else body, axes)
        admitted = None if mask is None else builder.arranged(mask, axes).at
        kept = [axis for axis in axes if axis != self.axis]
        return builder.call(SPECIAL[statistic.op], (x.at, admitted), kept, dim=axes.index(self.axis))

    def _selection(self, node: Select | Slice, guard: Guard) -> Emitted:
        body = node.body
        if isinstance(body, Input) and body in self.raw:
            return self.number_of(self._read(node, super()._input(body)))
        if isinstance(body, Input) and body.name in self.centred and isinstance(node, Select):
            return self.entry(self.centred[body.name].source, node.at)
        return super()._selection(node, guard)

    # -------------------------------------------------------------------------------------- arithmetic

    def _map(self, node: Map, guard: Guard) -> Emitted:
        if node.function == "add" and self.axis in node.axes:
            return self._sum(node)
        if node.function == "exp" and self.axis in node.axes:
            value = self.builder.number(self.emit(node.arguments[0]))
            return self.elementwise("operations.exponential", (value,))
        if node.function == "mul" and self.exact and (masks := _masks(node)) and len(masks) < len(node.arguments):
            return self.emit(where(all_of(*masks), mul(*(part for part in node.arguments if not part.is_mask)), ZERO))
        return super()._map(node, guard)

    def _product(self, node: Map, values: list[Emitted]) -> Emitted:
        """Literals and row factors are multiplied first, so that the block is traversed once for each class factor."""
        if self.exact and _is_weighed(node):
            return super()._product(node, values)
        rows = [value for value in values if self.axis not in value.axes]
        wide = [value for value in values if self.axis in value.axes]
        row = [product(self, rows)] if rows else []
        total, *rest = (*row, *wide)
        for value in rest:
            total = value if total.at == 1.0 else self._times(value, total)
        return total

    def _times(self, x: Emitted, y: Emitted) -> Emitted:
        return self.elementwise("torch.mul", (self.builder.tensor(x) if y.literal else x, y))

    def _sum(self, node: Map) -> Emitted:
        """Row values are added first, then one class value, or product of two, after the other."""
        rows = [part for part in node.arguments if self.axis not in part.axes]
        wide = [part for part in node.arguments if self.axis in part.axes]
        wide.sort(key=self._is_product)
        total = self.builder.number(self.emit(add(*rows))) if rows else None
        for part in wide:
            if total is None:
                total = self.builder.number(self.emit(part))
            elif self._is_product(part):
                total = self._plus_product(total, part)
            else:
                total = self._plus(total, self.builder.number(self.emit(part)))
        assert total is not None
        return total

    def _is_product(self, part: Node) -> bool:
        return isinstance(part, Map) and part.function == "mul" and not (self.exact and (_is_weighed(part) or _masks(part)))

    def _plus(self, x: Emitted, y: Emitted) -> Emitted:
        if x.literal:
            x, y = y, x
        return x if y.at == 0.0 else self.elementwise("torch.add", (x, y))

    def _plus_product(self, total: Emitted, part: Node) -> Emitted:
        assert isinstance(part, Map)
        *others, last = sorted(part.arguments, key=lambda factor: self.axis in factor.axes)
        x = self.builder.number(self.emit(last))
        y = self.builder.number(self.emit(mul(*others)))
        if y.literal:
            assert isinstance(y.at, float)
            if total.literal or not is_representable(y.at):
                return self._plus(total, self._times(x, y))
            places, axes = self.builder.aligned((total, x))
            return self.builder.call("torch.add", places, axes, alpha=y.at)
        return self.elementwise("torch.addcmul", (self.builder.tensor(total), x, y))


def _masks(node: Map) -> list[Node]:
    """The factors of a product that are masks."""
    return [part for part in node.arguments if part.is_mask]


def _is_weighed(node: Map) -> bool:
    """Whether a product has a factor that may be log 0, and another that may be 0."""
    logs = [may_be_infinite(argument) for argument in node.arguments]
    return any(logs) and any(not log and may_vanish(part) for log, part in zip(logs, node.arguments, strict=True))
