"""Maxima of a row, where and how often they are attained, and whether the row is regular."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lossc.compiler.kernels.c_expressions import Expressions
from lossc.compiler.kernels.c_loops import HALF, REGULAR, WHOLE, Loops, read_by, simd
from lossc.compiler.kernels.regular import DEPTH
from lossc.compiler.table.model import Statistic, Stream


@dataclass(frozen=True)
class Extremes:
    """Prints the loops that find maxima."""

    loops: Loops

    def printed(self, found: Sequence[Statistic], looked: Sequence[Stream]) -> list[str]:
        """One loop that finds maxima, and one that finds where and how often they are attained.

        The smallest and largest entries of the streams `looked` decide whether the row is regular.
        """
        lines = self.loops.reals(read_by(found))
        clauses: dict[str, list[str]] = {"max": [], "min": [], "|": []}
        body: list[str] = []
        printer = self.loops.expressions(body, WHOLE)
        for statistic in found:
            lines += self._largest(statistic, printer, clauses)
        conditions: list[str] = []
        for stream in looked:
            lines += self._looked(stream, printer, clauses, conditions)
        lines += simd(clauses, "classes", "j", body)
        for statistic in found:
            lines += self._settled(statistic)
        if looked:
            lines.append(f"const int {REGULAR} = {' && '.join(conditions)};")
        return lines + self._attained([s for s in found if s.op in ("argmax", "ties")])

    def _largest(self, s: Statistic, printer: Expressions, clauses: dict[str, list[str]]) -> list[str]:
        if self._is_ordered(s):
            return self._ordered(f"top_{s.name}", ">", self.loops.streams[s.body], printer, clauses["max"])
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
        """The smallest and largest entry of a stream; a maximum that is taken anyway is used again."""
        number = self.loops.number[stream.name]
        bounding = self.loops.regularity.bounding(stream)
        if bounding is not None and self._is_ordered(bounding):
            low = f"from_order_{self.loops.types[stream.name]}(order_low{number})"
            conditions.append(self._in_range(stream, low, f"top_{bounding.name}"))
            return self._ordered(f"low{number}", "<", stream, printer, clauses["min"])
        value = printer.number(stream.leaf)
        starts = [f"real low{number} = INFINITY;"]
        clauses["min"].append(f"low{number}")
        printer.lines.append(f"low{number} = {value} < low{number} ? {value} : low{number};")
        high = f"top_{bounding.name}" if bounding is not None else f"high{number}"
        starts.append(f"bits_of_real size{number} = 0;")
        clauses["max"].append(f"size{number}")
        printer.lines += [f"const bits_of_real at_size{number} = size_of({value});",
                          f"size{number} = at_size{number} > size{number} ? at_size{number} : size{number};"]  # fmt: skip
        conditions.append(f"size{number} < size_of((real)INFINITY)")
        if bounding is None:
            starts.append(f"real high{number} = -INFINITY;")
            clauses["max"].append(high)
            printer.lines.append(f"{high} = {value} > {high} ? {value} : {high};")
        conditions.append(self._in_range(stream, f"low{number}", high))
        return starts

    def _in_range(self, stream: Stream, low: str, high: str) -> str:
        """The C condition that all entries of a stream are finite, and the exponential of the lowest does not vanish."""
        factor = self.loops.regularity.factor(stream)
        if factor is None:
            return f"{low} > -INFINITY && {high} < INFINITY"
        return f"({high} - {low}) * (real){float(factor)!r} < {DEPTH}"

    def _is_ordered(self, s: Statistic) -> bool:
        """Whether a shift is the maximum of stored 16-bit numbers.

        These are compared as integers, twice as many at once.
        """
        stream = self.loops.streams.get(s.body)
        return s.op == "shift" and s.mask is None and stream is not None and self.loops.types[stream.name] in HALF

    def _ordered(self, name: str, sign: str, stream: Stream, printer: Expressions, clause: list[str]) -> list[str]:
        """The extreme of a stream of 16-bit numbers, compared as integers."""
        order = f"order_{name}"
        clause.append(order)
        entry = f"order_of(x{self.loops.number[stream.name]}[j])"
        printer.lines += [
            f"const int16_t at_{name} = {entry};",
            f"{order} = at_{name} {sign} {order} ? at_{name} : {order};",
        ]
        return [f"int16_t {order} = {'INT16_MIN' if sign == '>' else 'INT16_MAX'};"]

    def _settled(self, s: Statistic) -> list[str]:
        """The final values: a shift is 0 if its maximum is not finite; a maximum is 0 over nothing, and NaN if an entry is."""
        if self._is_ordered(s):
            top = f"from_order_{self.loops.types[self.loops.streams[s.body].name]}(order_top_{s.name})"
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
        printer = self.loops.expressions(body, WHOLE)
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
        lines += simd(clauses, "classes", "j", body)
        for s in found:
            if s.op == "ties":
                lines.append(f"const double {s.name} = some_{s.name};")
            else:
                none = f"top_{s.name} == -INFINITY || first_{s.name} == classes"
                lines.append(f"const int {s.name} = {none} ? -1 : first_{s.name};")
        return lines
