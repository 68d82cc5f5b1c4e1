"""What loops over the classes of a row have in common: names, what they read, and how they are printed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lossc.compiler.core import Index, Map, Node, walk
from lossc.compiler.kernels.c_expressions import Atom, Expressions
from lossc.compiler.kernels.c_rows import RowScope, row_leaves
from lossc.compiler.kernels.gradient import coefficient, seen
from lossc.compiler.kernels.model import Kernel
from lossc.compiler.kernels.regular import Regularity
from lossc.compiler.table.model import Statistic, Stream

HALF = ("bf16", "f16")

REGULAR = "regular"
"""The flag of a regular row."""


@dataclass(frozen=True)
class Place:
    """A position in a loop: the entry of stream k is `{pointer}{k}[{index}]`, and the class is `{position}`."""

    pointer: str
    index: str
    position: str


WHOLE = Place("x", "j", "j")
BLOCKED = Place("p", "i", "first + i")


class Loops:
    """The C names of one kernel. `types` are the storage types of its streams."""

    def __init__(self, kernel: Kernel, rows: RowScope, types: Mapping[str, str]) -> None:
        self.kernel = kernel
        self.rows = rows
        self.types = types
        self.number = {stream.name: at for at, stream in enumerate(kernel.streams)}
        self.streams = {stream.leaf: stream for stream in kernel.streams}
        self.centred = {stream.leaf: stream.source for stream in kernel.centred}
        self.regularity = Regularity(kernel)
        compared = [s.body for s in kernel.statistics if s.op in ("max", "argmax", "ties")]
        self._exact = {node for node in self._reached(compared) if isinstance(node, Map)}
        """What one loop finds the largest of, and others compare with that."""
        self._reals: set[Node] = set()
        self._weights: dict[Node, Atom] = {coefficient(s): Atom(f"d_{s.name}_real", "number") for s in kernel.every}
        self._weights |= {seen(s): Atom(f"on_{s.name}", "mask") for s in kernel.every}

    @property
    def knows_regular(self) -> bool:
        """Whether the kernel distinguishes regular rows."""
        return bool(self.regularity.streams)

    def expressions(
        self, lines: list[str], place: Place, held: Mapping[Node, str] | None = None, *, regular: bool = False
    ) -> Expressions:
        """A printer for one class. `held` are values that an earlier sweep has stored."""
        kept = held or {}

        def leaf(node: Node) -> Atom | None:
            if node in kept and node not in self._exact:
                return printer.declared(f"{kept[node]}[{place.position}]")
            if node in self.streams:
                return self._entry(printer, self.streams[node], place)
            if node in self.centred:
                return printer.atom(self.centred[node])
            if isinstance(node, Index) and node.axis == self.kernel.axis:
                return printer.declared(place.position, "integer")
            return self.row_value(node)

        facts = self.regularity if regular else None
        spelling = self.exponential if regular else lambda _: "exponential"
        printer = Expressions("real", leaf, lines, regular=facts, exponential=spelling, exact=self._exact)
        return printer

    def exponential(self, exponent: Node) -> str:
        """The cheapest C function for the exponential of an exponent in regular rows."""
        if self.regularity.is_bounded(exponent):
            return "exponential_brief" if self._is_half(exponent) else "exponential_bounded"
        return "exponential_negative" if self.regularity.nonpositive(exponent) else "exponential"

    def _is_half(self, graph: Node) -> bool:
        """Whether everything that a graph reads has 16 bits."""
        return all(self.types[self.streams[leaf].name] in HALF for leaf in self._reached([graph]) if leaf in self.streams)

    def row_value(self, node: Node) -> Atom | None:
        """The C name of a row value or coefficient, in the type of the loops."""
        return self._weights.get(node) or self._argument(node)

    def _argument(self, node: Node) -> Atom | None:
        name = self.rows.names.get(node)
        return Atom(f"{name.text}_real", "number") if name is not None and name.type == "number" else name

    def arguments_of(self, graphs: Iterable[Node]) -> list[Atom]:
        """The row values that graphs read, without coefficients."""
        leaves = row_leaves(self.kernel, graphs) - set(self._weights)
        return sorted(atom for atom in map(self._argument, leaves) if atom is not None)

    def _entry(self, printer: Expressions, stream: Stream, place: Place) -> Atom:
        type_ = self.types[stream.name]
        text = f"load_{type_}({place.pointer}{self.number[stream.name]}[{place.index}])"
        if type_ == "bool":
            return printer.declared(text, "mask")
        return printer.declared(text, "integer") if type_ == "i64" else printer.declared(f"(real){text}")

    def reals(self, graphs: Iterable[Node]) -> list[str]:
        """Declares copies, in the type of the loops, of the row values in these graphs that have none yet."""
        lines = []
        for leaf in self.numbers(graphs):
            if leaf not in self._reals:
                self._reals.add(leaf)
                name = self.rows.names[leaf].text
                lines.append(f"const real {name}_real = (real){name};")
        return lines

    def numbers(self, graphs: Iterable[Node]) -> list[Node]:
        """The numerical row values that graphs read, in a fixed order."""
        leaves = [leaf for leaf in row_leaves(self.kernel, graphs) if leaf not in self._weights]
        numbers = [leaf for leaf in leaves if self.rows.names[leaf].type == "number"]
        return sorted(numbers, key=lambda leaf: self.rows.names[leaf].text)

    def pointers(self, graphs: Iterable[Node], prefix: str = "") -> list[str]:
        """Pointers to the streams that graphs read, at the start of a block."""
        read = self._reached(graphs)
        numbered = [(self.types[s.name], self.number[s.name]) for s in self.kernel.streams if s.leaf in read]
        return [f"const {type_}_t *restrict {prefix}p{n} = {prefix}x{n} + first;" for type_, n in numbered]

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

    def either(self, whole: str, print_: Callable[[bool], list[str]]) -> list[str]:
        """A loop for regular rows, and one for the others."""
        if not self.knows_regular:
            return print_(False)
        return [f"if ({whole}) {{", *print_(True), "} else {", *print_(False), "}"]

    def finite(self, graphs: Iterable[Node]) -> list[str]:
        """The C conditions that the numerical row values in these graphs are finite."""
        return [f"isfinite({self.rows.names[leaf].text}_real)" for leaf in self.numbers(graphs)]


def read_by(statistics: Iterable[Statistic]) -> list[Node]:
    return [part for s in statistics for part in (s.body, s.mask) if part is not None]


def simd(
    clauses: Mapping[str, list[str]], extent: str, index: str, body: Sequence[str], start: str = "0"
) -> list[str]:
    reductions = [f"reduction({sign} : {', '.join(names)})" for sign, names in clauses.items() if names]
    pragma = " ".join(("#pragma omp simd", *reductions))
    return [pragma, f"for (int {index} = {start}; {index} < {extent}; {index}++) {{", *body, "}"]


def in_blocks(inner: Sequence[str], shortened: Sequence[str] = ()) -> list[str]:
    """`inner` repeated for each block of `count` classes from `first`; `shortened` may make the count smaller."""
    return ["for (int first = 0, count; first < classes; first += count) {",
            "count = classes - first < BLOCK ? classes - first : BLOCK;", *shortened, *inner, "}"]  # fmt: skip
