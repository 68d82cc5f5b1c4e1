"""From a statistic table to kernels: statistics with the same rows share a kernel, if what they need is known in time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from lossc.compiler.core import Const, Input, Map, Node, StopGrad, add, mul, walk
from lossc.compiler.kernels.adjoint import CoupledError, shares
from lossc.compiler.kernels.model import Adjoint, Argument, Chain, Kernel, Local, Point
from lossc.compiler.kernels.powers import with_powers
from lossc.compiler.table.model import Scalar, Statistic, Stream, Table


class NoKernelError(Exception):
    """A table has no kernel, for the reason given."""


def kernels(table: Table, weights: Mapping[str, Node] | None = None) -> tuple[Kernel, ...]:
    """The kernels of a table, in the order in which they run.

    `weights` are leaves for dL/d root. With them, the kernels of an objective that is a sum over rows have adjoints.
    """
    planning = _Planning(table)
    for name in table.order:
        entry = planning.statistics.get(name)
        if entry is not None and entry.purpose != "merge":
            planning.place(entry)
    planning.complete()
    adjoints = planning.adjoints(weights) if weights is not None else {}
    return tuple(with_powers(draft.kernel(adjoints.get(at))) for at, draft in enumerate(planning.drafts))


@dataclass
class _Draft:
    """A kernel that is being built. `given` has one argument for each distinct row value."""

    axis: str
    rows: frozenset[str]
    streams: dict[str, Stream] = field(default_factory=dict)
    centred: dict[str, Stream] = field(default_factory=dict)
    given: dict[Node, Argument] = field(default_factory=dict)
    locals: dict[str, Local] = field(default_factory=dict)
    statistics: dict[str, Statistic] = field(default_factory=dict)
    points: dict[str, Point] = field(default_factory=dict)
    chains: list[Chain] = field(default_factory=list)

    def has(self, name: str) -> bool:
        return name in self.statistics or name in self.points

    def argument(self, value: Node, leaf: Input | None = None, extra: tuple[str, ...] = ()) -> Argument:
        """The leaf of an argument for a row value. The label of a selection may have `extra` axes."""
        if not value.axes <= self.rows | set(extra):
            raise NoKernelError(f"a row value has other axes than its row: {', '.join(sorted(value.axes))}")
        if value not in self.given:
            kind = "mask" if value.is_mask else "scalar"
            name = f"@g{len(self.given) + 1}"
            self.given[value] = Argument(
                leaf or Input(name, tuple(sorted(value.axes)), kind, value.domain, True), value
            )
        return self.given[value]

    def kernel(self, adjoints: tuple[Adjoint, ...] | None) -> Kernel:
        return Kernel(
            self.axis, self._order(), tuple(self.streams.values()), tuple(self.centred.values()),
            tuple(self.given.values()), tuple(self.locals.values()), tuple(self.statistics.values()),
            tuple(self.points.values()), tuple(self.chains), adjoints,
        )  # fmt: skip

    def _order(self) -> tuple[str, ...]:
        """The row axes, in the order of the largest stream."""
        orders = [_order_of(stream.source) for stream in self.streams.values()]
        longest = max(orders, key=lambda order: (len(self.rows & set(order)), order), default=())
        first = [axis for axis in longest if axis in self.rows]
        return (*first, *sorted(self.rows - set(first)))


def _order_of(node: Node) -> tuple[str, ...]:
    return node.order if isinstance(node, Input) else tuple(sorted(node.axes))


class _Planning:
    def __init__(self, table: Table) -> None:
        self.table = table
        self.axis = table.axis
        self.drafts: list[_Draft] = []
        self.statistics = {statistic.name: statistic for statistic in table.statistics}
        self.scalars: dict[str, Scalar] = {scalar.name: scalar for scalar in table.scalars}
        self.streams = {stream.leaf: stream for stream in table.streams}
        self.sweeps = {frozenset(s.rows) for s in table.statistics if s.op != "select"}

    # -------------------------------------------------------------------------------------- placing statistics

    def place(self, statistic: Statistic) -> None:
        """Puts a statistic into the last kernel over its rows, or into a new one if that cannot have all that it needs."""
        rows, extra = self._rows(statistic)
        draft = next((d for d in reversed(self.drafts) if d.rows == rows), None)
        if draft is None or not self._fits(statistic, draft):
            draft = _Draft(self.axis, rows)
            self.drafts.append(draft)
        if statistic.op == "select":
            draft.points[statistic.name] = Point(statistic, extra)
        else:
            draft.statistics[statistic.name] = statistic
        for part in _parts(statistic):
            self._read(part, draft, extra if part is statistic.at else ())

    def _rows(self, statistic: Statistic) -> tuple[frozenset[str], tuple[str, ...]]:
        """The row axes of a statistic's kernel, and the axes that its label has besides."""
        if statistic.op != "select":
            return frozenset(statistic.rows), ()
        body = statistic.body.axes - {self.axis}
        whole = frozenset(statistic.rows)
        if whole in self.sweeps or not body or body == whole:
            return whole, ()
        return body, tuple(axis for axis in statistic.rows if axis not in body)

    def _fits(self, statistic: Statistic, draft: _Draft) -> bool:
        """Whether everything that a statistic needs is known when the kernel computes it."""
        at = self.drafts.index(draft)
        for leaf in self._needed(statistic):
            if not draft.has(leaf) and not any(other.has(leaf) for other in self.drafts[:at]):
                return False
        return all(self._is_local(scalar.value, draft) for scalar in self._scalars_of(_parts(statistic)))

    def _needed(self, statistic: Statistic) -> Iterator[str]:
        scalars = [scalar.value for scalar in self._scalars_of(_parts(statistic))]
        centred = [stream.source for stream in self._centred_of(_parts(statistic))]
        for part in walk(*_parts(statistic), *scalars, *centred):
            if self._statistic(part) is not None:
                yield part.name[1:]  # type: ignore[attr-defined]

    def _statistic(self, node: Node) -> Statistic | None:
        return self.statistics.get(node.name[1:]) if isinstance(node, Input) and node.name.startswith("@") else None

    def _scalars_of(self, parts: Iterable[Node]) -> list[Scalar]:
        sources = [stream.source for stream in self._centred_of(parts)]
        leaves = (part for part in walk(*parts, *sources) if isinstance(part, Input))
        return [self.scalars[leaf.name[1:]] for leaf in leaves if leaf.name[1:] in self.scalars and leaf.name[0] == "@"]

    def _centred_of(self, parts: Iterable[Node]) -> list[Stream]:
        found: dict[str, Stream] = {}
        stack = list(parts)
        while stack:
            for part in walk(stack.pop()):
                stream = self.streams.get(part)
                if stream is not None and stream.provider == "centred" and stream.name not in found:
                    found[stream.name] = stream
                    stack.append(stream.source)
        return list(found.values())

    def _is_local(self, value: Node, draft: _Draft) -> bool:
        """Whether a row value is elementwise over statistics of the kernel."""
        return all(
            isinstance(part, Map | StopGrad) for part in walk(value) if part.children and self._owns(draft, part)
        )

    def _owns(self, draft: _Draft, node: Node) -> bool:
        return any((s := self._statistic(part)) is not None and draft.has(s.name) for part in walk(node))

    # -------------------------------------------------------------------------------------- what bodies read

    def complete(self) -> None:
        """Adds what gradients read besides, and how coefficients pass from sweep to sweep."""
        for draft in self.drafts:
            for statistic in (*draft.statistics.values(), *(point.statistic for point in draft.points.values())):
                for slope in statistic.gradients:
                    self._read(slope.value, draft)
            for statistic in draft.statistics.values():
                for slope in statistic.sensitivities:
                    if slope.of in draft.locals or draft.has(slope.of):
                        value = self.localised(slope.value, draft)
                        draft.chains.append(Chain(statistic.name, slope.of, value))

    def _read(self, body: Node, draft: _Draft, extra: tuple[str, ...] = ()) -> None:
        """Every leaf of a class-level graph, or of a label with `extra` axes."""
        for part in walk(body):
            stream = self.streams.get(part)
            if stream is not None and stream.provider == "centred":
                draft.centred.setdefault(stream.name, stream)
                self._read(stream.source, draft)
            elif stream is not None:
                if not (part.axes - {self.axis}) <= draft.rows:
                    raise NoKernelError(f"`{stream.name}` has other axes than the rows that read it")
                draft.streams.setdefault(stream.name, stream)
            elif isinstance(part, Input):
                self._read_row(part, draft, extra)
            elif not isinstance(part, Map | StopGrad | Const) and self.axis not in part.axes:
                raise NoKernelError("a row value stands in a body without a name")

    def _read_row(self, leaf: Input, draft: _Draft, extra: tuple[str, ...]) -> None:
        name = leaf.name[1:]
        if name in self.scalars:
            self._take(self.scalars[name], draft, extra)
        elif not draft.has(name):
            draft.argument(leaf, leaf, extra)

    def _take(self, scalar: Scalar, draft: _Draft, extra: tuple[str, ...]) -> None:
        if scalar.name in draft.locals or any(scalar.leaf is known.leaf for known in draft.given.values()):
            return
        assert isinstance(scalar.leaf, Input)
        if scalar.value in draft.given:
            draft.given[scalar.leaf] = Argument(scalar.leaf, scalar.value)
        elif self._owns(draft, scalar.value):
            draft.locals[scalar.name] = Local(scalar.leaf, self.localised(scalar.value, draft), scalar.level)
        else:
            draft.argument(scalar.value, scalar.leaf, extra)

    def localised(self, value: Node, draft: _Draft) -> Node:
        """A row value over statistics of the kernel; its largest subexpressions without statistics become arguments."""
        if isinstance(value, Const):
            return value
        if not self._owns(draft, value):
            return draft.argument(value).leaf
        if self._statistic(value) is not None:
            return value
        if not isinstance(value, Map | StopGrad):
            raise NoKernelError("a row value mixes rows")
        if isinstance(value, Map) and value.function in ("add", "mul"):
            return self._gathered(value, draft)
        return value.rebuild(tuple(self.localised(child, draft) for child in value.children))

    def _gathered(self, value: Map, draft: _Draft) -> Node:
        """A sum or product whose operands without statistics are joined into one argument."""
        own = [self.localised(part, draft) for part in value.arguments if self._owns(draft, part)]
        fixed = [part for part in value.arguments if isinstance(part, Const)]
        known = [part for part in value.arguments if not self._owns(draft, part) and part not in fixed]
        combine = add if value.function == "add" else mul
        return combine(*fixed, *([draft.argument(combine(*known)).leaf] if known else []), *own)

    # -------------------------------------------------------------------------------------- adjoints

    def adjoints(self, weights: Mapping[str, Node]) -> dict[int, tuple[Adjoint, ...]]:
        """The adjoints of each kernel, by its position; none if some value couples rows."""
        if len({draft.rows for draft in self.drafts}) < len(self.drafts) or self._chained():
            return {}
        found: dict[int, list[Adjoint]] = {at: [] for at in range(len(self.drafts))}
        try:
            for root in self.table.seam:
                if root.name in weights:
                    for share in shares(root.value, weights[root.name], lambda node: self._statistic(node) is not None):
                        at = self._owner(share.value)
                        seed = self.drafts[at].argument(share.seed)
                        found[at].append(Adjoint(seed, self.localised(share.value, self.drafts[at])))
        except (CoupledError, NoKernelError):
            return {}
        return {at: tuple(parts) for at, parts in found.items()}

    def _chained(self) -> bool:
        """Whether a kernel needs the statistics of another."""
        values = [value for draft in self.drafts for value in draft.given]
        return any(self._statistic(part) is not None for value in values for part in walk(value))

    def _owner(self, value: Node) -> int:
        owners = {at for at, draft in enumerate(self.drafts) if self._owns(draft, value)}
        if len(owners) != 1 or any(self._foreign(part, owners) for part in walk(value)):
            raise CoupledError
        return owners.pop()

    def _foreign(self, node: Node, owners: set[int]) -> bool:
        statistic = self._statistic(node)
        return statistic is not None and not any(self.drafts[at].has(statistic.name) for at in owners)


def _parts(statistic: Statistic) -> tuple[Node, ...]:
    return tuple(part for part in (statistic.body, statistic.mask, statistic.at) if isinstance(part, Node))
