"""What a kernel does once a row: reads its arguments, computes row values and coefficients, stores statistics.

Row values are in double precision, under the names that the table gives them; `…_real` are copies in the type of the
loops. dL/d statistic is `d_…`, and the flag `on_…` says that it is not 0.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import groupby

from lossc.compiler.core import Input, Node, walk
from lossc.compiler.kernels.backward import Added, added
from lossc.compiler.kernels.c_expressions import Atom, Expressions
from lossc.compiler.kernels.model import Argument, Kernel, Local, RowType, plain, type_of
from lossc.compiler.table.model import Statistic

OUTPUT_TYPES = {"number": "double", "integer": "int64_t", "mask": "bool_t"}


class RowScope:
    """The row values of a kernel. `names` has a C name of our own for each of their leaves."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.names: dict[Node, Atom] = {}
        for at, argument in enumerate(kernel.arguments):
            self.names[argument.leaf] = Atom(f"g{at}", argument.type)
        for local in kernel.locals:
            self.names[local.leaf] = Atom(plain(local.leaf), type_of(local.leaf))
        for statistic in kernel.every:
            self.names[statistic.leaf] = Atom(statistic.name, value_type(statistic))

    def expressions(self, lines: list[str], prefix: str = "v") -> Expressions:
        return Expressions("double", self.names.get, lines, prefix)

    # -------------------------------------------------------------------------------------- what is given

    def argument(self, argument: Argument, slot: int) -> str:
        name, type_ = self.names[argument.leaf]
        place = f"call->data[{slot}])[offset(call, {slot}, at)]"
        match type_:
            case "integer":
                return f"const int {name} = whole(((const int64_t *){place});"
            case "mask":
                return f"const int {name} = ((const bool_t *){place} != 0;"
        return f"const double {name} = ((const double *){place};"

    def locals_after(self, level: int, needed: Iterable[Node], but: Collection[Local] = ()) -> list[str]:
        """Computes those of the row values `needed` that are known after a sweep and not computed yet."""
        wanted = set(needed)
        lines: list[str] = []
        for local in self.kernel.locals:
            if local.level == level and local.leaf in wanted and local not in but:
                lines += self.local(local)
        return lines

    def local(self, local: Local) -> list[str]:
        lines: list[str] = []
        name, type_ = self.names[local.leaf]
        atom = self.expressions(lines, f"{name}_").atom(local.value)
        return [*lines, f"const {'double' if type_ == 'number' else 'int'} {name} = {atom.text};"]

    def kept(self, statistic: Statistic, slot: int) -> str:
        """Stores a statistic among those of all rows."""
        type_ = OUTPUT_TYPES[value_type(statistic)]
        return f"(({type_} *)call->data[{slot}])[row] = ({type_}){statistic.name};"

    def recalled(self, statistic: Statistic, slot: int) -> str:
        type_ = value_type(statistic)
        held = "double" if type_ == "number" else "int"
        return f"const {held} {statistic.name} = ((const {OUTPUT_TYPES[type_]} *)call->data[{slot}])[row];"

    # -------------------------------------------------------------------------------------- coefficients

    def coefficients(self, statistics: Sequence[Statistic]) -> list[str]:
        """Computes dL/d statistic from the adjoints of the row, the last sweep first."""
        parts = list(added(self.kernel, statistics))
        names = dict.fromkeys([*(statistic.name for statistic in statistics), *(part.target for part in parts)])
        lines = [f"double d_{name} = 0.0;" for name in names]
        for source, group in groupby(parts, key=lambda part: part.source):
            text = f"d_{source}" if isinstance(source, str) else self.names[source.leaf].text
            lines += [f"if ({text} != 0.0) {{", *self._passed_on(text, group), "}"]
        return lines

    def _passed_on(self, source: str, parts: Iterable[Added]) -> list[str]:
        """What one coefficient or seed adds to others."""
        lines: list[str] = []
        expressions = self.expressions(lines)
        for part in parts:
            lines.append(f"d_{part.target} += {source} * {expressions.number(part.slope)};")
        return lines


def value_type(statistic: Statistic) -> RowType:
    if statistic.op == "argmax":
        return "integer"
    return "mask" if statistic.op == "any" or statistic.leaf.is_mask else "number"


def row_leaves(kernel: Kernel, graphs: Iterable[Node]) -> set[Node]:
    """The row leaves that class-level graphs read, through the definitions of centred streams."""
    centred = {stream.leaf: stream.source for stream in kernel.centred}
    found: set[Node] = set()
    stack = list(graphs)
    while stack:
        for part in walk(stack.pop()):
            if part in centred and part not in found:
                stack.append(centred[part])
            if (isinstance(part, Input) and kernel.axis not in part.axes) or part in centred:
                found.add(part)
    return {leaf for leaf in found if leaf not in centred}
