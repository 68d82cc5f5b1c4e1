"""Kernels as Triton source: a program for each row goes through the classes block by block.

| function | reads | writes |
|---|---|---|
| `statistics` | streams and arguments | the statistics of each row |
| `gradient` | the same, statistics, and dL/d statistic | the gradient of each stream |
| `visit` | streams and arguments, seeds of the objective among them | statistics and gradients |

Loops are in the type `real` (single precision; double for double), row values in double precision. Offsets have 64
bits. Nothing beyond the last class is read. No text or name of a spec is in the source.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lossc.compiler.core import Index, Node
from lossc.compiler.kernels.backward import added
from lossc.compiler.kernels.c import Function, Slot, SlotKind
from lossc.compiler.kernels.c_expressions import Atom
from lossc.compiler.kernels.c_points import at_label
from lossc.compiler.kernels.c_rows import value_type
from lossc.compiler.kernels.gradient import coefficient, gradient_of, guarded, seen
from lossc.compiler.kernels.model import Kernel, Local, Point, plain, type_of
from lossc.compiler.kernels.order import early, steps
from lossc.compiler.kernels.triton_expressions import TritonExpressions
from lossc.compiler.table.model import Statistic, Stream

BYTES = {"f32": 4, "f64": 8, "bf16": 2, "f16": 2, "bool": 1, "i64": 8}

HEAD = '''import triton
import triton.language as tl

from lossc.runtime.backends.triton_functions import *
'''


@dataclass(frozen=True)
class TritonSource:
    """Python text with one kernel. `slots` are its pointers in order, `dimensions` the row axes.

    If it is `sharp`, it has sums that must be 0 where equal terms cancel, so no product may be fused with a sum.
    """

    function: Function
    text: str
    slots: tuple[Slot, ...]
    dimensions: int
    sharp: bool = False


def triton_source(
    kernel: Kernel, function: Function, real: str, types: Mapping[str, str], wants: Sequence[str], dimensions: int
) -> TritonSource:
    """The source of a function.

    `types` are the storage types of streams, `wants` the streams whose gradients are written.
    """
    return _Printing(kernel, function, real, types, [s for s in kernel.streams if s.name in wants], dimensions).source()


class _Printing:
    def __init__(
        self, kernel: Kernel, function: Function, real: str, types: Mapping[str, str], wants: Sequence[Stream],
        dimensions: int,
    ) -> None:  # fmt: skip
        self.kernel, self.function, self.types, self.dimensions = kernel, function, types, dimensions
        self.real = "tl.float64" if real == "double" else "tl.float32"
        self.wants = wants if function != "statistics" else []
        self.slots: list[Slot] = []
        self.sharp: list[str] = []
        self.streams = {stream.leaf: stream for stream in kernel.streams}
        self.number = {stream.name: at for at, stream in enumerate(kernel.streams)}
        self.centred = {stream.leaf: stream.source for stream in kernel.centred}
        self.names: dict[Node, Atom] = {a.leaf: Atom(f"given{at}", a.type) for at, a in enumerate(kernel.arguments)}
        self.names |= {local.leaf: Atom(plain(local.leaf), type_of(local.leaf)) for local in kernel.locals}
        self.names |= {s.leaf: Atom(s.name, value_type(s)) for s in kernel.every}
        self.weights: dict[Node, Atom] = {coefficient(s): Atom(f"d_{s.name}_real", "number") for s in kernel.every}
        self.weights |= {seen(s): Atom(f"on_{s.name}", "mask") for s in kernel.every}

    def slot(self, kind: SlotKind, name: str) -> int:
        entry = Slot(kind, name)
        if entry not in self.slots:
            self.slots.append(entry)
        return self.slots.index(entry)

    def source(self) -> TritonSource:
        body = self._body()
        parameters = [f"data{at}" for at in range(len(self.slots))]
        parameters += [f"step{at}_{dim}" for at, slot in enumerate(self.slots) if slot.kind in ("stream", "argument")
                       for dim in range(self.dimensions)]  # fmt: skip
        parameters += ["classes", *(f"extent{dim}" for dim in range(self.dimensions)), "BLOCK: tl.constexpr"]
        lines = [HEAD, "", "@triton.jit", f"def {self.function}({', '.join(parameters)}):", *_indented(self._where(), 1),
                 *_indented(body, 1)]  # fmt: skip
        return TritonSource(self.function, "\n".join(lines) + "\n", tuple(self.slots), self.dimensions, bool(self.sharp))

    # -------------------------------------------------------------------------------------- one row

    def _where(self) -> list[str]:
        """The position of the row along each axis."""
        lines = ["row = tl.program_id(0).to(tl.int64)", "left = row"]
        for dim in reversed(range(self.dimensions)):
            lines += [f"at{dim} = left % extent{dim}", f"left = left // extent{dim}"]
        return lines

    def _offset(self, slot: int) -> str:
        return " + ".join(f"at{dim} * step{slot}_{dim}" for dim in range(self.dimensions)) or "0"

    def _body(self) -> list[str]:
        lines = []
        for number, stream in enumerate(self.kernel.streams):
            slot = self.slot("stream", stream.name)
            lines.append(f"source{number} = data{slot} + ({self._offset(slot)})")
        extra = {point.statistic.at for point in self.kernel.points if point.extra}
        lines += [self._argument(a.leaf) for a in self.kernel.arguments if a.leaf not in extra]
        match self.function:
            case "statistics":
                return lines + self._statistics()
            case "visit":
                return [*lines, *self._statistics(), *self._coefficients(), *self._gradients()]
        return [*lines, *self._recalled(), *self._gradients()]

    def _argument(self, leaf: Node) -> str:
        name, type_ = self.names[leaf]
        slot = self.slot("argument", leaf.name)  # type: ignore[attr-defined]
        value = f"tl.load(data{slot} + ({self._offset(slot)}))"
        return f"{name} = {value}{' != 0' if type_ == 'mask' else ''}"

    def _row(self, lines: list[str], prefix: str) -> TritonExpressions:
        return TritonExpressions("tl.float64", self.names.get, lines, prefix, self.sharp)

    def _of_level(self, level: int) -> list[Local]:
        return [local for local in self.kernel.locals if local.level == level]

    def _locals(self, values: Iterable[Local]) -> list[str]:
        lines: list[str] = []
        for local in values:
            name = self.names[local.leaf].text
            atom = self._row(lines, f"{name}_").atom(local.value)
            lines.append(f"{name} = {atom.text}")
        return lines

    # -------------------------------------------------------------------------------------- one class

    def _classes(self, lines: list[str], at: str, seen_: str, prefix: str) -> TritonExpressions:
        """A printer at the classes `at`; only those that `seen_` admits are read."""

        def leaf(node: Node) -> Atom | None:
            if node in self.streams:
                return self._entry(printer, self.streams[node], at, seen_)
            if node in self.centred:
                return printer.atom(self.centred[node])
            if isinstance(node, Index) and node.axis == self.kernel.axis:
                return Atom(at, "integer")
            weight = self.weights.get(node)
            if weight is None:
                return self._row_value(node, at)
            return Atom(_spread(weight.text, at), "mask") if weight.type == "mask" else weight

        printer = TritonExpressions(self.real, leaf, lines, prefix, self.sharp)
        return printer

    def _row_value(self, node: Node, at: str) -> Atom | None:
        found = self.names.get(node)
        if found is None or found.type == "integer":
            return found
        if found.type == "mask":
            return Atom(_spread(found.text, at), "mask")
        return Atom(f"{found.text}.to({self.real})", "number")

    def _entry(self, printer: TritonExpressions, stream: Stream, at: str, seen_: str) -> Atom:
        text = f"tl.load(source{self.number[stream.name]} + {at}, mask={seen_}, other=0)"
        type_ = self.types[stream.name]
        if type_ == "bool":
            return printer.declared(f"{text} != 0", "mask")
        return printer.declared(text, "integer") if type_ == "i64" else printer.declared(f"{text}.to({self.real})")

    def _loop(self, inner: Iterable[str]) -> list[str]:
        head = ["j = first + tl.arange(0, BLOCK)", "lane = j < classes"]
        return ["for first in range(0, classes, BLOCK):", *_indented([*head, *inner], 1)]

    def _admitted(self, printer: TritonExpressions, mask: Node | None) -> str:
        return "lane" if mask is None else f"both(lane, {printer.mask(mask)})"

    # -------------------------------------------------------------------------------------- statistics

    def _statistics(self) -> list[str]:
        lines = self._before_sums(0)
        for level in range(1, self.kernel.levels + 1):
            there = early(self.kernel, level - 1)
            lines += self._locals([local for local in self._of_level(level - 1) if local not in there])
            lines += [*self._before_sums(level), *self._sums(level)]
        return lines + [f"tl.store(data{self.slot('statistic', s.name)} + row, {s.name})" for s in self._whole]

    def _extra(self, statistic: Statistic) -> bool:
        return any(point.extra and point.statistic is statistic for point in self.kernel.points)

    def _before_sums(self, level: int) -> list[str]:
        """Largest entries, entries at labels and what the level reads of its own row values."""
        lines: list[str] = []
        for step in steps(self.kernel, level):
            lines += self._largest(step.extremes) if step.extremes else []
            attained = [s for s in step.extremes if s.op in ("argmax", "ties")]
            lines += self._attained(attained) if attained else []
            for point in step.points:
                lines += self._many(point) if point.extra else self._one(point)
            lines += self._locals(step.locals)
        return lines

    def _largest(self, found: Sequence[Statistic]) -> list[str]:
        starts: list[str] = []
        inner: list[str] = []
        ends: list[str] = []
        printer = self._classes(inner, "j", "lane", "value")
        for s in found:
            name, value, there = s.name, printer.number(s.body), self._admitted(printer, s.mask)
            starts.append(f"tops_{name} = tl.full([BLOCK], float('-inf'), {self.real})")
            inner.append(f"tops_{name} = tl.maximum(tops_{name}, tl.where({there}, {value}, float('-inf')))")
            ends.append(f"top_{name} = tl.max(tops_{name}, 0)")
            if s.op == "shift":
                ends.append(f"{name} = finite_or_zero(top_{name}).to(tl.float64)")
            elif s.op == "max":
                starts.append(f"odd_{name} = tl.zeros([BLOCK], tl.int32)")
                starts.append(f"some_{name} = tl.zeros([BLOCK], tl.int32)")
                inner.append(f"odd_{name} |= (({there}) & (({value}) != ({value}))).to(tl.int32)")
                inner.append(f"some_{name} |= ({there}).to(tl.int32)")
                ends.append(f"{name} = largest_of(top_{name}, tl.max(odd_{name}, 0), tl.max(some_{name}, 0)).to(tl.float64)")
        return [*starts, *self._loop(inner), *ends]

    def _attained(self, found: Sequence[Statistic]) -> list[str]:
        starts: list[str] = []
        inner: list[str] = []
        ends: list[str] = []
        printer = self._classes(inner, "j", "lane", "value")
        for s in found:
            name = s.name
            hit = f"({self._admitted(printer, s.mask)}) & ({printer.number(s.body)} == top_{name})"
            if s.op == "ties":
                starts.append(f"hits_{name} = tl.zeros([BLOCK], tl.int32)")
                inner.append(f"hits_{name} += ({hit}).to(tl.int32)")
                ends.append(f"{name} = tl.sum(hits_{name}, 0).to(tl.float64)")
            else:
                starts.append(f"places_{name} = tl.full([BLOCK], 2147483647, tl.int32)")
                inner.append(f"places_{name} = tl.minimum(places_{name}, tl.where({hit}, j, 2147483647).to(tl.int32))")
                ends.append(f"{name} = place_of(tl.min(places_{name}, 0), top_{name}, classes)")
        return [*starts, *self._loop(inner), *ends]

    def _sums(self, level: int) -> list[str]:
        found = [s for s in self.kernel.statistics if s.level == level and s.op in ("sum", "any")]
        starts: list[str] = []
        inner: list[str] = []
        ends: list[str] = []
        printer = self._classes(inner, "j", "lane", "value")
        for s in found:
            there = self._admitted(printer, s.mask)
            if s.op == "any":
                starts.append(f"sums_{s.name} = tl.zeros([BLOCK], tl.int32)")
                inner.append(f"sums_{s.name} |= (({there}) & ({printer.mask(s.body)})).to(tl.int32)")
                ends.append(f"{s.name} = tl.max(sums_{s.name}, 0) > 0")
            else:
                value = printer.number(s.body)
                starts.append(f"sums_{s.name} = tl.zeros([BLOCK], {self.real})")
                inner.append(f"sums_{s.name} += tl.where({there}, {value}, 0.0)")
                ends.append(f"{s.name} = tl.sum(sums_{s.name}.to(tl.float64), 0)")
        return [*starts, *self._loop(inner), *ends] if found else []

    # -------------------------------------------------------------------------------------- entries at labels

    def _one(self, point: Point) -> list[str]:
        s = point.statistic
        lines = [f"label_{s.name} = {self._label(point)}"]
        return [*lines, *self._read(point, f"label_{s.name}", s.name)]

    def _label(self, point: Point) -> str:
        at = point.statistic.at
        if not isinstance(at, Node):
            return str(at or 0)
        name, type_ = self.names[at]
        return name if type_ == "integer" else f"{name}.to(tl.int64)"

    def _read(self, point: Point, label: str, target: str) -> list[str]:
        """The entry of a body at a class; NaN where there is no such class, that of the first for none."""
        s = point.statistic
        lines = [f"at_{s.name} = tl.where(({label} < 0) | ({label} >= classes), 0, {label})"]
        value = self._classes(lines, f"at_{s.name}", "True", f"{s.name}_").atom(s.body)
        if value.type != "number":
            return [*lines, f"{target} = ({value.text}) & ({label} < classes)"]
        return [*lines, f"{target} = tl.where({label} < classes, {value.text}, float('nan')).to(tl.float64)"]

    def _many(self, point: Point) -> list[str]:
        """Reads the entries at several labels of a row."""
        s = point.statistic
        store = f"tl.store(data{self.slot('statistic', s.name)} + row * extent_{s.name} + k, entry)"
        return [*self._each(s), *_indented([*self._read(point, "label", "entry"), store], 1)]

    def _each(self, s: Statistic) -> list[str]:
        labels = f"tl.load(data{self.slot('labels', s.name)} + row * extent_{s.name} + k)"
        return [f"extent_{s.name} = tl.load(data{self.slot('extent', s.name)})", f"for k in range(0, extent_{s.name}):",
                f"    label = {labels}"]  # fmt: skip

    # -------------------------------------------------------------------------------------- gradients

    def _recalled(self) -> list[str]:
        """Reads the statistics that a statistics kernel has stored, and dL/d statistic."""
        lines = []
        for s in self._whole:
            lines.append(f"{s.name} = {self._kept(s)}")
            lines.append(f"d_{s.name} = tl.load(data{self.slot('coefficient', s.name)} + row)")
        for level in range(self.kernel.levels + 1):
            lines += self._locals(self._of_level(level))
        return lines

    def _coefficients(self) -> list[str]:
        """dL/d statistic from the adjoints of the row."""
        last = self.kernel.levels
        there = early(self.kernel, last)
        lines = self._locals([local for local in self._of_level(last) if local not in there])
        chained = {chain.statistic for chain in self.kernel.chains}
        parts = list(added(self.kernel, [s for s in self._whole if s.gradients or s.name in chained]))
        names = dict.fromkeys([*(s.name for s in self._whole), *(part.target for part in parts)])
        lines += [f"d_{name} = tl.full([], 0.0, tl.float64)" for name in names]
        for at, part in enumerate(parts):
            source = f"d_{part.source}" if isinstance(part.source, str) else self.names[part.source.leaf].text
            value = self._row(lines, f"slope{at}_").number(part.slope)
            lines.append(f"d_{part.target} = tl.where({source} != 0.0, d_{part.target} + {source} * {value}, d_{part.target})")
        return lines

    @property
    def _whole(self) -> list[Statistic]:
        """The statistics with one value per row."""
        return [s for s in self.kernel.every if not self._extra(s)]

    def _gradients(self) -> list[str]:
        lines = [f"on_{s.name} = d_{s.name} != 0.0" for s in self._whole]
        lines += [*self._lost(), *self._scaled()]
        inner: list[str] = []
        printer = self._classes(inner, "j", "lane", "value")
        for stream in self.wants:
            inner += [f"total{self.number[stream.name]} = {self._everywhere(printer, stream)} + tl.zeros([BLOCK], {self.real})"]
        for stream in self.wants:
            inner += [*self._at_labels(printer, stream), *self._stored(stream)]
        return [*lines, *self._loop(inner)]

    def _kept(self, s: Statistic) -> str:
        value = f"tl.load(data{self.slot('statistic', s.name)} + row)"
        return f"{value} != 0" if value_type(s) == "mask" else value

    def _lost(self) -> list[str]:
        """Whether a value depends on a label beyond the classes: then the gradient of the row is NaN."""
        points = [p for p in self.kernel.points if isinstance(p.statistic.at, Node) and not p.extra and p.statistic.gradients]
        beyond = [f"(({self._label(p)} >= classes) & on_{p.statistic.name})" for p in points]
        return [f"lost = {' | '.join(beyond) or '(row < 0)'}"]

    def _scaled(self) -> list[str]:
        return [f"d_{s.name}_real = tl.where(lost, float('nan'), d_{s.name}).to({self.real})" for s in self._whole]

    def _everywhere(self, printer: TritonExpressions, stream: Stream) -> str:
        parts = gradient_of(self.kernel, stream)
        return printer.number(guarded(parts)) if parts else "0.0"

    def _at_labels(self, printer: TritonExpressions, stream: Stream) -> list[str]:
        """What selections add at their labels."""
        lines: list[str] = []
        total = f"total{self.number[stream.name]}"
        for point in self.kernel.points:
            for slope in point.statistic.gradients:
                if slope.of == stream.name:
                    lines += self._at_label(point, at_label(slope.value), total)
        return lines

    def _at_label(self, point: Point, slope: Node, total: str) -> list[str]:
        s = point.statistic
        lines: list[str] = []
        value = self._classes(lines, "j", "lane", f"{total}_{s.name}_").number(slope)
        place = "tl.where({0} < 0, 0, {0})"
        if not point.extra:
            here = f"(j == {place.format(self._label(point))}) & {_spread(f'on_{s.name}', 'j')}"
            return [*lines, f"{total} += tl.where({here}, d_{s.name}_real * ({value}), 0.0)"]
        each = f"d_each = tl.load(data{self.slot('coefficient', s.name)} + row * extent_{s.name} + k)"
        here = f"(j == {place.format('label')}) & {_spread('d_each != 0.0', 'j')}"
        added = f"{total} += tl.where({here}, d_each.to({self.real}) * ({value}), 0.0)"
        return [*lines, *self._each(s), *_indented([each, added], 1)]

    def _stored(self, stream: Stream) -> list[str]:
        total = f"total{self.number[stream.name]}"
        if stream.shape == "column":
            return [f"tl.atomic_add(data{self.slot('column', stream.name)} + j, {total}.to(tl.float64), mask=lane)"]
        slot = self.slot("gradient", stream.name)
        return [f"tl.store(data{slot} + row * classes + j, {total}, mask=lane)"]


def _spread(mask: str, at: str) -> str:
    """A mask of the row, broadcast to its classes."""
    return f"(({mask}).to(tl.int32) + 0 * {at} != 0)"


def _indented(lines: Iterable[str], depth: int) -> list[str]:
    return ["    " * depth + line for line in lines]


def entries_read(kernel: Kernel, types: Mapping[str, str]) -> int:
    """Bytes of one class over all dense streams; the block size is chosen by it."""
    return sum(BYTES[types[stream.name]] for stream in kernel.streams if stream.shape == "dense")


__all__ = ["TritonSource", "entries_read", "triton_source"]
