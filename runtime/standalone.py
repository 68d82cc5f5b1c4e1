"""An objective as a readable Python module that needs only torch.

It contains the same program that the reference backend runs, one operation to a line, after the functions that it
calls. All identifiers are generated: names from the spec occur only in tables of strings, written with `repr`.
"""

from __future__ import annotations

import ast
import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from lossc.compiler.elaborate.groups import WEIGHTS_AXIS
from lossc.compiler.emission import Instruction, Procedure, Slot
from lossc.compiler.lagrangian import VIOLATION
from lossc.compiler.program import Program
from lossc.compiler.renewal import NAME as GATHERED
from lossc.runtime import operations, template, template_run
from lossc.runtime.objective import Objective
from lossc.runtime.operations.draws import drawn
from lossc.runtime.standalone_run import Following
from lossc.runtime.variants import Entry, Variant

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


def standalone(objective: Objective) -> str:
    """The text of the module. Its class `Objective` computes what `objective` computes."""
    variant = objective.variant()
    following = Following(objective, variant) if objective.follows else None
    further = following.procedures if following else {}
    procedures = (variant.procedure, *further.values())
    places = _places(objective, procedures, following)
    blocks = [
        _HEADER if following is None else _HEADER.replace("import importlib\n", "import hashlib\nimport importlib\n"),
        tables(objective, variant, following=following),
        *(pasted(function) for function in operations_of(*procedures)),
        *(text for procedure in procedures for text in bodies(procedure)),
        _program(variant, places),
        *(_further(following, name, places) for name in further if following),
        *(pasted(item) for item in template.PASTED),
        *objective_class(following),
    ]
    return "\n\n".join(block.strip() + "\n" for block in blocks)


def objective_class(following: Following | None) -> Iterator[str]:
    """The class `Objective`; where it follows the run, that of one which does not, and what follows."""
    if following is None:
        yield pasted(template.Objective)
        return
    yield pasted(template.Objective).replace("class Objective(", "class Fixed(", 1)
    yield f"MERGERS = {{\n{_MERGERS}}}"
    stubs = (template_run.gathered, template_run.renewed, template_run.moved)
    yield from (pasted(stub) for stub in stubs if stub.__name__ not in following.procedures)
    yield from (pasted(item) for item in (drawn, template_run.aligned, template_run.Objective))


_MERGERS = """    "add": torch.add, "any": torch.logical_or, "all": torch.logical_and, "max": torch.maximum,
    "min": torch.minimum, "logaddexp": torch.logaddexp, "first": lambda first, _: first,
"""


# ------------------------------------------------------------------------------------------------ tables

TensorRow = tuple[str, str, str, tuple[str, ...], str | None]
"""Name, role, type, axes, the axis that a label points into."""
Places = dict[str, list[str]]
"""The names of tensors, parameters, extents, functions and leaves in the order in which programs are given them."""


def _places(objective: Objective, procedures: Iterable[Procedure], following: Following | None) -> Places:
    """Of all programs together; random tensors are among the parameters."""
    found: dict[str, dict[str, None]] = {kind: {} for kind in _LISTS}
    own = [str(row[0]) for row in following.parameters] if following else []
    for procedure in procedures:
        for bound in procedure.bound:
            kind = "gathered" if bound.name.startswith(GATHERED) else bound.kind
            if bound.name not in own and kind in found:
                found[kind][bound.name] = None
    found["param"] |= dict.fromkeys(own)
    found["gathered"] = dict.fromkeys(objective.renewing.merging)
    return {kind: list(names) for kind, names in found.items()}


def tables(
    objective: Objective, variant: Variant, native: frozenset[str] = frozenset(), following: Following | None = None
) -> str:
    """The tables of what the program is given; `native` are tensors that keep their floating type."""
    program = objective.program
    procedures = (variant.procedure, *(following.procedures.values() if following else ()))
    places = _places(objective, procedures, following)
    bound = {entry.name: entry for procedure in reversed(procedures) for entry in procedure.bound}
    tensors: list[TensorRow] = []
    for entry in (bound[name] for name in places["tensor"]):
        tensor = program.tensors[entry.name]
        tensors.append((entry.name, tensor.role, entry.type, entry.axes, tensor.kind.codomain))
    numbers = objective.values()
    own = {str(row[0]): row for row in following.parameters} if following else {}
    parameters = [
        own[name] if name in own else (name, numbers[name], program.params[name].role, bound[name].axes)
        for name in places["param"]
    ]
    extents = {axis.name: len(axis.positions) for axis in program.axes.values() if axis.positions} | objective.sizes
    known = frozenset(extents).union(*((*row[3], row[4]) for row in tensors))
    tensors += _of_extents(program, frozenset(bound), frozenset(places["size"]) - known)
    unused = [name for name in program.tensors if name not in {*bound, *(row[0] for row in tensors)}]
    terms = [(entry.name, entry.sign, len(entry.forms)) for entry in _entries(variant)]
    return "\n\n".join([
        _table("TENSORS", "name, role, type, axes, the axis that a label points into", tensors),
        _table("NATIVE", "tensors that are read in the floating type that they have", sorted(native)),
        _table("UNUSED", "tensors that may be passed and are not needed", unused),
        _table("PARAMETERS", "name, value, role, axes", parameters),
        f"EXTENTS: dict[str, int] = {extents!r}",
        _table("SIZES", "axes of which the program is given the extent", places["size"]),
        _table("WEIGHTS", "groups: name, pattern, axis along which it is laid out, that of its leaves", _weights(objective)),
        _table("LEAVES", "groups of which the program is given the shapes of the leaves", places["leaves"]),
        _table("FUNCTIONS", "models, passed by name, and functions to import", places["function"]),
        f"GRADIENTS: bool = {variant.procedure.differentiates}",
        _table("TERMS", "name, sign in the loss (0: a monitor), number of parts", terms),
        *(_entries_of(*entry) for entry in (following.tables() if following else ())),
    ])  # fmt: skip


def _of_extents(program: Program, used: frozenset[str], axes: frozenset[str]) -> Iterator[TensorRow]:
    """Tensors that are needed only for the extents of some axes."""
    for name, tensor in program.tensors.items():
        if name not in used and tensor.kind.name not in ("weights", "model") and axes & frozenset(tensor.order):
            type_ = {"label": "integer", "mask": "mask"}.get(tensor.kind.name, "number")
            yield name, tensor.role, type_, tensor.order, tensor.kind.codomain


def _weights(objective: Objective) -> list[tuple[str, str, str, str | None]]:
    groups = [info for info in objective.program.tensors.values() if info.kind.name == "weights"]
    return [(g.name, g.order[0].removeprefix(WEIGHTS_AXIS), g.order[0], g.kind.leaves) for g in groups]


def _entries_of(name: str, comment: str, content: Mapping[str, object]) -> str:
    """A table by name."""
    lines = "".join(f"    {key!r}: {value!r},\n" for key, value in content.items())
    return f"# {comment}\n{name} = {{\n{lines}}}" if lines else f"# {comment}\n{name} = {{}}"


def _entries(variant: Variant) -> list[Entry]:
    """Terms and monitors; for a constraint, what it adds to the loss."""
    return [entry for entry in variant.entries if not entry.name.startswith(VIOLATION)]


def _table(name: str, comment: str, rows: Iterable[object]) -> str:
    lines = "".join(f"    {row!r},\n" for row in rows)
    return f"# {comment}\n{name} = (\n{lines})" if lines else f"# {comment}\n{name} = ()"


# ------------------------------------------------------------------------------------------------ the program


def _program(variant: Variant, places: Places) -> str:
    procedure = variant.procedure
    lines = ["def program(like, tensors, parameters, sizes, functions, leaves):"]
    lines.append(f'    """{inspect.getdoc(template.program)}"""')
    lines += [f"    {each}" for each in (*_bindings(procedure, places), *map(line, procedure.instructions))]
    lines.append("    return [")
    for entry in _entries(variant):
        for at in range(len(entry.forms)):
            fields = (f"{entry.name}.{at}.{field}" for field in ("coefficient", "numerator", "denominator", "count"))
            lines.append(f"        ({', '.join(_output(procedure, field) for field in fields)}),")
    return "\n".join([*lines, "    ]"])


def _further(following: Following, name: str, places: Places) -> str:
    """A program besides that of the terms."""
    procedure, stub = following.procedures[name], getattr(template_run, name)
    lines = [f"def {name}({', '.join(inspect.signature(stub).parameters)}):", f'    """{inspect.getdoc(stub)}"""']
    lines += [f"    {each}" for each in (*_bindings(procedure, places), *map(line, procedure.instructions))]
    lines += ["    return [", *(f"        {_output(procedure, output)}," for output in following.returned(name)), "    ]"]
    return "\n".join(lines)


_LISTS = {"tensor": "tensors", "param": "parameters", "size": "sizes", "function": "functions", "leaves": "leaves",
          "gathered": "gathered"}  # fmt: skip
"""How programs call what they are given, by kind."""


def _bindings(procedure: Procedure, places: Places) -> Iterator[str]:
    for bound in procedure.bound:
        if bound.kind == "like":
            yield f"v{bound.slot} = like"
        else:
            kinds = ("tensor", "param", "gathered") if bound.kind == "tensor" else (bound.kind,)
            kind = next(kind for kind in kinds if bound.name in places[kind])
            yield f"v{bound.slot} = {_LISTS[kind]}[{places[kind].index(bound.name)}]"


def line(instruction: Instruction) -> str:
    """One instruction as a statement."""
    arguments = [literal(argument) for argument in instruction.arguments]
    arguments += [f"{name}={_option(value)}" for name, value in instruction.options]
    return f"v{instruction.target} = {instruction.operation.removeprefix('operations.')}({', '.join(arguments)})"


def bodies(procedure: Procedure) -> Iterator[str]:
    """The procedures that operations call, as functions."""
    for body in {inner.name: inner for inner in procedure.inner}.values():
        yield from bodies(body)
        given = ", ".join(f"v{bound.slot}" for bound in body.bound)
        head = (f"def {body.name}({given}):", '    """What a search or fold calls."""')
        lines = [*head, *(f"    {line(i)}" for i in body.instructions)]
        yield "\n".join([*lines, f"    return {_output(body, 'value')}"])


def _option(value: object) -> str:
    return value.name if isinstance(value, Procedure) else repr(value)


def literal(value: object) -> str:
    """An argument as source: the variable of a slot, or a number."""
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
    """The functions of `runtime.operations` that procedures call, directly or indirectly, callees first."""
    prefix = "operations."
    names = (instruction.operation for procedure in procedures for instruction in _instructions(procedure))
    called = (name.removeprefix(prefix) for name in names if name.startswith(prefix))
    seen: dict[str, None] = {}
    for name in dict.fromkeys(called):
        yield from _with_callees(getattr(operations, name), seen)


def _instructions(procedure: Procedure) -> Iterator[Instruction]:
    """The instructions of procedures, each after those of the procedures that it calls."""
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
        if callable(callee) and getattr(callee, "__module__", "").startswith(operations.__name__):
            yield from _with_callees(callee, seen)
    yield function


def pasted(item: Callable[..., Any] | type) -> str:
    """The source of a function or class."""
    return re.sub(r"  # type: ignore\[[^\]]*\]", "", inspect.getsource(item))
