"""`Result`, what a call of an objective returns, and `Denominators`, which the calls of one step share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from lossc.runtime.arguments import a_device, a_whole_number, an_instance, brief
from lossc.runtime.messages import fail


@dataclass
class Values:
    """The entries that a part sums: `value` with the dimensions `axes`, and the `mask` of those that count (None: all)."""

    value: Tensor
    mask: Tensor | None
    axes: tuple[str, ...]


@dataclass
class PartResult:
    """One summand `coefficient * numerator / denominator` of a term. `count` is the number of entries that it admits.

    For what `form` says of micro-batches and ranks, see `lossc.compiler.program.Part`.
    """

    form: Literal["ratio", "sum", "once", "coupled"]
    coefficient: Tensor
    numerator: Tensor
    denominator: Tensor | None
    count: Tensor
    values: Values | None = None


@dataclass
class Result:
    """The value of an objective on a batch.

    Attributes:
        loss: the value to call `backward` on, a scalar: the sum of the terms, with a minus sign under `maximize`.
        terms: the value of each term, by name; detached, unless the call was given `per_term=True`. What a constraint adds
            to the loss is a term too.
        monitors: the value of each monitor, by name, detached.
        counts: how many entries each term and monitor averages or sums, by name.
        parts: the summands of each term and monitor, with numerator and denominator apart.
        draws: the random tensors of the call, by name. Pass them to `objective(…, draws=…)` to repeat it.
        constraints: the violation of each constraint on this batch, by name; above 0 where it is violated.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    monitors: dict[str, Tensor]
    counts: dict[str, Tensor]
    parts: dict[str, tuple[PartResult, ...]]
    draws: dict[str, Tensor] = field(default_factory=dict)
    constraints: dict[str, Tensor] = field(default_factory=dict)

    @property
    def numerators(self) -> dict[str, tuple[Tensor, ...]]:
        """The numerator of each part of each term and monitor."""
        return {name: tuple(part.numerator for part in parts) for name, parts in self.parts.items()}

    @property
    def denominators(self) -> dict[str, tuple[Tensor | None, ...]]:
        """The denominator of each part of each term and monitor; None where a part has none."""
        return {name: tuple(part.denominator for part in parts) for name, parts in self.parts.items()}

    @property
    def values(self) -> dict[str, Values]:
        """The entries of the first part of each term that has any; kept with `values = True` only."""
        found = {name: next((part.values for part in parts if part.values), None) for name, parts in self.parts.items()}
        return {name: values for name, values in found.items() if values is not None}


@dataclass
class Denominators:
    """The denominators of one call, or the sum of those of several calls: micro-batches, processes.

        denominators = sum(objective.denominators(labels=part["labels"], mask=part["mask"]) for part in parts)
        for part in parts:
            objective(**part, denominators=denominators).loss.backward()

    Attributes:
        values: `values[name][k]` is the denominator of part k of a term or monitor, in double precision; None where that
            part has none.
        calls: how many calls were added up. A part that counts once a step is divided by it.
    """

    values: dict[str, tuple[Tensor | None, ...]]
    calls: int = 1

    def __post_init__(self) -> None:
        an_instance("values", self.values, Mapping, "a mapping from terms to the denominators of their parts", code="E709")
        for name, parts in self.values.items():
            if not isinstance(parts, tuple) or not all(part is None or isinstance(part, Tensor) for part in parts):
                raise fail("E709", f"the denominators of `{name}` must be a tuple of tensors", found=brief(parts))
        if a_whole_number("calls", self.calls, code="E709") < 1:
            raise fail("E709", "denominators are those of at least one call", found=str(self.calls))

    def __add__(self, other: Denominators) -> Denominators:
        an_instance("other", other, Denominators, "denominators, of another call", code="E709")
        if {name: len(parts) for name, parts in self.values.items()} != {n: len(p) for n, p in other.values.items()}:
            raise fail("E709", "these denominators belong to different objectives", found=_names(other.values))
        summed = {
            name: tuple(_plus(left, right) for left, right in zip(parts, other.values[name], strict=True))
            for name, parts in self.values.items()
        }
        return Denominators(summed, self.calls + other.calls)

    def __radd__(self, other: object) -> Denominators:
        """Makes `sum(…)` work, which begins with 0."""
        return self if type(other) is int and other == 0 else self + an_instance(
            "other", other, Denominators, "denominators, of another call", code="E709"
        )

    def to(self, device: torch.device | str) -> Denominators:
        """The same on another device."""
        device = a_device("device", device)
        moved = {
            name: tuple(None if value is None else value.to(device) for value in parts)
            for name, parts in self.values.items()
        }
        return Denominators(moved, self.calls)


def _plus(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    return None if left is None or right is None else left + right.to(left.device)


def _names(values: Mapping[str, Any]) -> str:
    return ", ".join(values)
