"""Row programs as C source: one function that runs all jobs, in double precision.

No text of the spec enters the source: axes, tensors and values appear as numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lossc.compiler.core import Node
from lossc.compiler.kernels.c import prelude
from lossc.compiler.kernels.c_expressions import Atom, Expressions
from lossc.compiler.kernels.model import RowType
from lossc.compiler.rows.lower import Job, Lowering, Output, Reading

BRIEF = "#undef __AVX512F__\n#undef __AVX512BF16__\n"
"""Without what only wide stores need: the compiler reads the prelude three times as fast."""

SIGNATURE = "int on_rows(const int64_t *n, void *const *data, const int64_t *strides, double unit)"

NEUTRAL = {"sum": "0.0", "max": "-INFINITY", "min": "INFINITY", "any": "0", "all": "1"}

STEPS = {
    "sum": "{0} += {2} ? {1} : 0.0;", "any": "{0} |= {2} && {1};", "all": "{0} &= !({2}) || {1};",
    "max": "if ({2}) {{ {0} = larger_or_nan({1}, {0}); found{0} = 1; }}",
    "min": "if ({2}) {{ {0} = smaller_or_nan({1}, {0}); found{0} = 1; }}",
}  # fmt: skip
"""What is done with each entry: target, value, mask."""

HELPERS = """
#include <stdlib.h>
static inline double larger_or_nan(double x, double most) { return (x > most) | (x != x) ? x : most; }
static inline double smaller_or_nan(double x, double least) { return (x < least) | (x != x) ? x : least; }
"""


@dataclass(frozen=True)
class RowProgram:
    """Values on rows as one C function `on_rows`, whose data pointers are the readings, then the outputs.

    Extents are passed in the order of `axes`. Strides are passed for every dimension of the readings; outputs are
    contiguous. `loops` lists the axes of each loop.
    """

    lowering: Lowering
    outputs: tuple[Output, ...]

    @property
    def axes(self) -> tuple[str, ...]:
        return tuple(self.lowering.axes)

    @property
    def readings(self) -> tuple[Reading, ...]:
        return tuple(self.lowering.readings)

    @property
    def loops(self) -> tuple[tuple[str, ...], ...]:
        return tuple(dict.fromkeys(job.axes + job.over for job in self.lowering.jobs))

    def text(self, types: Sequence[str], real: Literal["float", "double"]) -> str:
        """The source; `types` are the storage types of the readings, `real` that of the outputs."""
        return f"{BRIEF}{prelude()}{HELPERS}\n{_Printing(self.lowering, self.outputs, types, real).text()}"


def row_program(values: Mapping[str, Node], outputs: Sequence[Output]) -> RowProgram:
    """The program that computes these values.

    Raises NoRowsError where no row program can compute one of them.
    """
    lowering = Lowering()
    lowering.add(values, outputs)
    return RowProgram(lowering, tuple(outputs))


class _Printing:
    def __init__(self, lowering: Lowering, outputs: tuple[Output, ...], types: Sequence[str], real: str) -> None:
        self.lowering = lowering
        self.outputs = outputs
        self.types = types
        self.real = real

    def text(self) -> str:
        inner = [line for nest in self.lowering.nests() for line in self._nest(nest)]
        lines = [f"{SIGNATURE} {{", *self._extents(), *self._buffers(), *inner, *self._freed(), "return 0;", "}"]
        return "\n".join(lines) + "\n"

    # -------------------------------------------------------------------------------------- frame

    def _extents(self) -> Iterator[str]:
        for at in self.lowering.axes.values():
            yield f"const int64_t n{at} = n[{at}];"

    def _buffers(self) -> Iterator[str]:
        """Buffers with axes lie one behind another in scratch memory; the others are local variables."""
        sizes = []
        for at, buffer in enumerate(self.lowering.buffers):
            if buffer.axes:
                sizes.append((at, " * ".join(f"n{self.lowering.axes[axis]}" for axis in buffer.axes)))
            else:
                yield f"double b{at} = 0;"
        if sizes:
            yield f"double *const scratch = malloc(8 * (1 + {' + '.join(size for _, size in sizes)}));"
            yield "if (!scratch) return 1;"
        before = "scratch"
        for at, size in sizes:
            yield f"double *const restrict b{at} = {before};"
            before = f"b{at} + {size}"

    def _freed(self) -> Iterator[str]:
        if any(buffer.axes for buffer in self.lowering.buffers):
            yield "free(scratch);"

    # -------------------------------------------------------------------------------------- loops

    def _nest(self, nest: list[Job]) -> Iterator[str]:
        first = nest[0]
        yield "{"
        for axis in first.axes:
            yield self._loop(axis)
        for job in nest:
            if job.over:
                held = "double" if job.op in ("sum", "max", "min") else "int"
                yield f"{held} a{job.target} = {NEUTRAL[job.op]};"
                yield f"int founda{job.target} = 0;" if job.op in ("max", "min") else ""
        for axis in first.over:
            yield self._loop(axis)
        yield from self._inner(nest)
        yield "}" * len(first.over)
        for job in nest:
            if job.over:
                result = f"a{job.target}" if job.op not in ("max", "min") else f"founda{job.target} ? a{job.target} : 0.0"
                yield f"{self._buffer(job.target, self._indices(job.axes))} = {result};"
        yield "}" * (1 + len(first.axes))

    def _loop(self, axis: str) -> str:
        at = self.lowering.axes[axis]
        return f"for (int64_t i{at} = 0; i{at} < n{at}; i{at}++) {{"

    def _indices(self, axes: Sequence[str]) -> list[str]:
        return [f"i{self.lowering.axes[axis]}" for axis in axes]

    def _inner(self, nest: list[Job]) -> list[str]:
        """The work at one point of the loops; the jobs of a nest share common subexpressions."""
        lines: list[str] = []
        expressions = Expressions("double", lambda node: self._entry(node, lines), lines)
        for job in nest:
            atom = expressions.atom(job.body)
            if job.op == "store":
                lines.append(self._stored(self.outputs[job.target], job.target, atom, expressions))
            elif job.op == "keep":
                lines.append(f"{self._buffer(job.target, self._indices(job.axes))} = {expressions.as_number(atom)};")
            else:
                mask = "1" if job.mask is None else expressions.mask(job.mask)
                value = atom.text if job.op in ("any", "all") else expressions.as_number(atom)
                lines.append(STEPS[job.op].format(f"a{job.target}", value, mask))
        return lines

    def _stored(self, output: Output, at: int, atom: Atom, expressions: Expressions) -> str:
        slot = len(self.lowering.readings) + at
        held = {"number": self.real, "integer": "int64_t", "mask": "bool_t"}[output.type]
        value = expressions.as_number(atom) if output.type == "number" else atom.text
        value = f"({value}) != 0" if output.type == "mask" else value
        return f"(({held} *)data[{slot}])[{self._flat(output.axes, self._indices(output.axes))}] = ({held})({value});"

    # -------------------------------------------------------------------------------------- entries

    def _entry(self, node: Node, lines: list[str]) -> Atom | None:
        entry = self.lowering.entries.get(node)
        if entry is None:
            return None
        if entry.kind == "text":
            return Atom(entry.text, entry.type)
        text = self._read(entry.at, entry.indices) if entry.kind == "reading" else self._buffer(entry.at, entry.indices)
        name = f"x{len(lines)}"
        lines.append(f"const {'double' if entry.type == 'number' else 'int'} {name} = {text};")
        return Atom(name, entry.type)

    def _read(self, at: int, indices: Sequence[str]) -> str:
        reading = self.lowering.readings[at]
        first = sum(len(each.axes) for each in self.lowering.readings[:at])
        place = " + ".join(f"{index} * strides[{first + dim}]" for dim, index in enumerate(indices)) or "0"
        storage = self.types[at]
        loaded = f"((const {storage}_t *)data[{at}])[{place}]"
        converted: dict[RowType, str] = {"integer": f"whole({loaded})", "mask": f"{loaded} != 0"}
        return converted.get(reading.type, f"load_{storage}({loaded})")

    def _buffer(self, at: int, indices: Sequence[str]) -> str:
        axes = self.lowering.buffers[at].axes
        return f"b{at}[{self._flat(axes, indices)}]" if axes else f"b{at}"

    def _flat(self, axes: Sequence[str], indices: Sequence[str]) -> str:
        """The index into contiguous memory."""
        text = "0"
        for axis, index in zip(axes, indices, strict=True):
            text = index if text == "0" else f"({text}) * n{self.lowering.axes[axis]} + {index}"
        return text
