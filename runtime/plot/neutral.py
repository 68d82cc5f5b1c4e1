"""Tensors that say nothing, so that what one entry does is seen alone.

| kind                             | every entry                                  |
|----------------------------------|----------------------------------------------|
| `logits`                         | 0                                            |
| `real`, `int`                    | 0 for an `input`, 1 for `data`               |
| `prob`, `logprob` over an axis   | uniform                                      |
| `unit`, `logprob` without one    | 1/2, log(1/2)                                |
| `positive`, `nonneg`, `sign`     | 1                                            |
| `mask`, `label`                  | true, the first entry                        |
| `embedding`                      | drawn: vectors that are all equal have no direction |

An axis has one entry, those that scores or labels are about two, and those that a batch is compared with itself along four.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from lossc.compiler.kinds import DISTRIBUTIONS, Kind
from lossc.compiler.program import Program, copied_axes
from lossc.runtime.examples import example_inputs, known_extents
from lossc.runtime.objective import Objective

DTYPE = torch.float64


def neutral_inputs(objective: Objective, sizes: Mapping[str, int] | None = None) -> dict[str, Tensor]:
    """Every tensor that the objective declares but models, by name, neutral; `sizes` gives extents of axes."""
    extents = extents_of(objective, sizes or {})
    drawn = example_inputs(objective, extents, dtype=DTYPE)
    tensors = {}
    for info in objective.program.tensors.values():
        if info.name in drawn:
            like = drawn[info.name].detach()
            tensors[info.name] = like if info.kind.name == "embedding" else neutral(info.kind, info.order, like, info.role)
    return tensors


def extents_of(objective: Objective, sizes: Mapping[str, int]) -> dict[str, int]:
    """The extent of every axis."""
    program, known, about = objective.program, known_extents(objective, sizes), _about(objective.program)
    extents = {axis: 2 if axis in about else 1 for axis in program.axes}
    for copy, of in copied_axes(program).items():
        extents |= {copy: known.get(of, 4), of: 4}
    return {**extents, **known}


def _about(program: Program) -> set[str | None]:
    """The axes that distributions are over, and that labels point into."""
    kinds = [info.kind for info in program.tensors.values()]
    return {kind.axis for kind in kinds if kind.name in DISTRIBUTIONS} | {kind.codomain for kind in kinds}


def neutral(kind: Kind, order: tuple[str, ...], like: Tensor, role: str) -> Tensor:
    """A tensor of the shape and type of another."""
    if kind.name in ("mask", "label"):
        return torch.full_like(like, kind.name == "mask")
    entries = like.shape[order.index(kind.axis)] if kind.axis in order else 2
    match kind.name:
        case "prob":
            value = 1 / entries
        case "logprob":
            value = -math.log(entries)
        case "logits":
            value = 0.0
        case "sign":
            value = 1.0
        case _:
            value = _within(kind, 1.0 if role == "data" else 0.0)
    return torch.full_like(like, value)


def _within(kind: Kind, value: float) -> float:
    """The number itself where the kind admits it, and else one inside of its bounds."""
    low, high = float(kind.bounds.lo), float(kind.bounds.hi)
    if math.isfinite(low) and math.isfinite(high):
        return round((low + high) / 2) if kind.bounds.integer else (low + high) / 2
    if math.isfinite(low):
        return low + 1.0
    return min(value, high - 1.0) if math.isfinite(high) else value
