"""Loops over regular rows in packs: vectors of classes, as many as a register holds, two registers a turn.

The two packs of a turn hold consecutive classes, or, if everything read has 16 bits, the classes at even and at odd
places: then a pack is one half of the bits that were read, and nothing has to be widened. Values that a sweep stores
stay in that order.

Only sums, products, small powers and exponentials have packs. Other loops are over single numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from lossc.compiler.core import Index, Map, Node
from lossc.compiler.kernels.c_expressions import WHOLE_POWERS, Atom, Expressions
from lossc.compiler.kernels.model import RowType
from lossc.compiler.kernels.regular import Regularity
from lossc.compiler.table.model import Statistic, Stream

FLOATS = ("f32", "bf16", "f16")
EXPONENTIALS = ("exponential_bounded", "exponential_brief")
IN_ORDER = ("low", "high")
BY_PLACE = ("even", "odd")


class NoPackError(Exception):
    """A value has no form in packs."""


@dataclass(frozen=True)
class Names:
    """The C names that loops use: number and type of each stream by name, and names of row values."""

    types: Mapping[str, str]
    number: Mapping[str, int]
    streams: Mapping[Node, Stream]
    centred: Mapping[Node, Node]
    regularity: Regularity
    exponential: Callable[[Node], str]
    row_value: Callable[[Node], Atom | None]
    prefix: str = ""
    """What stands before the names of rows and of their entries."""


class Packs:
    """Prints the bodies of loops with the counter `done`, over blocks that start at the class `first`."""

    def __init__(self, names: Names) -> None:
        self.names = names
        types = {names.types[stream.name] for stream in names.streams.values()}
        self.halves = BY_PLACE if types == {"bf16"} else IN_ORDER

    def has(self, graph: Node) -> bool:
        """Whether a value has a form in packs."""
        try:
            self._printer(0, {}).number(graph)
        except NoPackError:
            return False
        return True

    def sums(self, statistics: Sequence[Statistic], held: Mapping[Node, str], known: Mapping[Node, str]) -> list[str]:
        """One turn of the loop for sums, which adds to the variables `pack_…`."""
        return self._twice(lambda half: self._summed(half, statistics, held, known))

    def _summed(
        self, half: int, statistics: Sequence[Statistic], held: Mapping[Node, str], known: Mapping[Node, str]
    ) -> list[str]:
        printer = self._printer(half, known)
        for s in statistics:
            printer.lines.append(f"pack_{s.name} += {printer.number(s.body)};")
        for node, name in held.items():
            printer.lines.append(f"store_pack({_place(name, half)}, {printer.number(node)});")
        return printer.lines

    def recalled(self, held: Mapping[Node, str]) -> list[str]:
        """What one turn of the loop for gradients reads of the values that a sweep has stored."""
        return [f"const pack_t {self._recalled(name, half)} = load_pack({_place(self.names.prefix + name, half)});"
                for name in held.values() for half in (0, 1)]  # fmt: skip

    def _recalled(self, name: str, half: int) -> str:
        return f"{self.names.prefix}{name}_{self.halves[half]}"

    def gradients(self, totals: Mapping[str, Node], held: Mapping[Node, str]) -> list[str]:
        """The rest of that turn; it sets the two packs `grad{k}_…` of each stream k."""
        names = [f"pack_t {self._gradient(name, half)};" for name in totals for half in (0, 1)]
        return [*names, *self._twice(lambda half: self._differentiated(half, totals, held))]

    def _differentiated(self, half: int, totals: Mapping[str, Node], held: Mapping[Node, str]) -> list[str]:
        printer = self._printer(half, {}, {node: self._recalled(name, half) for node, name in held.items()})
        for name, total in totals.items():
            printer.lines.append(f"{self._gradient(name, half)} = as_pack({printer.number(total)});")
        return printer.lines

    def _gradient(self, name: str, half: int) -> str:
        return f"grad{self.names.number[name]}_{self.halves[half]}"

    def placed(self, stream: Stream) -> tuple[str, str]:
        """The statements that write a pair of gradient packs to its place, and into its block."""
        number, type_ = self.names.number[stream.name], self.names.types[stream.name]
        halves = "_".join(self.halves)
        pair = ", ".join(self._gradient(stream.name, half) for half in (0, 1))
        return (f"stream_{halves}_{type_}({self.names.prefix}out{number} + first + done, {pair});",
                f"put_{halves}(block{number} + done, {pair});")  # fmt: skip

    def _twice(self, print_: Callable[[int], list[str]]) -> list[str]:
        return [line for half in (0, 1) for line in ("{", *print_(half), "}")]

    def _printer(
        self, half: int, kept: Mapping[Node, str], recalled: Mapping[Node, str] | None = None
    ) -> PackExpressions:
        """A printer for one of the two packs. `kept` are values in arrays, `recalled` those already read from them."""
        names, there = self.names, recalled or {}

        def leaf(node: Node) -> Atom | None:
            if node in there:
                return Atom(there[node], "number")
            if node in kept:
                return printer.declared(f"load_pack({_place(names.prefix + kept[node], half)})")
            if node in names.streams:
                return self._entry(printer, names.streams[node], half)
            if node in names.centred:
                return printer.atom(names.centred[node])
            value = names.row_value(node)
            return value and Atom(names.prefix + value.text, value.type)

        printer = PackExpressions(leaf, names)
        return printer

    def _entry(self, printer: Expressions, stream: Stream, half: int) -> Atom:
        type_ = self.names.types[stream.name]
        if type_ not in FLOATS:
            raise NoPackError
        return printer.declared(f"{self.halves[half]}_{type_}({self.names.prefix}p{self.names.number[stream.name]} + done)")


class PackExpressions(Expressions):
    """Expressions in which a number is a pack, or a scalar that is the same for all classes."""

    def __init__(self, leaf: Callable[[Node], Atom | None], names: Names) -> None:
        super().__init__("real", leaf, [], regular=names.regularity, exponential=names.exponential)

    def declared(self, text: str, type_: RowType = "number") -> Atom:
        if type_ != "number":
            raise NoPackError
        self._count += 1
        name = f"{self.prefix}{self._count}"
        self.lines.append(f"const __auto_type {name} = {text};")
        return Atom(name, type_)

    def as_number(self, atom: Atom) -> str:
        if atom.type != "number":
            raise NoPackError
        return atom.text

    def _atom(self, node: Node) -> Atom:
        if isinstance(node, Index):
            raise NoPackError
        if isinstance(node, Map) and node.function == "exp" and self.exponential(node.arguments[0]) not in EXPONENTIALS:
            raise NoPackError
        return super()._atom(node)

    def mask(self, node: Node) -> str:
        raise NoPackError

    def guarded(self, weight: str, log: str) -> Atom:
        raise NoPackError

    def _where(self, condition: Node, then: Node, otherwise: Node) -> Atom:
        raise NoPackError

    def _power(self, base: Node, exponent: Fraction) -> Atom:
        if exponent.denominator != 1 or abs(exponent) > WHOLE_POWERS:
            raise NoPackError
        return super()._power(base, exponent)

    def _call(self, node: Map) -> Atom:
        raise NoPackError


def _place(name: str, half: int) -> str:
    """The place of a pack of this turn in an array."""
    return f"{name} + first + done" + (" + LANES" if half else "")
