"""The loops of a kernel over the classes of a row: largest entries, sums, entries at labels, gradients.

Sums are taken over blocks of classes in the type of the loop, several lanes each, and over the blocks in double precision.
Gradients are worked out for one block at a time, entries at labels added to it, and the block is rounded and stored once.
Loops over regular rows are printed apart: they need no guards, and take packs of classes where there are any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lossc.compiler.core import Index, Node, walk
from lossc.compiler.kernels.c_expressions import Atom, Expressions
from lossc.compiler.kernels.c_packs import Packs, Source
from lossc.compiler.kernels.c_rows import RowScope, row_leaves
from lossc.compiler.kernels.gradient import Part, coefficient, collected, gradient_of, guarded, seen
from lossc.compiler.kernels.model import Kernel, Point
from lossc.compiler.kernels.regular import DEPTH, Regularity
from lossc.compiler.table.model import Statistic, Stream

HALF = ("bf16", "f16")

REGULAR = "regular"
"""The flag of a regular row."""


@dataclass(frozen=True)
class Place:
    """Where in the classes a loop is: entries of stream k are `{pointer}{k}[{index}]`, the class is `{position}`."""

    pointer: str
    index: str
    position: str


WHOLE = Place("x", "j", "j")
BLOCKED = Place("p", "i", "first + i")


class Sweeps:
    """Loops of one kernel for `sums` and for the gradients of the streams in `wants`; `types` are storage types by stream."""

    def __init__(
        self, kernel: Kernel, rows: RowScope, types: Mapping[str, str], real: str, wants: Sequence[Stream], *, sums: bool
    ) -> None:
        self.kernel = kernel
        self.rows = rows
        self.types = types
        self.number = {stream.name: at for at, stream in enumerate(kernel.streams)}
        self.streams = {stream.leaf: stream for stream in kernel.streams}
        self.centred = {stream.leaf: stream.source for stream in kernel.centred}
        self.regularity = Regularity(kernel)
        self._reals: set[Node] = set()
        self._weights: dict[Node, Atom] = {coefficient(s): Atom(f"d_{s.name}_real", "number") for s in kernel.every}
        self._weights |= {seen(s): Atom(f"on_{s.name}", "mask") for s in kernel.every}
        self._packed = REGULAR
        self._packs = self._with_packs(real, wants, sums=sums)

    @property
    def knows_regular(self) -> bool:
        """Whether rows are told apart."""
        return bool(self.regularity.streams)

    @property
    def takes_packs(self) -> bool:
        """Whether loops over regular rows take packs."""
        return self._packs is not None

    def _with_packs(self, real: str, wants: Sequence[Stream], *, sums: bool) -> Packs | None:
        """Packs, where all loops can take them; they hold numbers of single precision, of which the types are known."""
        if real != "float" or not self.knows_regular:
            return None
        packs = Packs(Source(self.types, self.number, self.streams, self.centred, self.regularity, self._exponential,
                             lambda node: self._weights.get(node) or self._row_value(node)))  # fmt: skip
        summed = [s for s in self.kernel.statistics if s.op in ("sum", "any")] if sums else []
        parts = [part for stream in wants for part in gradient_of(self.kernel, stream)]
        if any(s.op == "any" or s.mask is not None for s in summed) or any(part.mask is not None for part in parts):
            return None
        totals = [collected(gradient_of(self.kernel, stream), self.kernel.axis) for stream in wants]
        return packs if all(map(packs.has, [*(s.body for s in summed), *totals])) else None

    # -------------------------------------------------------------------------------------- names

    def expressions(
        self, lines: list[str], place: Place, held: Mapping[Node, str] | None = None, *, regular: bool = False
    ) -> Expressions:
        """Printing at one class; `held` are values that an earlier sweep has kept."""
        kept = held or {}

        def leaf(node: Node) -> Atom | None:
            if node in kept:
                return printer.declared(f"{kept[node]}[{place.position}]")
            if node in self.streams:
                return self._entry(printer, self.streams[node], place)
            if node in self.centred:
                return printer.atom(self.centred[node])
            if isinstance(node, Index) and node.axis == self.kernel.axis:
                return printer.declared(place.position, "integer")
            return self._weights.get(node) or self._row_value(node)

        facts = self.regularity if regular else None
        spelling = self._exponential if regular else lambda _: "exponential"
        printer = Expressions("real", leaf, lines, regular=facts, exponential=spelling)
        return printer

    def _exponential(self, exponent: Node) -> str:
        """The cheapest function that serves for an exponent in regular rows."""
        if self.regularity.is_bounded(exponent):
            return "exponential_brief" if self._is_half(exponent) else "exponential_bounded"
        return "exponential_negative" if self.regularity.nonpositive(exponent) else "exponential"

    def _is_half(self, graph: Node) -> bool:
        """Whether all that a graph reads has 16 bits."""
        return all(self.types[self.streams[leaf].name] in HALF for leaf in self._reached([graph]) if leaf in self.streams)

    def _row_value(self, node: Node) -> Atom | None:
        name = self.rows.names.get(node)
        return Atom(f"{name.text}_real", "number") if name is not None and name.type == "number" else name

    def _entry(self, printer: Expressions, stream: Stream, place: Place) -> Atom:
        type_ = self.types[stream.name]
        text = f"load_{type_}({place.pointer}{self.number[stream.name]}[{place.index}])"
        if type_ == "bool":
            return printer.declared(text, "mask")
        return printer.declared(text, "integer") if type_ == "i64" else printer.declared(f"(real){text}")

    def reals(self, graphs: Iterable[Node]) -> list[str]:
        """Copies of the row values in these graphs in the type of the loops, where there are none yet."""
        lines = []
        for leaf in self._numbers(graphs):
            if leaf not in self._reals:
                self._reals.add(leaf)
                name = self.rows.names[leaf].text
                lines.append(f"const real {name}_real = (real){name};")
        return lines

    def _numbers(self, graphs: Iterable[Node]) -> list[Node]:
        """The numbers of a row that graphs read, in a fixed order."""
        leaves = [leaf for leaf in row_leaves(self.kernel, graphs) if leaf not in self._weights]
        numbers = [leaf for leaf in leaves if self.rows.names[leaf].type == "number"]
        return sorted(numbers, key=lambda leaf: self.rows.names[leaf].text)

    def _pointers(self, graphs: Iterable[Node]) -> list[str]:
        """The streams that graphs read, from the start of a block."""
        read = self._reached(graphs)
        numbered = [(self.types[s.name], self.number[s.name]) for s in self.kernel.streams if s.leaf in read]
        return [f"const {type_}_t *restrict p{number} = x{number} + first;" for type_, number in numbered]

    def _reached(self, graphs: Iterable[Node]) -> set[Node]:
        """All nodes of graphs, through the definitions of centred streams."""
        found: set[Node] = set()
        stack = list(graphs)
        while stack:
            for part in walk(stack.pop()):
                if part in self.centred and part not in found:
                    stack.append(self.centred[part])
                found.add(part)
        return found

    def _apart(self, graphs: Sequence[Node], also: str, print_: Callable[[bool], list[str]]) -> list[str]:
        """A loop for regular rows and one for the others."""
        if not self.knows_regular:
            return print_(False)
        condition = " && ".join([REGULAR, *([also] if also else []), *self._finite(graphs)])
        return [f"if ({condition}) {{", *print_(True), "} else {", *print_(False), "}"]

    # -------------------------------------------------------------------------------------- largest entries

    def extremes(self, found: Sequence[Statistic], looked: Sequence[Stream]) -> list[str]:
        """One loop for largest entries, and one for where and how often these are attained.

        `looked` are streams whose smallest and largest entries say whether the row is regular.
        """
        lines = self.reals(_read_by(found))
        clauses: dict[str, list[str]] = {"max": [], "min": [], "|": []}
        body: list[str] = []
        printer = self.expressions(body, WHOLE)
        for statistic in found:
            lines += self._largest(statistic, printer, clauses)
        conditions: list[str] = []
        for stream in looked:
            lines += self._looked(stream, printer, clauses, conditions)
        lines += _simd(clauses, "classes", "j", body)
        for statistic in found:
            lines += self._settled(statistic)
        if looked:
            lines.append(f"const int {REGULAR} = {' && '.join(conditions)};")
        return lines + self._attained([s for s in found if s.op in ("argmax", "ties")])

    def _largest(self, s: Statistic, printer: Expressions, clauses: dict[str, list[str]]) -> list[str]:
        if self._is_ordered(s):
            return self._ordered(f"top_{s.name}", ">", self.streams[s.body], printer, clauses["max"])
        starts = [f"real top_{s.name} = -INFINITY;"]
        clauses["max"].append(f"top_{s.name}")
        value = printer.number(s.body)
        if s.op == "max":
            starts.append(f"int odd_{s.name} = 0, some_{s.name} = 0;")
            clauses["|"] += [f"odd_{s.name}", f"some_{s.name}"]
            there = printer.mask(s.mask) if s.mask is not None else "1"
            printer.lines += [f"odd_{s.name} |= {there} & ({value} != {value});", f"some_{s.name} |= {there};"]
        if s.mask is not None:
            value = printer.declared(f"{printer.mask(s.mask)} ? {value} : -INFINITY").text
        printer.lines.append(f"top_{s.name} = {value} > top_{s.name} ? {value} : top_{s.name};")
        return starts

    def _looked(
        self, stream: Stream, printer: Expressions, clauses: dict[str, list[str]], conditions: list[str]
    ) -> list[str]:
        """The smallest and largest entry of a stream; a largest that is taken anyway serves."""
        number = self.number[stream.name]
        bounding = self.regularity.bounding(stream)
        if bounding is not None and self._is_ordered(bounding):
            low = f"from_order_{self.types[stream.name]}(order_low{number})"
            conditions.append(self._in_range(stream, low, f"top_{bounding.name}"))
            return self._ordered(f"low{number}", "<", stream, printer, clauses["min"])
        value = printer.number(stream.leaf)
        starts = [f"real low{number} = INFINITY;"]
        clauses["min"].append(f"low{number}")
        printer.lines.append(f"low{number} = {value} < low{number} ? {value} : low{number};")
        high = f"top_{bounding.name}" if bounding is not None else f"high{number}"
        starts.append(f"real odd{number} = 0;")
        clauses.setdefault("+", []).append(f"odd{number}")
        printer.lines.append(f"odd{number} += {value} * 0;")
        conditions.append(f"odd{number} == 0")
        if bounding is None:
            starts.append(f"real high{number} = -INFINITY;")
            clauses["max"].append(high)
            printer.lines.append(f"{high} = {value} > {high} ? {value} : {high};")
        conditions.append(self._in_range(stream, f"low{number}", high))
        return starts

    def _in_range(self, stream: Stream, low: str, high: str) -> str:
        """That the entries of a stream are finite, and exponentials of the lowest do not vanish."""
        factor = self.regularity.factor(stream)
        if factor is None:
            return f"{low} > -INFINITY && {high} < INFINITY"
        return f"({high} - {low}) * (real){float(factor)!r} < {DEPTH}"

    def _is_ordered(self, s: Statistic) -> bool:
        """Whether a shift is the largest of stored 16-bit numbers, which integers compare, twice as many at once."""
        stream = self.streams.get(s.body)
        return s.op == "shift" and s.mask is None and stream is not None and self.types[stream.name] in HALF

    def _ordered(self, name: str, sign: str, stream: Stream, printer: Expressions, clause: list[str]) -> list[str]:
        """The extreme of a stream in the order of integers."""
        order = f"order_{name}"
        clause.append(order)
        entry = f"order_of(x{self.number[stream.name]}[j])"
        printer.lines += [
            f"const int16_t at_{name} = {entry};",
            f"{order} = at_{name} {sign} {order} ? at_{name} : {order};",
        ]
        return [f"int16_t {order} = {'INT16_MIN' if sign == '>' else 'INT16_MAX'};"]

    def _settled(self, s: Statistic) -> list[str]:
        """A shift is 0 where the largest is not finite; a maximum of nothing is 0, and NaN where an entry is."""
        if self._is_ordered(s):
            top = f"from_order_{self.types[self.streams[s.body].name]}(order_top_{s.name})"
            return [
                f"const real top_{s.name} = {top};",
                f"const double {s.name} = isfinite(top_{s.name}) ? top_{s.name} : 0.0;",
            ]
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
        lines += _simd(clauses, "classes", "j", body)
        for s in found:
            if s.op == "ties":
                lines.append(f"const double {s.name} = some_{s.name};")
            else:
                none = f"top_{s.name} == -INFINITY || first_{s.name} == classes"
                lines.append(f"const int {s.name} = {none} ? -1 : first_{s.name};")
        return lines

    # -------------------------------------------------------------------------------------- sums

    def sums(self, level: int, held: Mapping[Node, str], known: Mapping[Node, str], *, ahead: bool) -> list[str]:
        """One loop for all sums of a level; what is in `held` is kept for later sweeps, what is in `known` has been.

        With `ahead` the entries of the next row are called for meanwhile.
        """
        found = [s for s in self.kernel.statistics if s.level == level and s.op in ("sum", "any")]
        if not found:
            return []
        graphs = _read_by(found)
        lines = self.reals(graphs)
        lines += [f"{'int' if s.op == 'any' else 'double'} {s.name} = 0;" for s in found]
        starts = [f"{'int' if s.op == 'any' else 'real'} part_{s.name} = 0;" for s in found]
        ends = [f"{s.name} {'|' if s.op == 'any' else '+'}= part_{s.name};" for s in found]
        if self._packs is not None:
            rest = [*starts, *self._summed(found, {}, {}, regular=False, start="done"), *ends]
            return [*lines, *self._packed_sums(found, self._packs.sums(found, held, known), rest, ahead=ahead)]
        inner = [*self._called("first", "count", ahead=ahead), *self._pointers(graphs), *starts]
        inner += self._apart(graphs, "", lambda regular: self._summed(found, held, known, regular))
        return [*lines, *_blocks([*inner, *ends])]

    def _called(self, start: str, count: str, *, ahead: bool) -> list[str]:
        """Calls for entries of the next row."""
        if not ahead:
            return []
        return [f"call_for(next{n} + {start}, {count} * sizeof *x{n});" for n in self.number.values()]

    def _packed_sums(
        self, found: Sequence[Statistic], turn: list[str], rest: list[str], *, ahead: bool
    ) -> list[str]:  # fmt: skip
        """Sums of packs in rows where all is finite; of what is left over, and in other rows, one by one."""
        graphs = _read_by(found)
        flag = f"packed{found[0].level}"
        condition = " && ".join([self._packed, *self._finite(graphs)])
        self._packed = flag
        inner = [
            *self._pointers(graphs), "int done = 0;", f"if ({flag}) {{", *(f"pack_t pack_{s.name} = {{0}};" for s in found),
            "for (; done + PAIR <= count; done += PAIR) {", *self._called("first + done", "PAIR", ahead=ahead), *turn, "}",
            *(f"add_lanes(wide_{s.name}, pack_{s.name});" for s in found), "}",
            *(["else {", *self._called("first", "count", ahead=ahead), "}"] if ahead else []), *rest,
        ]  # fmt: skip
        wide = [f"double wide_{s.name}[LANES] = {{0}};" for s in found]
        sums = [f"{s.name} += total(wide_{s.name});" for s in found]
        return [f"const int {flag} = {condition};", *wide, *_blocks(inner), *sums]

    def _finite(self, graphs: Iterable[Node]) -> list[str]:
        """That the numbers of a row that graphs read are finite."""
        return [f"isfinite({self.rows.names[leaf].text}_real)" for leaf in self._numbers(graphs)]

    def _summed(
        self, found: Sequence[Statistic], held: Mapping[Node, str], known: Mapping[Node, str], regular: bool,
        start: str = "0",
    ) -> list[str]:  # fmt: skip
        body: list[str] = []
        printer = self.expressions(body, BLOCKED, known, regular=regular)
        clauses: dict[str, list[str]] = {"+": [], "|": []}
        for s in found:
            value = printer.mask(s.body) if s.op == "any" else printer.number(s.body)
            if s.mask is not None:
                value = f"{printer.mask(s.mask)} ? {value} : 0"
            sign = "|" if s.op == "any" else "+"
            clauses[sign].append(f"part_{s.name}")
            body.append(f"part_{s.name} {sign}= {value};")
        body += [f"{name}[first + i] = {printer.number(node)};" for node, name in held.items()]
        return _simd(clauses, "count", "i", body, start)

    # -------------------------------------------------------------------------------------- entries at labels

    def point(self, point: Point, output: str, label: str) -> list[str]:
        """The entry of a body at a class; NaN where there is no such class."""
        lines: list[str] = []
        value = self.expressions(lines, WHOLE).atom(point.statistic.body)
        missing = "0" if value.type != "number" else "NAN"
        return [f"if ({label} < classes) {{", f"const int j = {label} < 0 ? 0 : {label};", *lines,
                f"{output} = {value.text};", f"}} else {output} = {missing};"]  # fmt: skip

    # -------------------------------------------------------------------------------------- gradients

    def gradients(
        self, wants: Sequence[Stream], held: Mapping[Node, str], alive: str, straight: str,
        finish: Callable[[Stream], list[str]],
    ) -> list[str]:  # fmt: skip
        """One loop for the gradients of all streams; `alive` says that all coefficients count, `straight` that a block may
        be written at once, `finish` what is done with what then is in the block, from the entry `placed`.
        """
        parts = {stream.name: gradient_of(self.kernel, stream) for stream in wants}
        every = [part for group in parts.values() for part in group]
        graphs = [node for part in every for node in (part.value, part.mask) if node is not None]
        lines = self.reals(graphs)
        inner = self._pointers(graphs)
        if self._packs is not None:
            alive = " && ".join([alive, *self._finite(graphs)])
            inner += ["int done = 0, placed = 0;", *self._packed_gradients(wants, parts, held, alive, straight)]
            inner += self._differentiated(wants, parts, {}, regular=False, start="done")
        else:
            inner.append("const int placed = 0;")
            inner += self._apart(graphs, alive, lambda regular: self._differentiated(wants, parts, held, regular))
        for stream in wants:
            inner += finish(stream)
        return [*lines, *_blocks(inner)]

    def _packed_gradients(
        self, wants: Sequence[Stream], parts: Mapping[str, list[Part]], held: Mapping[Node, str], alive: str, straight: str
    ) -> list[str]:
        """Gradients of packs, straight to their place where that is allowed, and into the block otherwise."""
        assert self._packs is not None
        totals = {name: collected(found, self.kernel.axis) for name, found in parts.items()}
        turn = self._packs.gradients(totals, held)
        placed = [self._packs.placed(stream) for stream in wants]
        return [
            f"if ({self._packed} && {alive}) {{", f"const int straight = {straight};",
            "for (; done + PAIR <= count; done += PAIR) {", *turn,
            "if (straight) {", *(there for there, _ in placed), "} else {", *(block for _, block in placed), "}", "}",
            "if (straight) placed = done;", "}",
        ]  # fmt: skip

    def _differentiated(
        self, wants: Sequence[Stream], parts: Mapping[str, list[Part]], held: Mapping[Node, str], regular: bool,
        start: str = "0",
    ) -> list[str]:  # fmt: skip
        body: list[str] = []
        printer = self.expressions(body, BLOCKED, held, regular=regular)
        for stream in wants:
            found = parts[stream.name]
            total = collected(found, self.kernel.axis) if regular else guarded(found)
            body.append(f"block{self.number[stream.name]}[i] = {printer.number(total)};")
        return _simd({}, "count", "i", body, start)


def _read_by(statistics: Iterable[Statistic]) -> list[Node]:
    return [part for s in statistics for part in (s.body, s.mask) if part is not None]


def _simd(
    clauses: Mapping[str, list[str]], extent: str, index: str, body: Sequence[str], start: str = "0"
) -> list[str]:
    reductions = [f"reduction({sign} : {', '.join(names)})" for sign, names in clauses.items() if names]
    pragma = " ".join(("#pragma omp simd", *reductions))
    return [pragma, f"for (int {index} = {start}; {index} < {extent}; {index}++) {{", *body, "}"]


def _blocks(inner: Sequence[str]) -> list[str]:
    return ["for (int first = 0; first < classes; first += BLOCK) {",
            "const int count = classes - first < BLOCK ? classes - first : BLOCK;", *inner, "}"]  # fmt: skip
