"""Kernels as C source: one function per source. A call passes rows, data pointers and strides.

| function | reads | writes |
|---|---|---|
| `statistics` | streams and arguments | the statistics of each row |
| `gradient` | the same, statistics, and dL/d statistic | the gradient of each stream |
| `visit` | streams and arguments, seeds of the objective among them | statistics and gradients, a row while it is in cache |

No text or name of a spec is in the source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple

from lossc.compiler.core import Node
from lossc.compiler.kernels.c_extremes import Extremes
from lossc.compiler.kernels.c_loops import REGULAR
from lossc.compiler.kernels.c_overlap import Field, Overlap
from lossc.compiler.kernels.c_points import Points
from lossc.compiler.kernels.c_rows import RowScope, row_leaves
from lossc.compiler.kernels.c_sweeps import Sweeps
from lossc.compiler.kernels.held import first_level, held_values
from lossc.compiler.kernels.model import Kernel
from lossc.compiler.kernels.order import early, steps
from lossc.compiler.table.model import Statistic, Stream

Function = Literal["statistics", "gradient", "visit"]
SlotKind = Literal[
    "stream", "argument", "labels", "extent", "regular", "statistic", "coefficient", "gradient", "column"
]  # fmt: skip

SIZES = {"f32": 4, "f64": 8, "bf16": 2, "f16": 2, "bool": 1, "i64": 8}
"""Bytes of an entry by storage type."""

BURST = 2048
"""Bytes that may be called for at once: what a core can wait for while it computes."""

CACHED = 24 << 10
"""Bytes of a block in packs, which call for the entries of the next row one after the other: what stays in the first cache."""


class Slot(NamedTuple):
    """One entry of a call's data: its kind, and the name of its stream, argument or statistic in the kernel."""

    kind: SlotKind
    name: str


@dataclass(frozen=True)
class Source:
    """C text with one function, the data that a call passes to it in order, and the scratch memory that each thread needs."""

    function: Function
    body: str
    """The text behind the prelude."""
    slots: tuple[Slot, ...]
    held: int
    """Numbers for each class that a thread keeps."""
    columns: tuple[str, ...]
    """Streams without rows, for which a thread adds up a gradient of its own, in double precision."""

    @property
    def text(self) -> str:
        return f"{prelude()}\n{self.body}"


@cache
def prelude() -> str:
    """The declarations and functions that every kernel uses."""
    return files("lossc.compiler.kernels").joinpath("prelude.h").read_text(encoding="utf-8")


def source(
    kernel: Kernel, function: Function, real: Literal["float", "double", "REAL"], types: Mapping[str, str],
    wants: Sequence[str],
) -> Source:  # fmt: skip
    """The C source of a function of a kernel.

    `real` is the type of loops over classes, `types` the storage types of streams, `wants` the streams whose gradients
    are written. Types may be left to macros, whose names then stand in their place.
    """
    return _Printing(kernel, function, real, types, [s for s in kernel.streams if s.name in wants]).source()


class _Printing:
    def __init__(
        self, kernel: Kernel, function: Function, real: str, types: Mapping[str, str], wants: Sequence[Stream]
    ) -> None:
        self.kernel = kernel
        self.function = function
        self.real = real
        self.types = types
        self.wants = wants if function != "statistics" else []
        self.rows = RowScope(kernel)
        self.sweeps = Sweeps(kernel, self.rows, types, real, self.wants, sums=function != "gradient")
        self.slots: list[Slot] = []
        self.points = Points(kernel, self.sweeps, self.wants, self.slot)
        self.held = held_values(kernel, self.wants) if function != "gradient" else {}

    def slot(self, kind: SlotKind, name: str) -> int:
        entry = Slot(kind, name)
        if entry not in self.slots:
            self.slots.append(entry)
        return self.slots.index(entry)

    def source(self) -> Source:
        overlap = self._overlap()
        row = self._row(overlap)
        declared = overlap.declared() if overlap is not None else []
        lines = [*self._head(), *declared, *self._opening(overlap), *row, *self._closing(overlap)]
        columns = tuple(stream.name for stream in self._columns)
        return Source(self.function, "\n".join(indented(lines)) + "\n", tuple(self.slots), len(self.held), columns)

    # -------------------------------------------------------------------------------------- frame

    def _head(self) -> list[str]:
        return [
            f"#define BLOCK {self._block()}",
            f"typedef {self.real} real;",
            "typedef __typeof__(size_of((real)0)) bits_of_real;",
            "",
        ]

    def _block(self) -> int:
        """The number of classes in a block: few enough that the next row's entries can be prefetched meanwhile."""
        bytes_ = sum(SIZES.get(self.types[stream.name], 4) for stream in self.kernel.streams if stream.shape == "dense")
        if self.sweeps.takes_packs:
            return 1 << (CACHED // max(bytes_ + 4 * (len(self.held) + len(self.wants)), 1)).bit_length() - 1
        return max(256, 1 << (BURST // max(bytes_, 1)).bit_length() - 1)

    def _opening(self, overlap: Overlap | None) -> list[str]:
        lines = [f"int {self.function}(const call_t *call) {{", "const int classes = (int)call->classes;",
                 "const real unit = call->dimensions < 0 ? 0 : 1;",
                 "const int64_t chunk = 1 + call->rows / (16 * call->threads);",
                 "#pragma omp parallel num_threads((int)call->threads)", "{"]  # fmt: skip
        if self.held or self._columns:
            lines += ["char *const scratch = scratch_of(call);", "const int64_t padded = (call->classes + 15) / 16 * 16;"]
        names = enumerate(self.held.values())
        lines += [f"real *const {name} = (real *)scratch + {at} * padded;" for at, name in names]
        if overlap is not None:
            return [*lines, *self._pieces()]
        for at, stream in enumerate(self._columns):
            number = self.sweeps.number[stream.name]
            place = f"(double *)((real *)scratch + {len(self.held)} * padded)"
            lines += [f"double *const sum{number} = {place} + {at} * padded;",
                      f"for (int j = 0; j < classes; j++) sum{number}[j] = 0.0;"]  # fmt: skip
        lines += [f"real block{self.sweeps.number[s.name]}[BLOCK] __attribute__((aligned(64)));" for s in self.wants]
        return [*lines, "#pragma omp for schedule(dynamic, chunk)", "for (int64_t row = 0; row < call->rows; row++) {"]

    @staticmethod
    def _pieces() -> list[str]:
        """The loop over consecutive rows of one thread, each of which is worked on together with the row before it."""
        return [
            "#pragma omp for schedule(dynamic, 1)", "for (int64_t start = 0; start < call->rows; start += chunk) {",
            "const int64_t end = start + chunk < call->rows ? start + chunk : call->rows;", "row_t past;", "int waiting = 0;",
            "for (int64_t row = start; row < end; row++) {",
        ]  # fmt: skip

    def _closing(self, overlap: Overlap | None) -> list[str]:
        lines = ["}"] if overlap is None else ["}", *overlap.last(), "}"]
        for stream in self._columns:
            number = self.sweeps.number[stream.name]
            total = f"((double *)call->data[{self.slot('column', stream.name)}])"
            lines += ["#pragma omp critical", f"for (int j = 0; j < classes; j++) {total}[j] += sum{number}[j];"]
        if self.wants:
            lines.append("finish_stores();")
        return [*lines, "}", "return 0;", "}"]

    @property
    def _columns(self) -> list[Stream]:
        return [stream for stream in self.wants if stream.shape == "column"]

    # -------------------------------------------------------------------------------------- one row

    def _row(self, overlap: Overlap | None) -> list[str]:
        lines = ["int64_t at[DIMENSIONS];", "locate(call, row, at);", *self._pointers(), *self._arguments()]
        if self.function == "gradient":
            lines += self._recalled()
        else:
            lines += self._swept(overlap)
        if self.function == "visit":
            lines += self.rows.coefficients(self._differentiable)
        return lines + (self._gradients(overlap) if self.wants else [])

    # -------------------------------------------------------------------------------------- a row while another is written

    def _overlap(self) -> Overlap | None:
        """How rows overlap, for a visit with one sweep in packs whose gradients are dense; None for other functions."""
        simple = self.function == "visit" and self.sweeps.takes_packs and self.kernel.levels == 1 and self.wants
        if not simple or self._columns or any(point.extra for point in self.kernel.points):
            return None
        finished = [line for stream in self.wants for line in (*self.points.added(stream), *self._stored(stream))]
        return Overlap(self.sweeps, self.wants, self.held, self._fields(), self.points.labels("past."), self._straight(),
                       self._straight("past."), finished)  # fmt: skip

    def _fields(self) -> list[Field]:
        """What the gradient of a row reads, to be kept until the next row."""
        streams = [(self.sweeps.number[s.name], f"{self.types[s.name]}_t") for s in self.kernel.streams]
        wanted = [(self._number(s), f"{self.types[s.name]}_t") for s in self.wants]
        fields = [Field(f"const {type_} *", f"x{number}") for number, type_ in streams]
        fields += [Field(f"{type_} *", f"out{number}") for number, type_ in wanted]
        fields += [Field("real *", name) for name in self.held.values()]
        fields += [Field("real" if atom.type == "number" else "int", atom.text)
                   for atom in self.sweeps.arguments_of([*self.sweeps.graphs_of(self.wants), *self.points.slopes])]  # fmt: skip
        for s in self._passing:
            fields += [Field("double", f"d_{s.name}")] if s.op == "select" else [
                Field("real", f"d_{s.name}_real"), Field("int", f"on_{s.name}")]  # fmt: skip
        labels = {self.points.label(p) for p in self.kernel.points if isinstance(p.statistic.at, Node)}
        return [*fields, *(Field("int", label) for label in sorted(labels - {field.name for field in fields}))]

    def _pointers(self) -> list[str]:
        lines = []
        for number, stream in enumerate(self.kernel.streams):
            slot = self.slot("stream", stream.name)
            type_ = f"{self.types[stream.name]}_t"
            lines.append(
                f"const {type_} *const x{number} = (const {type_} *)call->data[{slot}] + offset(call, {slot}, at);"
            )
            lines.append(f"(void)x{number};")
            if self.function != "gradient":
                lines.append(f"const {type_} *const next{number} = x{number} + step(call, {slot}, row);")
                lines.append(f"(void)next{number};")
        return lines

    def _arguments(self) -> list[str]:
        used = self._used()
        return [
            self.rows.argument(argument, self.slot("argument", argument.leaf.name))
            for argument in self.kernel.arguments
            if argument.leaf in used and not self.points.is_extra_label(argument.leaf)
        ]

    def _used(self) -> set[Node]:
        """The row leaves that this function reads."""
        graphs = [part for s in self.kernel.every for part in (s.body, s.mask, s.at) if isinstance(part, Node)]
        if self.wants:
            graphs += [slope.value for s in self.kernel.every for slope in s.gradients]
        if self.function == "visit":
            for adjoint in self.kernel.adjoints or ():
                graphs += [adjoint.seed.leaf, adjoint.value]
            graphs += [chain.value for chain in self.kernel.chains]
        found = row_leaves(self.kernel, graphs)
        for local in reversed(self.kernel.locals):
            if local.leaf in found:
                found |= row_leaves(self.kernel, [local.value])
        if self.function == "visit":
            found |= row_leaves(self.kernel, [local.value for local in self.kernel.locals])
        return found

    # -------------------------------------------------------------------------------------- statistics

    def _swept(self, overlap: Overlap | None) -> list[str]:
        used = self._used()
        lines = self._before_sums(0)
        for level in range(1, self.kernel.levels + 1):
            lines += self._late(level - 1, used)
            lines += self._before_sums(level)
            held = {node: array for node, array in self.held.items() if first_level(self.kernel, node) == level}
            known = {node: array for node, array in self.held.items() if first_level(self.kernel, node) < level}
            meanwhile = overlap.meanwhile() if overlap is not None else None
            lines += self.sweeps.sums(level, held, known, ahead=level == 1, meanwhile=meanwhile)
        lines += self._late(self.kernel.levels, used) if self.wants else []
        if self.sweeps.knows_regular:
            lines.append(f"((bool_t *)call->data[{self.slot('regular', '')}])[row] = {REGULAR};")
        return lines + [
            self.rows.kept(s, self.slot("statistic", s.name)) for s in self.kernel.every if not self.points.is_extra(s)
        ]

    def _before_sums(self, level: int) -> list[str]:
        """Maxima, entries at labels, and the row values of the same level that its sums read."""
        lines: list[str] = []
        looked = level != 1 or not self.sweeps.knows_regular
        for step in steps(self.kernel, level):
            if step.extremes:
                lines += Extremes(self.sweeps).printed(step.extremes, () if looked else self.sweeps.regularity.streams)
                looked = True
            for point in step.points:
                lines += self.points.read(point)
            for local in step.locals:
                lines += self.rows.local(local)
        return lines

    def _late(self, level: int, used: set[Node]) -> list[str]:
        """The row values of a level that its own statistics do not read."""
        return self.rows.locals_after(level, used, early(self.kernel, level))

    def _recalled(self) -> list[str]:
        used = self._used()
        lines = [self.rows.recalled(s, self.slot("statistic", s.name)) for s in self.kernel.every
                 if s.leaf in used and not self.points.is_extra(s)]  # fmt: skip
        if self.sweeps.knows_regular:
            lines.append(f"const int {REGULAR} = ((const bool_t *)call->data[{self.slot('regular', '')}])[row];")
        for level in range(self.kernel.levels + 1):
            lines += self.rows.locals_after(level, used)
        return lines + [
            f"const double d_{s.name} = ((const double *)call->data[{self.slot('coefficient', s.name)}])[row];"
            for s in self._differentiable
            if not self.points.is_extra(s)
        ]

    # -------------------------------------------------------------------------------------- gradients

    @property
    def _differentiable(self) -> list[Statistic]:
        """The statistics whose coefficients are needed: for a gradient, or for another coefficient."""
        return [s for s in self.kernel.every if s.gradients or any(c.statistic == s.name for c in self.kernel.chains)]

    @property
    def _passing(self) -> list[Statistic]:
        wanted = {stream.name for stream in self.wants}
        return [s for s in self._differentiable if any(slope.of in wanted for slope in s.gradients)]

    def _gradients(self, overlap: Overlap | None) -> list[str]:
        lines = self._lost()
        for s in self._passing:
            if not self.points.is_extra(s):
                lines.append(f"const int on_{s.name} = d_{s.name} != 0.0;")
            if s.op != "select":
                lines.append(f"const real d_{s.name}_real = lost ? NAN : (real)d_{s.name};")
        for stream in self.wants:
            if stream.shape == "dense":
                number, slot = self.sweeps.number[stream.name], self.slot("gradient", stream.name)
                type_ = f"{self.types[stream.name]}_t"
                lines.append(f"{type_} *const out{number} = ({type_} *)call->data[{slot}] + row * call->classes;")
        lines += self._without_gradient(overlap)
        lines += self.sweeps.reals(self.points.slopes)
        alive = " && ".join(f"on_{s.name}" for s in self._passing if s.op != "select")
        if overlap is not None:
            return [*lines, *self.sweeps.gradient_reals(self.wants), *overlap.kept(self.sweeps.whole(self.wants, alive))]
        return [
            *lines,
            *self.sweeps.gradients(
                self.wants, self.held, alive, self._straight(), lambda s: [*self.points.added(s), *self._stored(s)]
            ),
        ]

    def _straight(self, row: str = "") -> str:
        """The C condition that a block may be written past the caches at once: no entry at a label is added to it later."""
        if any(point.extra for point in self.points.changing) or self._columns:
            return "0"
        apart = [f"!({name} >= (first ? first : INT32_MIN) && {name} < first + count)" for name in self.points.labels(row)]
        places = [f"straight_{self.types[s.name]}({row}out{self._number(s)} + first)" for s in self.wants]
        return " && ".join(["call->streaming", *apart, *places])

    def _lost(self) -> list[str]:
        """The flag of a row that depends on a label beyond the classes; its gradient is NaN."""
        points = [p for p in self.kernel.points if p.statistic in self._passing and isinstance(p.statistic.at, Node)]
        beyond = [f"({self.points.label(p)} >= classes && d_{p.statistic.name} != 0.0)" for p in points if not p.extra]
        return [f"const int lost = {' || '.join(beyond) or '0'};"]

    def _without_gradient(self, overlap: Overlap | None) -> list[str]:
        """Skips a row that no value depends on, and clears its gradient."""
        if any(self.points.is_extra(s) for s in self._passing):
            return []
        alive = " | ".join(f"on_{s.name}" for s in self._passing) or "0"
        dense = [stream for stream in self.wants if stream.shape == "dense"]
        clear = [f"memset(out{n}, 0, (size_t)classes * sizeof *out{n});" for n in map(self._number, dense)]
        return [f"if (!({alive})) {{", *clear, *(["waiting = 0;"] if overlap is not None else []), "continue;", "}"]

    def _number(self, stream: Stream) -> int:
        return self.sweeps.number[stream.name]

    def _stored(self, stream: Stream) -> list[str]:
        number = self._number(stream)
        if stream.shape == "column":
            return ["#pragma omp simd", f"for (int i = 0; i < count; i++) sum{number}[first + i] += block{number}[i];"]
        type_ = self.types[stream.name]
        return [f"put_{type_}(out{number} + first + placed, block{number} + placed, count - placed, call->streaming);"]


def indented(lines: Sequence[str]) -> list[str]:
    """Lines indented by two spaces for each open brace."""
    depth, found = 0, []
    for line in lines:
        if line.startswith("}"):
            depth -= 1
        found.append(line if line.startswith("#") else "  " * depth + line)
        depth += line.count("{") - line.count("}") + (1 if line.startswith("}") else 0)
    return found
