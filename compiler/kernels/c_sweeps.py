"""The loops of a kernel over the classes of a row: largest entries, sums, entries at labels, gradients.

Sums are taken over blocks of classes in the type of the loop, several lanes each, and over the blocks in double precision.
Gradients are worked out for one block at a time, entries at labels added to it, and the block is rounded and stored once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lossc.compiler.core import Index, Node
from lossc.compiler.kernels.c_expressions import Atom, Expressions
from lossc.compiler.kernels.c_rows import RowScope, row_leaves
from lossc.compiler.kernels.gradient import Part, gradient_of
from lossc.compiler.kernels.model import Kernel, Point
from lossc.compiler.table.model import Statistic, Stream

EXTREMES = ("shift", "max", "argmax", "ties")


@dataclass(frozen=True)
class Place:
    """Where in the classes a loop is: entries of stream k are `{pointer}{k}[{index}]`, the class is `{position}`."""

    pointer: str
    index: str
    position: str


WHOLE = Place("x", "j", "j")
BLOCKED = Place("p", "i", "first + i")


class Sweeps:
    """Loops of one kernel; `types` are the storage types of its streams, by name, `suffix` that of literals."""

    def __init__(self, kernel: Kernel, rows: RowScope, types: Mapping[str, str], suffix: str) -> None:
        self.kernel = kernel
        self.rows = rows
        self.types = types
        self.suffix = suffix
        self.number = {stream.name: at for at, stream in enumerate(kernel.streams)}
        self.streams = {stream.leaf: stream for stream in kernel.streams}
        self.centred = {stream.leaf: stream.source for stream in kernel.centred}
        self._reals: set[Node] = set()

    # -------------------------------------------------------------------------------------- names

    def expressions(self, lines: list[str], place: Place, held: Mapping[Node, str] | None = None) -> Expressions:
        """Printing at one class; `held` are values that an earlier sweep has kept."""
        held = held or {}

        def leaf(node: Node) -> Atom | None:
            if node in held:
                return printer.declared(f"{held[node]}[{place.position}]")
            if node in self.streams:
                return self._entry(printer, self.streams[node], place)
            if node in self.centred:
                return printer.atom(self.centred[node])
            if isinstance(node, Index) and node.axis == self.kernel.axis:
                return printer.declared(place.position, "integer")
            name = self.rows.names.get(node)
            return Atom(f"{name.text}_real", "number") if name is not None and name.type == "number" else name

        printer = Expressions("real", self.suffix, leaf, lines)
        return printer

    def _entry(self, printer: Expressions, stream: Stream, place: Place) -> Atom:
        type_ = self.types[stream.name]
        text = f"load_{type_}({place.pointer}{self.number[stream.name]}[{place.index}])"
        if type_ == "bool":
            return printer.declared(text, "mask")
        return printer.declared(text, "integer") if type_ == "i64" else printer.declared(f"(real){text}")

    def reals(self, graphs: Iterable[Node]) -> list[str]:
        """Copies of the row values in these graphs in the type of the loops, where there are none yet."""
        lines = []
        for leaf in sorted(row_leaves(self.kernel, graphs), key=lambda leaf: self.rows.names[leaf].text):
            name = self.rows.names[leaf]
            if name.type == "number" and leaf not in self._reals:
                self._reals.add(leaf)
                lines.append(f"const real {name.text}_real = (real){name.text};")
        return lines

    def block_pointers(self, streams: Iterable[Stream]) -> list[str]:
        return [
            f"const {self.types[s.name]}_t *restrict p{self.number[s.name]} = x{self.number[s.name]} + first;"
            for s in streams
        ]

    # -------------------------------------------------------------------------------------- largest entries

    def extremes(self, level: int) -> list[str]:
        """Loops for the largest entries of a level, as many as one takes the shift of another."""
        left = [s for s in self.kernel.statistics if s.level == level and s.op in EXTREMES]
        lines: list[str] = []
        while left:
            leaves = {s.leaf for s in left}
            ready = [s for s in left if not row_leaves(self.kernel, _read_by([s])) & leaves]
            left = [s for s in left if s not in ready]
            lines += self._extremes(ready)
        return lines

    def _extremes(self, found: Sequence[Statistic]) -> list[str]:
        """One loop for largest entries, and one for where and how often these are attained."""
        lines = self.reals(_read_by(found))
        clauses, body = self._largest(found, lines)
        lines += _simd([f"reduction(max : {', '.join(clauses['max'])})", *_others(clauses)], "classes", "j", body)
        for statistic in found:
            lines += self._settled(statistic)
        return lines + self._attained([s for s in found if s.op in ("argmax", "ties")])

    def _largest(self, found: Sequence[Statistic], lines: list[str]) -> tuple[dict[str, list[str]], list[str]]:
        body: list[str] = []
        printer = self.expressions(body, WHOLE)
        clauses: dict[str, list[str]] = {"max": [], "|": []}
        for s in found:
            lines.append(f"real top_{s.name} = -INFINITY;")
            clauses["max"].append(f"top_{s.name}")
            value = printer.number(s.body)
            if s.op == "max":
                lines.append(f"int odd_{s.name} = 0, some_{s.name} = 0;")
                clauses["|"] += [f"odd_{s.name}", f"some_{s.name}"]
                there = printer.mask(s.mask) if s.mask is not None else "1"
                body += [f"odd_{s.name} |= {there} & ({value} != {value});", f"some_{s.name} |= {there};"]
            if s.mask is not None:
                value = printer.declared(f"{printer.mask(s.mask)} ? {value} : -INFINITY").text
            body.append(f"top_{s.name} = {value} > top_{s.name} ? {value} : top_{s.name};")
        return clauses, body

    def _settled(self, s: Statistic) -> list[str]:
        """A shift is 0 where the largest is not finite; a maximum of nothing is 0, and NaN where an entry is."""
        if s.op == "shift":
            return [f"const double {s.name} = isfinite(top_{s.name}) ? top_{s.name} : 0.0;"]
        if s.op == "max":
            return [f"const double {s.name} = odd_{s.name} ? NAN : some_{s.name} ? top_{s.name} : 0.0;"]
        return []

    def _attained(self, found: Sequence[Statistic]) -> list[str]:
        if not found:
            return []
        lines: list[str] = []
        body: list[str] = []
        clauses: dict[str, list[str]] = {"+": [], "min": []}
        printer = self.expressions(body, WHOLE)
        for s in found:
            there = [printer.mask(s.mask)] if s.mask is not None else []
            hit = printer.declared(" & ".join([f"({printer.number(s.body)} == top_{s.name})", *there]), "mask").text
            if s.op == "ties":
                lines.append(f"int some_{s.name} = 0;")
                clauses["+"].append(f"some_{s.name}")
                body.append(f"some_{s.name} += {hit};")
            else:
                lines.append(f"int first_{s.name} = classes;")
                clauses["min"].append(f"first_{s.name}")
                body += [f"const int at_{s.name} = {hit} ? j : classes;",
                         f"first_{s.name} = at_{s.name} < first_{s.name} ? at_{s.name} : first_{s.name};"]  # fmt: skip
        lines += _simd(_others(clauses), "classes", "j", body)
        for s in found:
            if s.op == "ties":
                lines.append(f"const double {s.name} = some_{s.name};")
            else:
                none = f"top_{s.name} == -INFINITY || first_{s.name} == classes"
                lines.append(f"const int {s.name} = {none} ? -1 : first_{s.name};")
        return lines

    # -------------------------------------------------------------------------------------- sums

    def sums(self, level: int, held: Mapping[Node, str]) -> list[str]:
        """One loop for all sums of a level; what is in `held` is kept for the gradient."""
        found = [s for s in self.kernel.statistics if s.level == level and s.op in ("sum", "any")]
        if not found:
            return []
        lines = self.reals(_read_by(found))
        body: list[str] = []
        printer = self.expressions(body, BLOCKED)
        starts, ends = [], []
        clauses: dict[str, list[str]] = {"+": [], "|": []}
        for s in found:
            value = printer.mask(s.body) if s.op == "any" else printer.number(s.body)
            if s.mask is not None:
                value = f"{printer.mask(s.mask)} ? {value} : 0"
            held_in, sign, part = ("int", "|", "int") if s.op == "any" else ("double", "+", "real")
            lines.append(f"{held_in} {s.name} = 0;")
            starts.append(f"{part} part_{s.name} = 0;")
            clauses[sign].append(f"part_{s.name}")
            body.append(f"part_{s.name} {sign}= {value};")
            ends.append(f"{s.name} {sign}= part_{s.name};")
        body += [f"{name}[first + i] = {printer.number(node)};" for node, name in held.items()]
        streams = self._streams_of(_read_by(found))
        inner = [*self.block_pointers(streams), *starts, *_simd(_others(clauses), "count", "i", body), *ends]
        return [*lines, *_blocks(inner)]

    def _streams_of(self, graphs: Iterable[Node]) -> list[Stream]:
        reads = _leaves(self, graphs)
        return [stream for stream in self.kernel.streams if stream.leaf in reads]

    # -------------------------------------------------------------------------------------- entries at labels

    def point(self, point: Point, output: str, label: str) -> list[str]:
        """The entry of a body at a class; NaN where there is no such class."""
        lines: list[str] = []
        printer = self.expressions(lines, WHOLE)
        value = printer.atom(point.statistic.body)
        missing = "0" if value.type != "number" else "NAN"
        return [f"if ({label} < classes) {{", f"const int j = {label} < 0 ? 0 : {label};", *lines,
                f"{output} = {value.text};", f"}} else {output} = {missing};"]  # fmt: skip

    # -------------------------------------------------------------------------------------- gradients

    def gradients(
        self, wants: Sequence[Stream], held: Mapping[Node, str], added: Callable[[Stream], list[str]],
        stored: Callable[[Stream], list[str]],
    ) -> list[str]:  # fmt: skip
        """One loop for the gradients of all streams; `added` and `stored` say what is done with a block of each."""
        body: list[str] = []
        printer = self.expressions(body, BLOCKED, held)
        graphs = []
        for stream in wants:
            parts = gradient_of(self.kernel, stream)
            graphs += [node for part in parts for node in part.graphs]
            body.append(f"block{self.number[stream.name]}[i] = {self._combined(parts, printer)};")
        lines = self.reals(graphs)
        inner = [*self.block_pointers(self._streams_of(graphs)), *_simd([], "count", "i", body)]
        for stream in wants:
            inner += [*added(stream), *stored(stream)]
        return [*lines, *_blocks(inner)]

    def _combined(self, parts: Sequence[Part], printer: Expressions) -> str:
        """The sum of coefficient * slope, each where its mask holds and its coefficient is not 0."""
        terms = []
        for part in parts:
            value = printer.number(part.value)
            seen = [f"on_{part.statistic.name}", *([printer.mask(part.mask)] if part.mask is not None else [])]
            terms.append(printer.declared(f"{' & '.join(seen)} ? d_{part.statistic.name}_real * {value} : 0").text)
        return " + ".join(terms) or "0"


def _leaves(sweeps: Sweeps, graphs: Iterable[Node]) -> set[Node]:
    from lossc.compiler.core import walk

    found: set[Node] = set()
    stack = list(graphs)
    while stack:
        for part in walk(stack.pop()):
            if part in sweeps.centred and part not in found:
                stack.append(sweeps.centred[part])
            found.add(part)
    return found


def _read_by(statistics: Iterable[Statistic]) -> list[Node]:
    return [part for s in statistics for part in (s.body, s.mask) if part is not None]


def _others(clauses: Mapping[str, list[str]]) -> list[str]:
    return [f"reduction({sign} : {', '.join(names)})" for sign, names in clauses.items() if names and sign != "max"]


def _simd(clauses: Sequence[str], extent: str, index: str, body: Sequence[str]) -> list[str]:
    pragma = " ".join(("#pragma omp simd", *clauses))
    return [pragma, f"for (int {index} = 0; {index} < {extent}; {index}++) {{", *body, "}"]


def _blocks(inner: Sequence[str]) -> list[str]:
    return ["for (int first = 0; first < classes; first += BLOCK) {",
            "const int count = classes - first < BLOCK ? classes - first : BLOCK;", *inner, "}"]  # fmt: skip
