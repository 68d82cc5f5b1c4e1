"""The parameters of an objective: their values in a run, checked against their domains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from numbers import Real

import torch
from torch import Tensor

from lossc.compiler.constants import constant_value
from lossc.compiler.program import ParamInfo, Program
from lossc.grammar.suggest import did_you_mean
from lossc.runtime.arguments import as_float, brief, unusable
from lossc.runtime.messages import fail


class Parameters:
    """The `param` lines of a program with their values: the value that was set, or the default, which may use other parameters.

    Values are kept exactly, and also as tensors updated in place, so that setting one does not recompile anything.
    """

    def __init__(self, program: Program) -> None:
        self.infos: dict[str, ParamInfo] = {name: info for name, info in program.params.items() if info.role == "param"}
        self.chosen: dict[str, float | list[float]] = {}
        self.tensors: dict[str, Tensor] = {}
        self._renew()

    def set(self, values: Mapping[str, object]) -> None:
        """Gives parameters new values; if one of them is wrong, none is changed."""
        chosen = {name: self._checked(name, value) for name, value in values.items()}
        self.chosen.update(chosen)
        self._renew()

    def restore(self, chosen: Mapping[str, float | list[float]]) -> None:
        """Restores the values that were set when the objective was saved."""
        self.chosen = dict(chosen)
        self._renew()

    def numbers(self) -> dict[str, float | str | list[float]]:
        """The value of every parameter; that of a choice is its name."""
        found: dict[str, float | str | list[float]] = {}
        for name, info in self.infos.items():
            tensor = self.tensors[name]
            found[name] = info.kind.choices[int(tensor)] if info.kind.name == "choice" else tensor.tolist()
        return found

    def _renew(self) -> None:
        known: dict[str, Fraction | float] = {}
        for name, value in self.chosen.items():
            if isinstance(value, float):
                known[name] = value
        left = [info for name, info in self.infos.items() if name not in self.chosen]
        while left:
            ready = [info for info in left if self._default(info, known) is not None]
            for info in ready:
                known[info.name] = self._default(info, known) or 0.0
            if not ready:
                names = ", ".join(f"`{info.name}`" for info in left)
                raise fail("E715", f"{names} has no value", help=f"set it: `lossc.load(…, {left[0].name}=…)`")
            left = [info for info in left if info.name not in known]
        for name in self.infos:
            self._keep(name, self.chosen.get(name, known.get(name, 0.0)))

    @staticmethod
    def _default(info: ParamInfo, known: Mapping[str, Fraction | float]) -> Fraction | float | None:
        return None if info.default is None else constant_value(info.default, known)

    def _keep(self, name: str, value: float | Fraction | list[float]) -> None:
        tensor = torch.tensor(value if isinstance(value, list) else float(value), dtype=torch.float64)
        held = self.tensors.get(name)
        if held is not None and held.shape == tensor.shape:
            held.copy_(tensor)
        else:
            self.tensors[name] = tensor

    def _checked(self, name: str, value: object) -> float | list[float]:
        info = self.infos.get(name)
        if info is None:
            hint = did_you_mean(name, self.infos) or f"its parameters are {', '.join(self.infos) or 'none'}"
            raise fail("E406", f"this objective has no parameter `{name}`", help=hint)
        if info.kind.name == "choice":
            if not isinstance(value, str) or value not in info.kind.choices:
                message = f"`{name}` must be one of {', '.join(info.kind.choices)}"
                raise fail("E401", message, found=brief(value), declared=info.span)
            return float(info.kind.choices.index(str(value)))
        numbers = _numbers(value)
        if numbers is None or (isinstance(numbers, list) and not info.order):
            raise fail("E401", f"`{name}` must be a number", found=brief(value), declared=info.span)
        for number in numbers if isinstance(numbers, list) else [numbers]:
            if number not in info.kind.bounds:
                message = f"`{name}` must be {info.kind.name} in {info.kind.bounds}, and this is {number:g}"
                raise fail("E401", message, declared=info.span)
        return numbers


def _numbers(value: object) -> float | list[float] | None:
    """A number, or the numbers of a vector; None for anything else."""
    if isinstance(value, Tensor):
        if unusable(value) or value.is_complex():
            return None
        value = value.detach().to(torch.float64).tolist()
    if isinstance(value, bool):
        return None
    if isinstance(value, Real):
        return as_float(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        entries = [_numbers(entry) for entry in value]
        return [entry for entry in entries if isinstance(entry, float)] if all(isinstance(e, float) for e in entries) else None
    return None
