"""Entries at labels: how a row reads them from its streams, and what it adds to their gradients.

A statistic is read at one label of a row, or at several (`extra`), whose number and places a call passes separately. A
label below 0 reads the first class; one beyond the last reads NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lossc.compiler.core import Map, Node
from lossc.compiler.kernels.c_loops import WHOLE, Loops
from lossc.compiler.kernels.c_rows import OUTPUT_TYPES, value_type
from lossc.compiler.kernels.model import Kernel, Point
from lossc.compiler.table.model import Statistic, Stream

if TYPE_CHECKING:
    from lossc.compiler.kernels.c import SlotKind


class Points:
    """The entries at labels of one kernel. `slot` gives the index of what a call passes."""

    def __init__(self, kernel: Kernel, loops: Loops, wants: Sequence[Stream], slot: Callable[[SlotKind, str], int]) -> None:
        self.kernel = kernel
        self.loops = loops
        self.slot = slot
        wanted = {stream.name for stream in wants}
        self.changing = [p for p in kernel.points if any(slope.of in wanted for slope in p.statistic.gradients)]
        """Those that add to wanted gradients."""

    @property
    def slopes(self) -> list[Node]:
        """The derivatives of the entries by their streams."""
        return [at_label(slope.value) for point in self.kernel.points for slope in point.statistic.gradients]

    def is_extra(self, statistic: Statistic) -> bool:
        """Whether a statistic is read at several labels of a row."""
        return any(point.extra and point.statistic is statistic for point in self.kernel.points)

    def is_extra_label(self, leaf: Node) -> bool:
        """Whether a leaf holds several labels of a row."""
        return any(point.extra and point.statistic.at is leaf for point in self.kernel.points)

    # -------------------------------------------------------------------------------------- labels

    def label(self, point: Point) -> str:
        """The C name of the class that a point reads, where it reads one in each row."""
        at = point.statistic.at
        return str(at) if isinstance(at, int) else self.loops.rows.names[at].text if at is not None else "0"

    def labels(self, row: str = "") -> list[str]:
        """The classes at which a gradient is added to, in the row whose names have this prefix."""
        names = [self.label(p) if isinstance(p.statistic.at, int) else row + self.label(p) for p in self.changing]
        return list(dict.fromkeys(names))

    def _extent(self, s: Statistic) -> str:
        return f"*(const int64_t *)call->data[{self.slot('extent', s.name)}]"

    def _each(self, s: Statistic) -> list[str]:
        labels = f"((const int64_t *)call->data[{self.slot('labels', s.name)}])[row * {self._extent(s)} + k]"
        return [f"for (int64_t k = 0; k < {self._extent(s)}; k++) {{", f"const int label = whole({labels});"]

    # -------------------------------------------------------------------------------------- values

    def read(self, point: Point) -> list[str]:
        """Reads the entries of a point."""
        return [*self.loops.reals([point.statistic.body]), *(self._many(point) if point.extra else self._one(point))]

    def _one(self, point: Point) -> list[str]:
        s = point.statistic
        held = "double" if not s.leaf.is_mask else "int"
        return [f"{held} {s.name};", *self._entry(point, s.name, self.label(point))]

    def _many(self, point: Point) -> list[str]:
        s = point.statistic
        type_ = OUTPUT_TYPES[value_type(s)]
        target = f"(({type_} *)call->data[{self.slot('statistic', s.name)}])[row * {self._extent(s)} + k]"
        return [*self._each(s), *self._entry(point, target, "label"), "}"]

    def _entry(self, point: Point, output: str, label: str) -> list[str]:
        """The entry of a body at a class; NaN where there is no such class."""
        lines: list[str] = []
        value = self.loops.expressions(lines, WHOLE).atom(point.statistic.body)
        missing = "0" if value.type != "number" else "NAN"
        return [f"if ({label} < classes && classes > 0) {{", f"const int j = {label} < 0 ? 0 : {label};", *lines,
                f"{output} = {value.text};", f"}} else {output} = {missing};"]  # fmt: skip

    # -------------------------------------------------------------------------------------- gradients

    def added(self, stream: Stream) -> list[str]:
        """Adds what belongs at labels to a block of the gradient of a stream."""
        slopes = [(point, slope) for point in self.kernel.points for slope in point.statistic.gradients]
        own = [(point, slope.value) for point, slope in slopes if slope.of == stream.name]
        return [line for point, slope in own for line in self._added_at(point, stream, slope)]

    def _added_at(self, point: Point, stream: Stream, slope: Node) -> list[str]:
        s = point.statistic
        coefficient = f"d_{s.name}"
        opening, closing = ["{", f"const int label = {self.label(point)};"], "}"
        if point.extra:
            given = f"((const double *)call->data[{self.slot('coefficient', s.name)}])[row * {self._extent(s)} + k]"
            opening = [*self._each(s), f"const double d_{s.name} = {given};"]
        inner: list[str] = []
        value = self.loops.expressions(inner, WHOLE).number(at_label(slope))
        block = f"block{self.loops.number[stream.name]}"
        return [*opening, "const int place = (label < 0 ? 0 : label) - first;",
                f"if (place >= 0 && place < count && {coefficient} != 0) {{", "const int j = first + place;", "(void)j;",
                *inner, f"{block}[place] += (real){coefficient} * {value};", "}", closing]  # fmt: skip


def at_label(slope: Node) -> Node:
    """The slope of a selection at its label: `slope if index == label else 0`, without the condition."""
    assert isinstance(slope, Map) and slope.function == "where"
    return slope.arguments[1]
