"""Functions of the caller, above all models: called in their own floating type, their results checked against declarations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lossc.compiler.program import Program
from lossc.grammar.source import Span
from lossc.runtime.messages import fail, shown
from lossc.runtime.operations.derivatives import without_weights


@dataclass(frozen=True)
class Interface:
    """The axes of each argument and of the result of a function, in the order of their dimensions."""

    name: str
    parameters: tuple[tuple[str, ...], ...]
    result: tuple[str, ...]
    span: Span

    @property
    def declaration(self) -> str:
        inner = ", ".join(f"[{', '.join(order)}]" for order in self.parameters)
        return f"{self.name}({inner}) -> [{', '.join(self.result)}]"


def interfaces(program: Program) -> dict[str, Interface]:
    """The models of a program by name."""
    found = {}
    for info in program.tensors.values():
        signature = info.kind.signature
        if signature is not None:
            orders = tuple(order for _, order in signature.parameters)
            found[info.name] = Interface(info.name, orders, signature.result[1], info.span)
    return found


class Ambient(NamedTuple):
    """The state of automatic mixed precision around the call of an objective, which itself computes without it."""

    device: str
    enabled: bool
    dtype: torch.dtype


_AS_IT_IS = nullcontext()


def ambient(device: str) -> Ambient:
    return Ambient(device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))


def without_autocast(device: str) -> AbstractContextManager[object]:
    """Disables automatic mixed precision; does nothing where it is off already, because checking is cheaper."""
    if torch.compiler.is_compiling() or torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return _AS_IT_IS


class Called:
    """A function of the caller inside a program.

    `sizes` has the extents known in advance, and `least` the least extents of axes that are known only through labels.
    """

    def __init__(
        self, interface: Interface, function: Any, sizes: Mapping[str, int], least: Mapping[str, int], around: Ambient
    ) -> None:
        self.interface = interface
        self.function = function
        self.sizes = sizes
        self.least = least
        self.ambient = around

    def __call__(self, *arguments: Tensor) -> Tensor:
        return self._run(self.function, arguments)

    def held(self, *arguments: Tensor) -> Tensor:
        """Calls the function such that gradient flows to its arguments only, not to its weights."""
        return self._run(without_weights(self.function), arguments)

    def _run(self, function: Callable[..., Any], arguments: tuple[Tensor, ...]) -> Tensor:
        dtype = _dtype(self.function)
        given = [x.to(dtype) if dtype is not None and x.is_floating_point() else x for x in arguments]
        with torch.autocast(self.ambient.device, enabled=self.ambient.enabled, dtype=self.ambient.dtype):
            try:
                result = function(*given)
            except Exception as problem:
                self._place(problem, given)
                raise
        return self._checked(result, arguments)

    def _place(self, problem: Exception, given: Iterable[Tensor]) -> None:
        """Adds a note to an exception of the caller's code: from where in the spec the code was called."""
        if not torch.compiler.is_compiling() and hasattr(problem, "add_note"):
            place = f" at {self.interface.span}" if self.interface.span.source.text else ""
            shapes = ", ".join(shown(x) for x in given)
            problem.add_note(f"raised in `{self.interface.declaration}`{place}, which the objective called with {shapes}")

    def _checked(self, result: object, arguments: tuple[Tensor, ...]) -> Tensor:
        known = dict(self.sizes)
        leading = 0
        for order, x in zip(self.interface.parameters, arguments, strict=True):
            leading = max(leading, x.dim() - len(order))
            known.update(zip(order, x.shape[x.dim() - len(order) :], strict=True))
        order = self.interface.result
        if not isinstance(result, Tensor) or result.dim() != leading + len(order):
            wanted = f"{len(order)} dimension{'' if len(order) == 1 else 's'}: {', '.join(order) or 'a scalar'}"
            raise self._wrong(f"must give a tensor with {wanted}", result)
        for axis, extent in zip(order, result.shape[leading:], strict=True):
            if known.get(axis, extent) != extent:
                raise self._wrong(f"gives {extent} along `{axis}`, which has {known[axis]}", result)
            if extent < self.least.get(axis, 0):
                message = f"a label is {self.least[axis] - 1}, and `{self.interface.name}` gives the entries 0 to {extent - 1}"
                help_ = "a label that is *none* is negative"
                raise fail("E706", f"{message} of `{axis}`", found=shown(result), declared=self.interface.span, help=help_)
        return result

    def _wrong(self, message: str, result: object) -> Exception:
        found = shown(result) if isinstance(result, Tensor) else type(result).__name__
        help_ = f"it is declared as {self.interface.declaration}"
        return fail("E725", f"`{self.interface.name}` {message}", found=found, declared=self.interface.span, help=help_)


def _dtype(function: object) -> torch.dtype | None:
    """The floating type in which a module computes."""
    if not isinstance(function, nn.Module):
        return None
    return next((parameter.dtype for parameter in function.parameters() if parameter.is_floating_point()), None)
