"""From the statistics that a seam needs to the finished table: everything they need in turn, levels, names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lossc.compiler.core import (
    Along,
    Call,
    Const,
    Draw,
    Input,
    Map,
    Node,
    Param,
    Reduce,
    Rename,
    Select,
    Slice,
    add,
    differentiable,
    neg,
    substitute,
    walk,
)
from lossc.compiler.table.canonical import Canonical
from lossc.compiler.table.merging import Merging, Rescaling
from lossc.compiler.table.model import Computed, Merge, Provider, Purpose, Root, Scalar, Slope, Statistic, Stream, Table
from lossc.compiler.table.registry import Definition
from lossc.compiler.table.slopes import Differentiation, Slopes

PREFIXES = {"shift": "c", "sum": "s", "max": "m", "ties": "n", "any": "a", "argmax": "k", "select": "e"}
"""The first letter of the names of statistics, by operation."""


@dataclass
class Draft:
    """A statistic that will be in the table, with its slopes and its merge."""

    definition: Definition
    purpose: Purpose
    slopes: Slopes = Slopes((), ())  # noqa: RUF009
    merge: Rescaling = Rescaling("add")  # noqa: RUF009


@dataclass
class Extraction:
    """Builds the table of one canonical graph."""

    canonical: Canonical
    drafts: dict[Node, Draft] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.registry = self.canonical.registry
        self.axis = self.canonical.axis
        self.differentiation = Differentiation(self.canonical)
        self.merging = Merging(self.canonical)

    def table(self, seam: dict[str, Node]) -> Table:
        self._close(seam)
        return Naming(self, seam).table()

    # -------------------------------------------------------------------------------------- closure

    def _close(self, seam: dict[str, Node]) -> None:
        """Drafts every statistic that the values need, then those that gradients need, then those that merging needs."""
        for leaf in self._add(seam.values(), "value"):
            slopes = self.differentiation.slopes(leaf)
            self.drafts[leaf].slopes = slopes
            self._add((node for pairs in (slopes.gradients, slopes.sensitivities) for _, node in pairs), "gradient")
        pending = list(self.drafts)
        while pending:
            leaf = pending.pop()
            self.drafts[leaf].merge = merge = self.merging.of(leaf)
            pending += self._add(merge.statistics, "merge")

    def _add(self, nodes: Iterable[Node], purpose: Purpose) -> list[Node]:
        """Drafts the statistics that these nodes depend on, and returns the new ones."""
        added: list[Node] = []
        stack = list(nodes)
        seen: set[Node] = set()
        while stack:
            for node in walk(stack.pop()):
                if node in seen:
                    continue
                seen.add(node)
                if node in self.registry.centred:
                    entry = self.registry.centred[node]
                    stack += [entry.source, entry.shift]
                elif node in self.registry.definitions and node not in self.drafts:
                    self.drafts[node] = Draft(self.registry.definitions[node], purpose)
                    added.append(node)
                    stack += self.registry.definitions[node].parts
        return added


class Naming:
    """Gives entries names by kind and order of evaluation, and writes the graphs of the table over leaves of these names."""

    def __init__(self, extraction: Extraction, seam: dict[str, Node]) -> None:
        self.extraction = extraction
        self.registry = extraction.registry
        self.axis = extraction.axis
        self.lowering = extraction.canonical.lowering
        self.seam = seam
        self.names: dict[Node, str] = {}
        self.leaves: dict[Node, Node] = {}
        self.order: list[Node] = []
        self._streams: list[Node] = []
        self._scalars: list[Node] = []
        self._computed: list[Node] = []
        self._counts: dict[str, int] = {}
        graphs = (*seam.values(), *(part for draft in extraction.drafts.values() for part in draft.definition.parts))
        self._given = {node.name for node in walk(*graphs) if isinstance(node, Input | Param)}

    def table(self) -> Table:
        drafts = self.extraction.drafts
        rank = {"value": 0, "gradient": 1, "merge": 2}
        ordered = sorted(drafts, key=lambda leaf: (rank[drafts[leaf].purpose], self.registry.level(leaf), *self._weight(leaf)))
        for leaf in ordered:
            self._visit(leaf)
        for leaf in ordered:
            for _, slope in drafts[leaf].slopes.gradients:
                self._visit_body(slope)
        for node in walk(*self.seam.values()):
            if node in self.lowering.computed:
                self._visit(node)
        deltas = tuple((self.names[leaf], delta) for leaf, delta in self.extraction.merging.deltas.items()
                       if leaf in self.names)  # fmt: skip
        self.leaves |= {delta: Input(f"@δ{name}", delta.order, "delta") for name, delta in deltas
                        if isinstance(delta, Input)}  # fmt: skip
        rows = frozenset().union(*(leaf.axes for leaf in self._streams)) - {self.axis}
        return Table(
            self.axis,
            tuple(self._stream(leaf) for leaf in self._streams),
            tuple(self._scalar(value) for value in self._scalars),
            tuple(self._statistic(leaf) for leaf in self.order if leaf in drafts),
            tuple(self._computed_entry(leaf) for leaf in self._computed),
            tuple(Root(name, self._row_level(value), separable(value, rows)) for name, value in self.seam.items()),
            tuple(self.names[leaf] for leaf in self.order),
            tuple((name, self.leaves[delta]) for name, delta in deltas),
        )

    def _weight(self, leaf: Node) -> tuple[int, list[str], bytes]:
        """A sort key: simple statistics are named first, and equally simple ones in the order of what they read."""
        parts = list(walk(*self.registry.definitions[leaf].parts))
        return len(parts), sorted(self._reads(parts)), leaf.digest

    def _reads(self, parts: list[Node]) -> Iterator[str]:
        for part in parts:
            if part in self.registry.centred:
                yield from self._reads(list(walk(self.registry.centred[part].source)))
            elif isinstance(part, Input | Param) and not part.name.startswith("@"):
                yield part.name

    # -------------------------------------------------------------------------------------- visiting

    def _visit(self, node: Node) -> None:
        """Names a leaf, after everything that it is made of."""
        if node in self.names:
            return
        if node in self.registry.definitions:
            definition = self.registry.definitions[node]
            self._visit_body(definition.body)
            for part in definition.parts[1:]:
                self._visit_body(part)
            self._name(node, PREFIXES[definition.op], definition.body.is_mask or definition.op == "any")
        elif node in self.registry.centred:
            entry = self.registry.centred[node]
            self._visit_value(entry.shift)
            self._visit_body(entry.source)
            self._name_centred(node, entry.source)
        elif node in self.lowering.computed:
            self._visit_below(self.lowering.computed[node].node)
            self._name(node, "u", node.is_mask)
            if self.axis in node.axes:
                self._streams.append(node)
            if self.axis not in node.axes or not self._pairs(self.lowering.computed[node].node):
                self._computed.append(node)
        elif isinstance(node, Select | Slice | Rename):
            self._visit_below(node)
            self._name(node, "x", node.is_mask)
            self._streams.append(node)
        else:
            self.names[node] = getattr(node, "name", "") or f"draw{getattr(node, 'place', 0)}"
            self._streams.append(node)

    def _visit_body(self, body: Node) -> None:
        for leaf in self.extraction.differentiation.leaves(body):
            if isinstance(leaf, Input | Param | Draw | Select | Slice | Rename):
                self._visit(leaf)
        for value in self.extraction.differentiation.values(body):
            self._visit_value(value)

    def _visit_below(self, node: Node) -> None:
        """The statistics and computed values of a row expression."""
        for part in walk(node):
            if part in self.registry.definitions or part in self.lowering.computed:
                self._visit(part)

    def _visit_value(self, value: Node) -> None:
        if value in self.names or isinstance(value, Const):
            return
        self._visit_below(value)
        if value in self.names:
            return
        self._name(value, "r", value.is_mask)
        self._scalars.append(value)

    def _name(self, node: Node, prefix: str, mask: bool) -> None:
        self._settle(node, self._numbered(prefix), mask)

    def _numbered(self, prefix: str, suffix: str = "") -> str:
        """The next free name with this prefix. Names of tensors and parameters are not free."""
        while True:
            self._counts[prefix] = self._counts.get(prefix, 0) + 1
            name = f"{prefix}{self._counts[prefix]}{suffix}"
            if name not in self._given:
                return name

    def _name_centred(self, node: Node, source: Node) -> None:
        name = f"{self.names.get(source, '')}^"
        free = source in self.names and name not in self.names.values()
        self._settle(node, name if free else self._numbered("w", "^"), False)
        self._streams.append(node)

    def _settle(self, node: Node, name: str, mask: bool) -> None:
        self.names[node] = name
        self.order.append(node)
        known = isinstance(node, Input) and (node.name.startswith("@") or node.kind == "label")
        kind = "mask" if mask else node.kind if isinstance(node, Input) and known else "scalar"
        detached = not differentiable(node)
        self.leaves[node] = Input(f"@{name}", tuple(sorted(node.axes)), kind, node.domain, detached)

    # -------------------------------------------------------------------------------------- entries

    def _class_level(self, body: Node) -> Node:
        """A body, over streams and scalars of the table."""
        rows = self.extraction.differentiation.rows
        held = rows.of(body)
        return substitute(held, {**self.leaves, **{leaf: self.leaves[value] for leaf, value in rows.values.items()
                                                   if value in self.leaves}})  # fmt: skip

    def _row_level(self, value: Node) -> Node:
        """A row expression, over statistics of the table. Row values that bodies share are written out."""
        return substitute(value, {node: leaf for node, leaf in self.leaves.items() if node not in self._scalars})

    def _stream(self, node: Node) -> Stream:
        name, shift, reason = self.names[node], None, ""
        source: Node = node
        if node in self.registry.centred:
            shift = self.names.get(self.registry.centred[node].shift)
            source = self._centred(node)
        elif node in self.lowering.computed:
            source, reason = self._delivered(node), self.lowering.computed[node].reason
        elif isinstance(node, Select | Slice | Rename):
            source = self._over_computed(node, node)
        rows = node.axes - {self.axis}
        sign = self.registry.centred[node].sign if node in self.registry.centred else 1
        return Stream(name, self.leaves.get(node, node), "dense" if rows else "column", self._provider(node, source), source,
                      differentiable(node), shift, sign, reason)  # fmt: skip

    def _centred(self, node: Node) -> Node:
        entry = self.registry.centred[node]
        shift = self.leaves[entry.shift]
        return add(self._class_level(entry.source), neg(shift) if entry.sign > 0 else shift)

    def _provider(self, node: Node, source: Node) -> Provider:
        if node in self.registry.centred:
            return "centred"
        if node in self.lowering.computed:
            return "pairs" if self._pairs(source) else "computed"
        if isinstance(node, Select | Slice | Rename):
            return "rows"
        return "tensor" if isinstance(node, Input) else "parameter" if isinstance(node, Param) else "draw"

    def _pairs(self, node: Node) -> bool:
        """Whether a computed value is the inner products of a row vector and a class vector."""
        if not isinstance(node, Reduce) or node.op != "sum" or node.where is not None or node.groups is not None:
            return False
        factors = node.body.arguments if isinstance(node.body, Map) and node.body.function == "mul" else ()
        return all((self.axis in f.axes) != bool(f.axes - {self.axis} - set(node.over)) for f in factors) and len(factors) > 1

    def _scalar(self, value: Node) -> Scalar:
        name, level = self.names[value], self.registry.level(value)
        return Scalar(name, self.leaves[value], self._row_level(value), level, differentiable(value))

    def _computed_entry(self, node: Node) -> Computed:
        reason = self.lowering.computed[node].reason
        return Computed(self.names[node], self.leaves[node], self._delivered(node), reason)

    def _delivered(self, node: Node) -> Node:
        """The operation that computes a value, over other computed values."""
        return self._over_computed(self.lowering.computed[node].node, node)

    def _over_computed(self, value: Node, of: Node) -> Node:
        """A value, over the leaves of the computed values that it reads."""
        inner = {leaf: new for leaf, new in self.leaves.items() if leaf in self.lowering.computed and leaf is not of}
        return substitute(value, inner)

    def _statistic(self, leaf: Node) -> Statistic:
        draft = self.extraction.drafts[leaf]
        definition, slopes = draft.definition, draft.slopes
        return Statistic(
            self.names[leaf], self.leaves[leaf], definition.op, self._class_level(definition.body),
            None if definition.mask is None else self._class_level(definition.mask),
            self._class_level(definition.at) if isinstance(definition.at, Node) else definition.at,
            self.registry.level(leaf), draft.purpose,
            tuple(Slope(self.names[of], self._class_level(value)) for of, value in slopes.gradients),
            tuple(Slope(self.names[of], self._row_level(value)) for of, value in slopes.sensitivities),
            self._merge(draft.merge),
        )  # fmt: skip

    def _merge(self, rescaling: Rescaling) -> Merge:
        terms = ((self._row_level(factor), "size" if leaf is None else self.names[leaf]) for factor, leaf in rescaling.terms)
        growth = None if rescaling.growth is None else self._row_level(rescaling.growth)
        return Merge(rescaling.kind, tuple(terms), growth)


def separable(value: Node, rows: frozenset[str]) -> bool:
    """Whether a value is a sum over rows of functions of one row each, with factors that need no statistic."""
    if not differentiable(value):
        return True
    match value:
        case Reduce(op="sum" | "mean", body=body) | Select(body=body) | Slice(body=body) | Rename(body=body):
            return separable(body, rows)
        case Map(function="add" | "where", arguments=arguments):
            return all(separable(argument, rows) for argument in arguments)
        case Map(function="mul" | "div", arguments=arguments):
            factors = [argument for argument in arguments if differentiable(argument)]
            if len(factors) == 1 and (value.function == "mul" or factors[0] is arguments[0]):
                return separable(factors[0], rows)
    return not any(differentiable(node) and rows & across(node) for node in walk(value))


def across(node: Node) -> frozenset[str]:
    """The axes along which a node mixes entries."""
    match node:
        case Reduce(over=over):
            return frozenset(over)
        case Select(axis=axis) | Along(axis=axis):
            return frozenset((axis,))
        case Slice(axis=old, new=new) | Rename(old=old, new=new):
            return frozenset((old, new))
        case Call(consumed=consumed, produced=produced):
            return frozenset((*consumed, *produced))
    return frozenset()
