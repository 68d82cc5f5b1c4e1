"""An objective with C kernels as a readable Python module that needs torch, and the C compiler of the system.

Everything that goes through the classes of rows is in the kernels; the rest is printed as the reference is, one operation a
line. Of a spec's text nothing stands in the C source; names stand in tables of strings, written with `repr`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lossc.compiler.emission import Procedure, Product, emit
from lossc.compiler.kernels import Kernel, NoKernelError, kernels
from lossc.compiler.kernels.c import prelude, source
from lossc.compiler.table import Statistic
from lossc.runtime import template, template_c
from lossc.runtime.backends.c import Compiled
from lossc.runtime.backends.environment import in_type, shaped, stored
from lossc.runtime.backends.fused import Fused
from lossc.runtime.backends.kernel_calls import axes_of
from lossc.runtime.backends.native import STREAMING_BYTES, _Call, merged
from lossc.runtime.backends.pool import PAGE, SMALLEST, Pool, _mapped
from lossc.runtime.backends.provider import Provider
from lossc.runtime.backends.seam import Scalars, Stage, _Attached
from lossc.runtime.messages import fail
from lossc.runtime.objective import Objective
from lossc.runtime.standalone import bodies, line, literal, objective_class, operations_of, pasted, standalone, tables
from lossc.runtime.standalone_run import Following
from lossc.runtime.variants import Variant

_HEADER = '''"""A training objective with C kernels, written by lossc. It needs torch and the system's C compiler; CPU only.

`Objective()(**tensors)` returns a Result with `loss` (differentiable), and by name `terms`, `monitors` and `counts`. What
the tensors and parameters are called, and which dimensions they have, stands in the tables below.

How it computes. Nothing of the size rows x classes is formed but the gradients that are asked for. The C function
`statistics` goes through the classes of each row and delivers a few numbers, such as the sum of exponentials; `program`
works out the loss from these, one torch operation a line; autograd gives dL/d statistic, from which the C function `gradient`
writes the gradients in one more sweep. Inputs may be of half precision: sums and row values are not.

The kernels are built on first use, with `$CC` or else `cc`, and kept in `$XDG_CACHE_HOME/lossc` (or `~/.cache/lossc`).
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib
import math
import mmap
import os
import shutil
import subprocess
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

Axes = tuple[str, ...]
'''

_TYPES = """TYPES = {torch.float32: "f32", torch.float64: "f64", torch.bfloat16: "bf16", torch.float16: "f16",
         torch.bool: "bool", torch.int64: "i64"}
STORED = {"number": torch.float64, "integer": torch.int64, "mask": torch.bool}"""

_MEMORY = f"""# bytes below which torch's own allocator serves, of a page, of gradients that go past the caches
SMALLEST = {SMALLEST}
PAGE = {PAGE}
STREAMING_BYTES = {STREAMING_BYTES}"""

_PASTED = (
    in_type, shaped, _Call, merged, _Attached, template_c.Known, template_c.known_of, template_c.made_extent,
    template_c.Kernel, template_c.library, template_c.Call, template_c.Rows, template_c.gradient_of,
    template_c.with_statistics, template_c.stream, template_c.Delivered, template_c.Provided, template_c.provided,
    template_c.with_delivered, template_c.Stage, template_c.through_stage,
)  # fmt: skip


def standalone_c(objective: Objective) -> str:
    """The module's text; LosscError for an objective of which some part has no kernel."""
    variant = objective.variant()
    fused = getattr(variant.run, "__self__", None)
    if not isinstance(fused, Fused):
        return standalone(objective)
    _refuse(objective)
    following = Following(objective, variant) if objective.follows else None
    printing = _Printing(variant, fused)
    blocks = [
        _HEADER,
        pasted(Product),
        tables(objective, variant, fused.native, following),
        *printing.tables(),
        _TYPES,
        *(pasted(function) for function in operations_of(*printing.procedures)),
        _MEMORY,
        *(pasted(item) for item in (_mapped, Pool)),
        "POOL = Pool()",
        *(pasted(item) for item in _PASTED),
        *printing.kernels(),
        *printing.functions,
        printing.program(),
        *(pasted(item) for item in template.PASTED),
        *objective_class(following),
    ]
    return "\n\n".join(block.strip() + "\n" for block in blocks)


def _refuse(objective: Objective) -> None:
    """What moves on by more than the number of the step is not written with C kernels."""
    program = objective.program
    held = [("state", info) for info in program.states.values()] + [("constraint", info) for info in program.constraints]
    help_ = "without `--backend c` a module can be written; `lossc.load(…)` has both"
    cannot = "no module with C kernels can be written of"
    for what, info in held:
        raise fail("E735", f"{cannot} the {what} `{info.name}`", declared=info.span, help=help_)
    if objective.drawn:
        raise fail("E735", f"{cannot} what is drawn", help=help_)


class _Printing:
    """The blocks that are of one objective alone; `functions` are printed procedures."""

    def __init__(self, variant: Variant, fused: Fused) -> None:
        self.variant = variant
        self.fused = fused
        self.plans = [_plan(operator) for operator in fused.operators if isinstance(operator, Compiled)]
        self.procedures: list[Procedure] = []
        self.functions: list[str] = []
        self.steps: list[str] = []
        self._rest()
        for at, plan in enumerate(self.plans):
            self._table(at, plan)

    # -------------------------------------------------------------------------------------- procedures

    def function(self, name: str, procedure: Procedure, about: str) -> None:
        """Prints a procedure as a function of what is known."""
        if procedure.names("function") or procedure.names("leaves"):
            raise fail("E601", "an objective that calls functions or follows the leaves of weights has no C kernels")
        self.procedures.append(procedure)
        self.functions += bodies(procedure)
        outputs = (
            f"        {key!r}: ({literal(value.at)}, {value.axes!r})," for key, value in procedure.outputs.items()
        )
        lines = [f"def {name}(known):", f'    """{about}"""']
        lines += [f"    {each}" for each in (*_bound(procedure), *map(line, procedure.instructions))]
        self.functions.append("\n".join([*lines, "    return {", *outputs, "    }"]))

    def _rest(self) -> None:
        self.function("rest", self.fused._rest.procedure, "What needs no statistic: denominators, counts, coefficients.")
        self.steps.append("outputs = {name: value for name, (value, _) in rest(known).items()}")

    def _table(self, at: int, plan: tuple[Kernel, ...]) -> None:
        seam = self.fused._seams[at]
        self.steps.append("inner = known")
        for number, provider in enumerate(self.fused._providers[at]):
            made = self._delivered(f"provided_{at}_{number}", provider, "What a torch operation delivers.")
            self.steps.append(f"inner = with_delivered({made}, inner)")
        for number, kernel in enumerate(plan):
            name = f"arguments_{at}_{number}"
            self.function(name, _arguments(kernel), "What a kernel is given for each row.")
            self.steps.append(f"inner = with_statistics(KERNEL_{at}_{number}, {name}, inner)")
        self.steps.append("inner = inner.double()")
        for number, stage in enumerate(seam.stages):
            if stage.receiving:
                self._stage(f"{at}_{number}", stage)
        self.function(f"seam_{at}", seam.procedure, "From the statistics of rows to the values of the objective.")
        self.steps.append(
            f"outputs |= {{name: in_type(value, like) for name, (value, _) in seam_{at}(inner).items()}}"
        )

    def _delivered(self, name: str, provider: Provider, about: str) -> str:
        """Prints the operation of a provider, as it is and as it is differentiated; the text that makes its record."""
        self.function(name, provider.executable.procedure, about)
        self.function(f"{name}_attached", provider.attached.procedure, "The same, of which the entries of a mask are seen.")
        reads = tuple(("parameter" if read.param else "tensor", read.name) for read in provider.reads)
        return f"Delivered({name}, {name}_attached, {provider.name!r}, {provider.axes!r}, {reads!r})"

    def _stage(self, place: str, stage: Stage) -> None:
        scalars: Scalars = stage.scalars
        self.function(f"values_{place}", scalars.values.procedure, "Row values that stand in the bodies of statistics.")
        self.function(f"slopes_{place}", scalars.slopes.procedure, "The slopes of row values in what they are made of.")
        self.function(f"sensitivities_{place}", stage.sensitivities.procedure, "d statistic / d row value.")
        mixed = []
        for number, provider in enumerate(scalars.mixed):
            mixed.append(self._delivered(f"mixed_{place}_{number}", provider, "A row value that mixes rows."))
        leaves = {
            name: tuple(("tensor" if hasattr(leaf, "kind") else "parameter", leaf.name, leaf.order) for leaf in found)
            for name, found in scalars.leaves.items()
        }
        receiving = tuple((s.name, s.rows, sources) for s, sources in stage.receiving)
        self.steps.append(f"inner = through_stage(STAGE_{place}, inner)")
        self.functions.append(
            f"STAGE_{place} = Stage(values_{place}, slopes_{place}, {leaves!r}, ({''.join(f'{m}, ' for m in mixed)}), "
            f"sensitivities_{place}, {receiving!r})"
        )

    def program(self) -> str:
        """The function that a call runs."""
        lines = ["def program(like, tensors, parameters, sizes, functions, leaves):", '    """The parts of every term."""']
        lines.append("    known = known_of(like, tensors, parameters, {**EXTENTS, **dict(zip(SIZES, sizes))})")
        lines += [f"    {step}" for step in self.steps]
        lines.append("    return [")
        for entry in self.variant.entries:
            for at in range(len(entry.forms)):
                fields = (f"{entry.name}.{at}.{field}" for field in ("coefficient", "numerator", "denominator", "count"))
                lines.append(f"        ({', '.join(f'outputs.get({field!r})' for field in fields)}),")
        return "\n".join([*lines, "    ]"])

    # -------------------------------------------------------------------------------------- tables and kernels

    def tables(self) -> Iterator[str]:
        bound = [entry for entry in self.variant.procedure.bound if entry.kind == "tensor"]
        yield f"NAMES = {tuple(entry.name for entry in bound)!r}\nSHAPES = {tuple(entry.axes for entry in bound)!r}"
        yield f"PARAMETER_NAMES = {self.variant.procedure.names('param')!r}"
        yield f"# axes that are made of others\nMADE = {dict(self.fused._cut.made)!r}"

    def kernels(self) -> Iterator[str]:
        yield f"PRELUDE = r'''\n{prelude()}\n'''"
        for at, plan in enumerate(self.plans):
            for number, kernel in enumerate(plan):
                yield _kernel(f"KERNEL_{at}_{number}", kernel)


def _plan(operator: Compiled) -> tuple[Kernel, ...]:
    try:
        return kernels(operator.table)
    except NoKernelError as reason:
        raise fail("E601", f"an objective of which no kernel computes a part is not written with C kernels: {reason}") from None


def _arguments(kernel: Kernel) -> Procedure:
    return emit({argument.leaf.name: argument.value for argument in kernel.arguments})


def _type_of(statistic: Statistic) -> str:
    return next(name for name, dtype in template_c.STORED.items() if dtype == stored(statistic))


def _bound(procedure: Procedure) -> Iterable[str]:
    reads = {"tensor": "known.tensor({!r})", "param": "known.params[{!r}]", "size": "known.sizes[{!r}]", "like": "known.like"}
    return (f"v{entry.slot} = {reads[entry.kind].format(entry.name)}" for entry in procedure.bound)


def _kernel(name: str, kernel: Kernel) -> str:
    """A kernel as source and tables; its streams have the types T0, T1, …, its loops the type REAL."""
    types = {s.name: "bool" if s.leaf.is_mask else f"t{at}" for at, s in enumerate(kernel.streams)}
    wants = [stream.name for stream in kernel.differentiable]
    made = {"statistics": source(kernel, "statistics", "REAL", types, ())}
    if wants:
        made["gradient"] = source(kernel, "gradient", "REAL", types, wants)
    generic = "".join(
        f"typedef JOINED(T{at}, _t) t{at}_t;\n#define load_t{at} JOINED(load_, T{at})\n#define put_t{at} JOINED(put_, T{at})\n"
        for at, stream in enumerate(kernel.streams)
        if not stream.leaf.is_mask
    )
    text = "\n".join([generic, *(each.body for each in made.values())])
    places = {"parameter": "parameter {}", "tensor": "tensor {}"}
    fields = {
        "axis": kernel.axis,
        "rows": kernel.rows,
        "streams": tuple(
            (s.name, places.get(s.provider, "tensor @{}").format(s.name), axes_of(s)) for s in kernel.streams
        ),
        "arguments": tuple((argument.leaf.name, argument.type) for argument in kernel.arguments),
        "labels": {
            point.statistic.name: (point.statistic.at.name, point.extra)  # type: ignore[union-attr]
            for point in kernel.points
            if point.extra
        },
        "statistics": tuple((s.name, _type_of(s), s.rows) for s in kernel.every),
        "slots": {function: tuple(tuple(slot) for slot in each.slots) for function, each in made.items()},
        "wants": tuple(wants),
        "scratch": max(8 * (each.held + len(each.columns)) for each in made.values()),
    }
    lines = (f"    {key}={value!r}," for key, value in fields.items())
    return "\n".join([f"{name} = Kernel(", f"    source=PRELUDE + r'''\n{text}\n''',", *lines, ")"])
