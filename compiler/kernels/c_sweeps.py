"""The loops of a kernel for sums and for gradients.

Sums are accumulated over a block of classes in the type of the loop, in several lanes, and over blocks in double
precision. Gradients are computed for one block at a time; entries at labels are added, and the block is rounded and
stored once. Loops over regular rows are printed separately: they need no guards, and run in packs where there is a form
for that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lossc.compiler.core import Node
from lossc.compiler.kernels.c_loops import BLOCKED, REGULAR, Loops, in_blocks, read_by, simd
from lossc.compiler.kernels.c_packs import Names, Packs
from lossc.compiler.kernels.c_rows import RowScope
from lossc.compiler.kernels.gradient import Part, collected, gradient_of, guarded
from lossc.compiler.kernels.model import Kernel
from lossc.compiler.table.model import Statistic, Stream


@dataclass(frozen=True)
class Meanwhile:
    """What a loop for sums does besides, in blocks that are `shortened`.

    Where `condition` holds, after the `opening`, each turn begins with `reading`, before the sums overwrite what it
    reads, and ends with `turn`. The code `before` and `after` a block finds in `both` whether the condition holds.
    """

    shortened: Sequence[str]
    condition: str
    before: Sequence[str]
    opening: Sequence[str]
    reading: Sequence[str]
    turn: Sequence[str]
    after: Sequence[str]


class Sweeps(Loops):
    """The loops of one kernel, for `sums` and for the gradients of the streams in `wants`."""

    def __init__(
        self, kernel: Kernel, rows: RowScope, types: Mapping[str, str], real: str, wants: Sequence[Stream], *, sums: bool
    ) -> None:
        super().__init__(kernel, rows, types)
        self._packed = REGULAR
        self._packs = self._with_packs(real, wants, sums=sums)

    @property
    def takes_packs(self) -> bool:
        """Whether loops over regular rows run in packs."""
        return self._packs is not None

    def _with_packs(self, real: str, wants: Sequence[Stream], *, sums: bool) -> Packs | None:
        """The packs, if all loops have a form in packs.

        They are of single precision, and need to know the types of streams.
        """
        if real != "float" or not self.knows_regular:
            return None
        packs = self._of_row("")
        summed = [s for s in self.kernel.statistics if s.op in ("sum", "any")] if sums else []
        parts = [part for stream in wants for part in gradient_of(self.kernel, stream)]
        if any(s.op == "any" or s.mask is not None for s in summed) or any(part.mask is not None for part in parts):
            return None
        totals = [collected(gradient_of(self.kernel, stream), self.kernel.axis) for stream in wants]
        return packs if all(map(packs.has, [*(s.body for s in summed), *totals])) else None

    def _of_row(self, prefix: str) -> Packs:
        return Packs(Names(self.types, self.number, self.streams, self.centred, self.regularity, self.exponential,
                            self.row_value, prefix))  # fmt: skip

    # -------------------------------------------------------------------------------------- sums

    def sums(
        self, level: int, held: Mapping[Node, str], known: Mapping[Node, str], *, ahead: bool,
        meanwhile: Meanwhile | None = None,
    ) -> list[str]:  # fmt: skip
        """One loop for all sums of a level. `held` are values to store for later sweeps, `known` those stored before.

        With `ahead`, entries of the next row are prefetched.
        """
        found = [s for s in self.kernel.statistics if s.level == level and s.op in ("sum", "any")]
        if not found:
            return []
        graphs = read_by(found)
        lines = self.reals(graphs)
        lines += [f"{'int' if s.op == 'any' else 'double'} {s.name} = 0;" for s in found]
        starts = [f"{'int' if s.op == 'any' else 'real'} part_{s.name} = 0;" for s in found]
        ends = [f"{s.name} {'|' if s.op == 'any' else '+'}= part_{s.name};" for s in found]
        if self._packs is not None:
            rest = [*starts, *self._summed(found, {}, {}, regular=False, start="done"), *ends]
            turn = [*(self._called("first + done", "PAIR") if ahead else []), *self._packs.sums(found, held, known)]
            if ahead:
                rest = [f"if (!packed{level}) {{", *self._called("first", "count"), "}", *rest]
            return [*lines, *self._packed_sums(found, turn, rest, meanwhile)]
        inner = [*(self._called("first", "count") if ahead else []), *self.pointers(graphs), *starts]
        inner += self.either(" && ".join([REGULAR, *self.finite(graphs)]),
                              lambda regular: self._summed(found, held, known, regular))  # fmt: skip
        return [*lines, *in_blocks([*inner, *ends])]

    def _called(self, start: str, count: str) -> list[str]:
        """Prefetches entries of the next row."""
        return [f"call_for(next{n} + {start}, {count} * sizeof *x{n});" for n in self.number.values()]

    def _packed_sums(
        self, found: Sequence[Statistic], turn: list[str], rest: list[str], meanwhile: Meanwhile | None
    ) -> list[str]:
        """Sums in packs for rows in which everything is finite; the remainder, and other rows, one class at a time."""
        graphs = read_by(found)
        flag = f"packed{found[0].level}"
        condition = " && ".join([self._packed, *self.finite(graphs)])
        self._packed = flag

        def loop(opening: Sequence[str], whole_turn: Sequence[str]) -> list[str]:
            return [
                *(f"pack_t pack_{s.name} = {{0}};" for s in found), *opening,
                "for (; done + PAIR <= count; done += PAIR) {", *whole_turn, "}",
                *(f"wide_{s.name} += widened(pack_{s.name});" for s in found),
            ]  # fmt: skip

        lines = [*self.pointers(graphs), "int done = 0;"]
        also = meanwhile
        if also is not None:
            lines += [f"const int both = {flag} && {also.condition};", *also.before,
                      "if (both) {", *loop(also.opening, [*also.reading, *turn, *also.turn]), "} else"]  # fmt: skip
        lines += [f"if ({flag}) {{", *loop([], turn), "}", *rest, *(also.after if also is not None else [])]
        wide = [f"wide_t wide_{s.name} = {{0}};" for s in found]
        sums = [f"{s.name} += total(&wide_{s.name});" for s in found]
        blocks = in_blocks(lines, also.shortened if also is not None else ())
        return [f"const int {flag} = {condition};", *wide, *blocks, *sums]

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
        return simd(clauses, "count", "i", body, start)

    # -------------------------------------------------------------------------------------- gradients

    def gradients(
        self, wants: Sequence[Stream], held: Mapping[Node, str], alive: str, straight: str,
        finish: Callable[[Stream], list[str]],
    ) -> list[str]:  # fmt: skip
        """One loop for the gradients of all streams.

        `alive` is the C condition that all coefficients count, `straight` that a block may be written at once; `finish`
        completes a block, from the entry `placed` on.
        """
        lines = self.gradient_reals(wants)
        inner = self.gradient_block(wants, held, self.whole(wants, alive), straight)
        inner[:0] = ["int done = 0, placed = 0;"] if self._packs is not None else ["const int placed = 0;"]
        for stream in wants:
            inner += finish(stream)
        return [*lines, *in_blocks(inner)]

    def gradient_reals(self, wants: Sequence[Stream]) -> list[str]:
        """Declares copies of the row values that gradients read."""
        return self.reals(self.graphs_of(wants))

    def whole(self, wants: Sequence[Stream], alive: str) -> str:
        """The C condition that the gradient of a row can be taken in packs, or without guards."""
        return " && ".join(filter(None, [self._packed, alive, *self.finite(self.graphs_of(wants))]))

    def graphs_of(self, wants: Sequence[Stream]) -> list[Node]:
        """The graphs of the gradients of streams."""
        parts = [part for stream in wants for part in gradient_of(self.kernel, stream)]
        return [node for part in parts for node in (part.value, part.mask) if node is not None]

    def gradient_block(
        self, wants: Sequence[Stream], held: Mapping[Node, str], whole: str, straight: str
    ) -> list[str]:
        """The gradients of one block, in packs from the entry `done` on.

        What is not written to its place is in the block.
        """
        parts = {stream.name: gradient_of(self.kernel, stream) for stream in wants}
        lines = self.pointers(self.graphs_of(wants))
        if self._packs is None:
            return [*lines, *self.either(whole, lambda regular: self._differentiated(wants, parts, held, regular))]
        lines += self._packed_gradients(self._packs, wants, parts, held, whole, straight)
        return [*lines, *self._differentiated(wants, parts, {}, regular=False, start="done")]

    def _packed_gradients(
        self, packs: Packs, wants: Sequence[Stream], parts: Mapping[str, list[Part]], held: Mapping[Node, str], whole: str,
        straight: str,
    ) -> list[str]:  # fmt: skip
        """Gradients in packs: written to their place if that is allowed, else into the block."""
        placed = [packs.placed(stream) for stream in wants]
        return [
            f"if ({whole}) {{", f"const int straight = {straight};",
            "for (; done + PAIR <= count; done += PAIR) {", *packs.recalled(held), *packs.gradients(self._totals(parts), held),
            "if (straight) {", *(there for there, _ in placed), "} else {", *(block for _, block in placed), "}", "}",
            "if (straight) placed = done;", "}",
        ]  # fmt: skip

    def _totals(self, parts: Mapping[str, list[Part]]) -> dict[str, Node]:
        return {name: collected(found, self.kernel.axis) for name, found in parts.items()}

    def past_turn(self, wants: Sequence[Stream], held: Mapping[Node, str], prefix: str) -> tuple[list[str], list[str]]:
        """One turn of the loop for gradients of the row whose names have a prefix: its reads of stored values, and the rest."""
        packs = self._of_row(prefix)
        parts = {stream.name: gradient_of(self.kernel, stream) for stream in wants}
        turn = [*packs.gradients(self._totals(parts), held), *(packs.placed(stream)[0] for stream in wants)]
        return packs.recalled(held), turn

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
        return simd({}, "count", "i", body, start)
