"""The fixed part of a standalone module that follows the run: what is pasted behind that of `template`, for one process.

`Fixed` is the `Objective` of `template`, pasted under that name. The tables here are those of an objective without anything to
follow; they say what the class expects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lossc.runtime.operations.draws import drawn
from lossc.runtime.template import EXTENTS, PARAMETERS, SIZES, Batch, Result
from lossc.runtime.template import Objective as Fixed

DRAWS: dict[str, tuple[str, int, bool]] = {}
"""Of each random tensor among the parameters: its distribution, its place, and whether every call has its own."""

MADE: dict[str, str | int] = {}
"""Axes that are made inside: the axis that each comes from, or its extent."""

GATHERED: dict[str, str] = {}
"""What each call of a step gathers: its name, and how the values of two calls become one."""

MERGERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add, "any": torch.logical_or, "all": torch.logical_and, "max": torch.maximum, "min": torch.minimum,
    "logaddexp": torch.logaddexp, "first": lambda first, _: first,
}  # fmt: skip

RENEWED: dict[str, tuple[tuple[str, ...], tuple[str, ...] | None]] = {}
"""What `renewed` returns: of which parameter, its axes, and those of the mask of entries that exist (None: all do)."""

MOVED: dict[str, tuple[tuple[str, ...], tuple[str, ...] | None]] = {}
"""The same of `moved`."""

CONSTRAINTS: dict[str, tuple[str, bool, bool, float | None, float, float]] = {}
"""Of each multiplier: its penalty, whether it is of an inequality, whether that is augmented, rate, growth, tolerance."""


def gathered(
    like: Tensor, tensors: list[Tensor], parameters: list[Tensor], sizes: list[int], functions: list[Callable[..., Tensor]],
    leaves: list[tuple[tuple[int, ...], ...]],
) -> list[Tensor]:
    """What a call gathers for the end of its step."""
    return []


def renewed(like: Tensor, gathered: list[Tensor], parameters: list[Tensor], sizes: list[int]) -> list[Any]:
    """Behind the calls of a step: values and masks of what was gathered."""
    return []


def moved(like: Tensor, gathered: list[Tensor], parameters: list[Tensor], sizes: list[int]) -> list[Any]:
    """The same of what reads nothing of a call."""
    return []


class Objective(Fixed):
    """The objective: `Objective()(**tensors).loss.backward()`, and `advance()` once behind each step of the optimiser.

    `total_steps` is the length of the run, for what needs it, `seed` that of what is drawn; parameters may be given other
    values.
    """

    step: Tensor

    def __init__(self, total_steps: int | None = None, seed: int = 0, **values: float | list[float]) -> None:
        super().__init__(**values)
        self.total_steps, self.seed = total_steps, seed
        self.calls: dict[bool, int] = {}
        self.found: dict[str, Tensor] = {}
        self.extents = dict(EXTENTS)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        for at, (_, _, role, axes) in enumerate(PARAMETERS):
            if role == "state":
                self.register_buffer(f"value{at}", self.values[at].expand([EXTENTS[axis] for axis in axes]).clone())

    def forward(self, **given: object) -> Result:
        batch = self.batch(dict(given))
        contributes = self.training and torch.is_grad_enabled()
        self.follow(batch.like, batch.extents, contributes)
        result = super().forward(**given)
        if GATHERED and contributes:
            parameters = self.parameters_of(batch.like, batch.extents)
            with torch.no_grad(), torch.autocast(batch.like.device.type, enabled=False):
                values = gathered(batch.like, batch.tensors, parameters, batch.sizes, batch.functions, batch.leaves)
            for (name, how), value in zip(GATHERED.items(), values, strict=True):
                value = value.double() if value.is_floating_point() else value
                self.found[name] = MERGERS[how](self.found[name], value) if name in self.found else value
        return result

    def batch(self, given: dict[str, Any]) -> Batch:
        batch = super().batch(given)
        for axis in MADE:
            source: str | int = axis
            while isinstance(source, str) and source in MADE:
                source = MADE[source]
            if isinstance(source, int) or source in batch.extents:
                batch.extents.setdefault(axis, source if isinstance(source, int) else batch.extents[source])
        return batch

    def follow(self, like: Tensor, extents: dict[str, int], contributes: bool) -> None:
        """The values of what follows the run, for one call."""
        call = self.calls.get(contributes, 0)
        self.calls[contributes] = call + 1
        self.extents = extents
        for at, (name, _, role, axes) in enumerate(PARAMETERS):
            if role == "run":
                self.values[at] = self.of_the_run(name)
            elif role == "state":
                self.values[at] = getattr(self, f"value{at}")
            elif role == "draw":
                distribution, place, each_call = DRAWS[name]
                where = (self.seed, int(contributes), int(self.step) if contributes else 0, place)
                shape = [extents[axis] for axis in axes]
                self.values[at] = drawn(distribution, shape, (*where, call, 0) if each_call else where, like)

    def of_the_run(self, name: str) -> Tensor:
        """The number of steps done, or the share of the run that is done."""
        if name == "run:step":
            return self.step.double()
        if self.total_steps is None:
            raise TypeError("this objective needs the length of the run: Objective(total_steps=…)")
        return (self.step.double() / self.total_steps).clamp(max=1.0)

    def train(self, mode: bool = True) -> Objective:
        self.calls.pop(False, None)
        super().train(mode)
        return self

    @torch.no_grad()
    def advance(self) -> None:
        """Ends a step of the optimiser: states are renewed, multipliers ascend."""
        if torch.distributed.is_available() and torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            raise RuntimeError("this module follows the run of one process")
        like = self.step.new_zeros((), dtype=torch.float64)
        for at, (_, _, role, _) in enumerate(PARAMETERS):
            if role == "state":
                self.values[at] = getattr(self, f"value{at}")
        given = [self.found[name] for name in GATHERED] if self.found else []
        sizes = [self.extents.get(axis, 0) for axis in SIZES]
        values: dict[str, tuple[Tensor, Tensor | None]] = {}
        for table, function in ((RENEWED, renewed), (MOVED, moved)):
            if table and (given or table is MOVED):
                outputs = iter(function(like, given, self.parameters_of(like, self.extents), sizes))
                values |= {name: self.placed(name, outputs, axes, masked) for name, (axes, masked) in table.items()}
        for name, (value, present) in values.items():
            held = self.held(name)
            if name in CONSTRAINTS:
                self.ascend(name, value, present)
            else:
                held.copy_(value if present is None else torch.where(present, value, held))
        self.found, self.calls = {}, {}
        self.step += 1

    def held(self, name: str) -> Tensor:
        at = next(at for at, (known, *_) in enumerate(PARAMETERS) if known == name)
        tensor: Tensor = getattr(self, f"value{at}")
        return tensor

    def placed(
        self, name: str, outputs: Any, axes: tuple[str, ...], masked: tuple[str, ...] | None
    ) -> tuple[Tensor, Tensor | None]:
        """The next value and its mask, over the dimensions of what they are of."""
        order = next(order for known, _, _, order in PARAMETERS if known == name)
        shape = self.held(name).shape
        value = aligned(next(outputs), axes, order).expand(shape)
        return value, None if masked is None else aligned(next(outputs), masked, order).expand(shape)

    def ascend(self, name: str, violation: Tensor, present: Tensor | None) -> None:
        """m becomes max(m + rate * g, 0), or m + rate * g of an equality, where there is a violation g."""
        of, inequality, augmented, rate, growth, tolerance = CONSTRAINTS[name]
        multiplier, penalty = self.held(name), self.held(of)
        if present is not None and not present.any():
            return
        violation = violation if present is None else torch.where(present, violation, 0.0)
        risen = multiplier + (float(penalty) if rate is None else rate) * violation
        multiplier.copy_(risen.relu() if inequality else risen)
        if augmented and (violation.relu() if inequality else violation).norm() > tolerance:
            penalty.mul_(growth)


def aligned(tensor: Tensor, have: tuple[str, ...], want: tuple[str, ...]) -> Tensor:
    """The tensor with the dimensions `want`; those that it lacks have extent 1."""
    tensor = tensor.permute([have.index(axis) for axis in want if axis in have])
    for at, axis in enumerate(want):
        if axis not in have:
            tensor = tensor.unsqueeze(at)
    return tensor
