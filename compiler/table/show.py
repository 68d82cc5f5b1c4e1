"""The statistic table as text (`lossc plan`) and as a JSON record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from lossc.compiler.core import ONE, Input, Map, Node, Param, substitute, walk
from lossc.compiler.display import core_text
from lossc.compiler.table.model import Scalar, Statistic, Stream, Table

Record = dict[str, object]

OPERATIONS = {"shift": "largest", "max": "max", "select": "entry"}
PURPOSES = {"value": "", "gradient": "for the gradient", "merge": "for merging"}


class Text:
    """The graphs of one table as text: leaves, tensors and parameters by their names."""

    def __init__(self, table: Table, positions: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self.positions = positions or {}
        known = [scalar for scalar in table.scalars if isinstance(scalar.value, Input | Param)]
        self.plain: dict[Node, Node] = {scalar.leaf: scalar.value for scalar in known}
        self.named = {scalar.name: scalar.value for scalar in known}

    def name(self, of: str) -> str:
        """The name of a stream or row value; a row value that is a tensor or parameter goes by the name of that."""
        return self.of(self.named[of]) if of in self.named else of

    def factor(self, node: Node) -> str:
        """The text of a factor, in parentheses if it is a sum."""
        whole = self.of(node)
        return f"({whole})" if isinstance(node, Map) and node.function == "add" else whole

    def of(self, node: Node) -> str:
        node = substitute(node, self.plain)
        return core_text(substitute(node, {leaf: _unmarked(leaf) for leaf in _marked(node)}), self.positions)


def _marked(node: Node) -> Iterator[Input]:
    return (part for part in walk(node) if isinstance(part, Input) and part.name.startswith("@"))


def _unmarked(leaf: Input) -> Input:
    return Input(leaf.name[1:], leaf.order, leaf.kind, leaf.bounds, leaf.detached)


# ------------------------------------------------------------------------------------------------ for people


def render(table: Table, positions: Mapping[str, tuple[str, ...]] | None = None) -> str:
    """The table as lines of text."""
    text = Text(table, positions)
    sections = (
        ("streams", [_stream_line(stream, text) for stream in table.streams]),
        ("row values", [_scalar_line(scalar, text) for scalar in table.scalars if scalar.leaf not in text.plain]),
        ("statistics", [line for statistic in table.statistics for line in _statistic_lines(statistic, text)]),
        ("seam", [f"{root.name} = {text.of(root.value)}" + _coupling(root.separable) for root in table.seam]),
        ("merging two blocks of classes", list(_merge_lines(table, text))),
        ("not a statistic", [f"{entry.name} {_axes(entry.leaf)}  {entry.reason}" for entry in table.computed]),
    )
    lines = [f"class axis {table.axis}: {sweeps(table.levels)}"]
    for title, entries in sections:
        if entries:
            lines += ["", title, *(f"  {entry}" for entry in entries)]
    return "\n".join(lines)


def sweeps(levels: int) -> str:
    """How often the classes of a row are visited."""
    if levels == 0:
        return "entries at labels only"
    return f"{levels} sweep{'s' if levels > 1 else ''} for the values, one for the gradient"


def _axes(node: Node) -> str:
    return f"[{', '.join(sorted(node.axes))}]"


def _stream_line(stream: Stream, text: Text) -> str:
    sources = {
        "centred": f"= {text.of(stream.source)}",
        "computed": f"computed: {stream.reason}",
        "pairs": f"inner products {text.of(stream.source)}",
        "rows": f"= {text.of(stream.source)}",
    }
    gradient = ", gradient" if stream.differentiable and stream.provider != "centred" else ""
    return f"{stream.name} {_axes(stream.leaf)}  {sources.get(stream.provider, stream.provider)}{gradient}"


def _scalar_line(scalar: Scalar, text: Text) -> str:
    after = f"  after sweep {scalar.level}" if scalar.level else ""
    return f"{scalar.name} {_axes(scalar.leaf)} = {text.of(scalar.value)}{after}"


def _statistic_lines(statistic: Statistic, text: Text) -> Iterator[str]:
    where = f" where {text.of(statistic.mask)}" if statistic.mask is not None else ""
    at = statistic.at if isinstance(statistic.at, int) else "" if statistic.at is None else text.of(statistic.at)
    operation = OPERATIONS.get(statistic.op, statistic.op)
    body = text.of(statistic.body) + (f" at {at}" if statistic.op == "select" else "")
    notes = [f"sweep {statistic.level}" if statistic.level else "", "constant" if statistic.op == "shift" else "",
             PURPOSES[statistic.purpose]]  # fmt: skip
    remarks = ", ".join(note for note in notes if note)
    yield f"{statistic.name} {_axes(statistic.leaf)} = {operation}{where} of {body}" + (f"  ({remarks})" if remarks else "")
    for slope in statistic.gradients:
        yield f"    d/d {slope.of}: {text.of(slope.value)}"
    for slope in statistic.sensitivities:
        yield f"    summed d/d {text.name(slope.of)}: {text.of(slope.value)}"


def _coupling(separable: bool) -> str:
    return "" if separable else "  (rows are coupled)"


def _merge_lines(table: Table, text: Text) -> Iterator[str]:
    for statistic in table.statistics:
        merge = statistic.merge
        parts = " + ".join(of if factor is ONE else f"{text.factor(factor)} * {of}" for factor, of in merge.terms)
        growth = "" if merge.growth is None else f", each block + {text.of(merge.growth)}"
        if merge.kind != "add":
            yield f"{statistic.name}: " + (f"add, each block {parts}" if merge.kind == "rescale" else merge.kind + growth)


# ------------------------------------------------------------------------------------------------ as a record


def to_record(table: Table, positions: Mapping[str, tuple[str, ...]] | None = None) -> Record:
    """The table with its graphs as text, for `--json`."""
    text = Text(table, positions)
    return {
        "axis": table.axis,
        "levels": table.levels,
        "streams": [_stream_record(stream, text) for stream in table.streams],
        "scalars": [
            {"name": s.name, "axes": sorted(s.leaf.axes), "value": text.of(s.value), "level": s.level,
             "differentiable": s.differentiable}
            for s in table.scalars
        ],
        "statistics": [_statistic_record(statistic, text) for statistic in table.statistics],
        "seam": [{"name": r.name, "value": text.of(r.value), "separable": r.separable} for r in table.seam],
        "computed": [
            {"name": c.name, "axes": sorted(c.leaf.axes), "value": text.of(c.node), "reason": c.reason}
            for c in table.computed
        ],
        "order": list(table.order),
    }  # fmt: skip


def _stream_record(stream: Stream, text: Text) -> Record:
    return {
        "name": stream.name,
        "axes": sorted(stream.leaf.axes),
        "shape": stream.shape,
        "provider": stream.provider,
        "source": text.of(stream.source),
        "differentiable": stream.differentiable,
        "shift": stream.shift,
        "reason": stream.reason,
    }


def _statistic_record(statistic: Statistic, text: Text) -> Record:
    def slopes(found: Iterable[tuple[str, Node]]) -> list[Record]:
        return [{"of": of, "value": text.of(value)} for of, value in found]

    return {
        "name": statistic.name,
        "axes": list(statistic.rows),
        "op": statistic.op,
        "body": text.of(statistic.body),
        "where": None if statistic.mask is None else text.of(statistic.mask),
        "at": text.of(statistic.at) if isinstance(statistic.at, Node) else statistic.at,
        "level": statistic.level,
        "purpose": statistic.purpose,
        "gradients": slopes((slope.of, slope.value) for slope in statistic.gradients),
        "sensitivities": slopes((slope.of, slope.value) for slope in statistic.sensitivities),
        "merge": {
            "kind": statistic.merge.kind,
            "terms": [{"factor": text.of(factor), "of": of} for factor, of in statistic.merge.terms],
            "growth": None if statistic.merge.growth is None else text.of(statistic.merge.growth),
        },
    }
