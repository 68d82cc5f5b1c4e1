"""The row values passed to a kernel with each row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lossc.compiler.core import Input
from lossc.compiler.emission import emit
from lossc.compiler.kernels import Argument
from lossc.compiler.kernels.model import RowType
from lossc.compiler.rows import Output
from lossc.runtime.backends.environment import Environment, in_double
from lossc.runtime.backends.reference import Executable
from lossc.runtime.backends.rows import Rows

Axes = tuple[str, ...]
STORAGE = {"number": torch.float64, "integer": torch.int64, "mask": torch.bool}


class Arguments:
    """The row values passed to a kernel: labels and masks unchanged, the others computed in double precision."""

    def __init__(self, arguments: Sequence[Argument]) -> None:
        self._direct = {a.leaf.name: (a.value, a.type) for a in arguments
                        if isinstance(a.value, Input) and a.type != "number"}  # fmt: skip
        others = {a.leaf.name: a for a in arguments if a.leaf.name not in self._direct}
        values = {name: argument.value for name, argument in others.items()}
        self._types = {name: argument.type for name, argument in others.items()}
        self._torch = Executable(emit(values))
        self._outputs = {name: tuple(sorted(value.axes)) for name, value in values.items()}
        self._rows = Rows(values, [Output(name, axes, self._types[name]) for name, axes in self._outputs.items()])

    def run(self, known: Environment) -> dict[str, tuple[Tensor, Axes]]:
        """Each value with the axes of its dimensions."""
        direct = self._direct.items()
        found = {name: (in_storage(known.tensors[leaf.name], type_), leaf.order) for name, (leaf, type_) in direct}
        if not self._outputs:
            return found
        values = self._rows.run(known, double=True)
        if values is not None:
            return {**found, **{name: (value, self._outputs[name]) for name, value in values.items()}}
        computed = in_double(known).run(self._torch)
        return {**found, **{name: (in_storage(value, self._types[name]), axes) for name, (value, axes) in computed.items()}}


def in_storage(value: Tensor, type_: RowType) -> Tensor:
    """A row value in the type in which kernels read it."""
    dtype = STORAGE[type_]
    return value if value.dtype == dtype else value.to(dtype)
