"""An objective as a readable Python module that needs torch and nothing else.

It holds the very program that the reference runs, one operation a line, behind the operations that it calls. Identifiers
are ours: what a spec names stands in tables of strings, written with `repr`.
"""

from __future__ import annotations

import ast
import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from lossc.compiler.elaborate.groups import WEIGHTS_AXIS
from lossc.compiler.emission import Instruction, Procedure, Slot
from lossc.compiler.program import Program
from lossc.runtime import operations, template
from lossc.runtime.messages import fail
from lossc.runtime.objective import Objective
from lossc.runtime.variants import Variant

_HEADER = '''"""A training objective in plain PyTorch, written by lossc.

`Objective()(**tensors)` returns a Result with `loss` (differentiable), and by name `terms`, `monitors` and `counts`. What
the tensors and parameters are called, and which dimensions they have, stands in the tables below. Numbers in half
precision are computed in single precision. `program` is the whole computation, one operation a line.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
'''

_WIDTH = 120


def standalone(objective: Objective) -> str:
    """The module's text; importing it and calling its `Objective` gives what `objective` gives."""
    variant = objective.variant()
    procedure = variant.procedure
    blocks = [
        _HEADER,
        tables(objective, variant),
        *(pasted(function) for function in operations_of(procedure)),
        *bodies(procedure),
        _program(variant),
        *(pasted(item) for item in (template.Result, template.Objective, template.external, template.laid_out)),
        *(pasted(item) for item in (template.admitted, template.combined)),
    ]
    return "\n\n".join(block.strip() + "\n" for block in blocks)


# ------------------------------------------------------------------------------------------------ tables


def tables(objective: Objective, variant: Variant, native: frozenset[str] = frozenset()) -> str:
    """What the program is given; `native` are tensors that keep their floating type."""
    program = objective.program
    for what, held in (("state", program.states.values()), ("constraint", program.constraints)):
        for info in held:
            help_ = "train with `lossc.load(…)`, which renews states and lets multipliers ascend"
            raise fail("E735", f"no module can be written of the {what} `{info.name}`", declared=info.span, help=help_)
    bound = variant.procedure.bound
    tensors = []
    for entry in bound:
        if entry.kind == "tensor":
            tensor = program.tensors[entry.name]
            tensors.append((entry.name, tensor.role, entry.type, entry.axes, tensor.kind.codomain))
    numbers = objective.values()
    parameters = [
        (entry.name, numbers.get(entry.name, 0.0), _role(program, entry.name), entry.axes)
        for entry in bound
        if entry.kind == "param"
    ]
    used = {entry.name for entry in bound}
    unused = [name for name in program.tensors if name not in used]
    extents = {axis.name: len(axis.positions) for axis in program.axes.values() if axis.positions} | objective.sizes
    terms = [(entry.name, entry.sign, len(entry.forms)) for entry in variant.entries]
    return "\n\n".join([
        _table("TENSORS", "name, role, type, axes, the axis that a label points into", tensors),
        _table("NATIVE", "tensors that are read in the floating type that they have", sorted(native)),
        _table("UNUSED", "tensors that may be passed and are not needed", unused),
        _table("PARAMETERS", "name, value, role, axes", parameters),
        f"EXTENTS: dict[str, int] = {extents!r}",
        _table("SIZES", "axes of which the program is given the extent", variant.procedure.names("size")),
        _table("WEIGHTS", "groups: name, pattern, axis along which it is laid out, that of its leaves", _weights(objective)),
        _table("LEAVES", "groups of which the program is given the shapes of the leaves", variant.procedure.names("leaves")),
        _table("FUNCTIONS", "models, passed by name, and functions to import", variant.procedure.names("function")),
        f"GRADIENTS: bool = {variant.procedure.differentiates}",
        _table("TERMS", "name, sign in the loss (0: a monitor), number of parts", terms),
    ])  # fmt: skip


def _weights(objective: Objective) -> list[tuple[str, str, str, str | None]]:
    groups = [info for info in objective.program.tensors.values() if info.kind.name == "weights"]
    return [(g.name, g.order[0].removeprefix(WEIGHTS_AXIS), g.order[0], g.kind.leaves) for g in groups]


def _role(program: Program, name: str) -> str:
    return program.params[name].role if name in program.params else "run"


def _table(name: str, comment: str, rows: Iterable[object]) -> str:
    lines = "".join(f"    {row!r},\n" for row in rows)
    return f"# {comment}\n{name} = (\n{lines})" if lines else f"# {comment}\n{name} = ()"


# ------------------------------------------------------------------------------------------------ the program


def _program(variant: Variant) -> str:
    procedure = variant.procedure
    lines = ["def program(like, tensors, parameters, sizes, functions, leaves):"]
    lines.append(f'    """{inspect.getdoc(template.program)}"""')
    lines += [f"    {each}" for each in (*_bindings(procedure), *map(line, procedure.instructions))]
    lines.append("    return [")
    for entry in variant.entries:
        for at in range(len(entry.forms)):
            fields = (f"{entry.name}.{at}.{field}" for field in ("coefficient", "numerator", "denominator", "count"))
            lines.append(f"        ({', '.join(_output(procedure, field) for field in fields)}),")
    return "\n".join([*lines, "    ]"])


def _bindings(procedure: Procedure) -> Iterator[str]:
    places = {"tensor": "tensors", "param": "parameters", "size": "sizes", "function": "functions", "leaves": "leaves"}
    counters = dict.fromkeys(places, 0)
    for bound in procedure.bound:
        if bound.kind == "like":
            yield f"v{bound.slot} = like"
        else:
            yield f"v{bound.slot} = {places[bound.kind]}[{counters[bound.kind]}]"
            counters[bound.kind] += 1


def line(instruction: Instruction) -> str:
    """One operation as a statement."""
    arguments = [literal(argument) for argument in instruction.arguments]
    arguments += [f"{name}={_option(value)}" for name, value in instruction.options]
    return f"v{instruction.target} = {instruction.operation.removeprefix('operations.')}({', '.join(arguments)})"


def bodies(procedure: Procedure) -> Iterator[str]:
    """The procedures that operations call, as functions."""
    for body in {inner.name: inner for inner in procedure.inner}.values():
        yield from bodies(body)
        given = ", ".join(f"v{bound.slot}" for bound in body.bound)
        lines = [f"def {body.name}({given}):", '    """What a search calls."""', *(f"    {line(i)}" for i in body.instructions)]
        yield "\n".join([*lines, f"    return {_output(body, 'value')}"])


def _option(value: object) -> str:
    return value.name if isinstance(value, Procedure) else repr(value)


def literal(value: object) -> str:
    """The place of a value, or a number."""
    if isinstance(value, Slot):
        return f"v{value.index}"
    if isinstance(value, float) and math.isinf(value):
        return "math.inf" if value > 0 else "-math.inf"
    return repr(value)


def _output(procedure: Procedure, name: str) -> str:
    value = procedure.outputs.get(name)
    return "None" if value is None else literal(value.at)


# ------------------------------------------------------------------------------------------------ sources


def operations_of(*procedures: Procedure) -> Iterator[Callable[..., Any]]:
    """The functions of the operations package that procedures call, and those that they call, callees first."""
    prefix = "operations."
    names = (instruction.operation for procedure in procedures for instruction in _instructions(procedure))
    called = (name.removeprefix(prefix) for name in names if name.startswith(prefix))
    seen: dict[str, None] = {}
    for name in dict.fromkeys(called):
        yield from _with_callees(getattr(operations, name), seen)


def _instructions(procedure: Procedure) -> Iterator[Instruction]:
    """Those of the program, each behind those of the procedures that it calls."""
    for inner in procedure.inner:
        yield from _instructions(inner)
    yield from procedure.instructions


def _with_callees(function: Callable[..., Any], seen: dict[str, None]) -> Iterator[Callable[..., Any]]:
    if function.__name__ in seen:
        return
    seen[function.__name__] = None
    home = inspect.getmodule(function)
    for node in ast.walk(ast.parse(inspect.getsource(function))):
        callee = getattr(home, node.id, None) if isinstance(node, ast.Name) else None
        if inspect.isfunction(callee) and callee.__module__.startswith(operations.__name__):
            yield from _with_callees(callee, seen)
    yield function


def pasted(item: Callable[..., Any] | type) -> str:
    """The source of a function or class."""
    return re.sub(r"  # type: ignore\[[^\]]*\]", "", inspect.getsource(item))
