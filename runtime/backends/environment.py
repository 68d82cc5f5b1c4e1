"""The environment in which procedures run: tensors, parameters and extents by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lossc.compiler.core import Input, Param
from lossc.compiler.emission import Bound
from lossc.compiler.table import Statistic
from lossc.runtime.backends.reference import Executable, Value


@dataclass(frozen=True)
class Environment:
    """The values available to procedures, by name: tensors, parameters, extents, and functions of the caller.

    Statistics and row values of a table are among the tensors, under `@name`, with their axes in alphabetical order; a
    tensor of the batch has the dimensions of its declaration. Tensors may have another floating type than the
    computation.
    """

    tensors: Mapping[str, Tensor]
    params: Mapping[str, Tensor]
    sizes: Mapping[str, int]
    like: Tensor
    functions: Mapping[str, Value] = field(default_factory=dict)

    def bind(self, entries: Iterable[Bound]) -> list[Value]:
        return [self._value(entry) for entry in entries]

    def _value(self, entry: Bound) -> Value:
        match entry.kind:
            case "tensor":
                return in_type(self.tensors[entry.name], self.like)
            case "param":
                return self.params[entry.name]
            case "size":
                return self.sizes[entry.name]
            case "function" | "leaves":
                return self.functions[entry.name]
        return self.like

    def leaf(self, node: Input | Param) -> Tensor:
        """The tensor or parameter of that name, in the floating type of the computation."""
        return in_type((self.params if isinstance(node, Param) else self.tensors)[node.name], self.like)

    def run(self, executable: Executable) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
        """The outputs of a procedure, each with the axes of its dimensions."""
        outputs = executable.procedure.outputs
        return {
            name: (tensor, outputs[name].axes) for name, tensor in executable.run(self.bind(executable.bound)).items()
        }

    def having(self, tensors: Mapping[str, Tensor]) -> Environment:
        """The environment with further tensors."""
        return Environment({**self.tensors, **tensors}, self.params, self.sizes, self.like, self.functions)


def shaped(tensor: Tensor, have: tuple[str, ...], want: tuple[str, ...], sizes: Mapping[str, int]) -> Tensor:
    """The tensor with exactly the dimensions `want`, repeated along those that it lacks."""
    tensor = tensor.permute([have.index(axis) for axis in want if axis in have])
    for at, axis in enumerate(want):
        if axis not in have:
            tensor = tensor.unsqueeze(at)
    return tensor.expand([sizes[axis] for axis in want])


def in_type(tensor: Tensor, like: Tensor) -> Tensor:
    """Numbers in the floating type of the computation; masks and labels unchanged."""
    return tensor if tensor.dtype == like.dtype or not tensor.is_floating_point() else tensor.to(like.dtype)


STORED = {"argmax": torch.int64, "any": torch.bool}


def stored(statistic: Statistic) -> torch.dtype:
    """The type in which a statistic is kept; double precision for numbers."""
    return torch.bool if statistic.leaf.is_mask else STORED.get(statistic.op, torch.float64)


def in_double(known: Environment) -> Environment:
    """Like `in_type`, for computations on rows: numbers in double precision, whose cost is negligible there."""
    return Environment(known.tensors, known.params, known.sizes, known.like.double(), known.functions)
