"""`lossc.example_inputs`: random tensors that an objective accepts."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor

from lossc.compiler.intervals import INF, Interval
from lossc.compiler.program import TensorInfo, copied_axes
from lossc.runtime.arguments import a_whole_number, an_instance
from lossc.runtime.arguments import extents as extents_of
from lossc.runtime.messages import fail
from lossc.runtime.objective import Objective

_EXTENTS = (4, 6, 9, 3, 5, 7)
"""Extents of axes for which none is given: small and distinct, so that a transposed tensor does not fit."""


_MOST = 1 << 22
"""The most entries of a tensor; beyond them, extents that were not given are made smaller."""

_WEIGHTS = 8
"""The number of entries of a group of weights."""


def example_inputs(
    objective: Objective, sizes: Mapping[str, int] | None = None, seed: int = 0, *, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Returns random tensors of the declared kinds, by name, for a first try or a test.

        objective(**lossc.example_inputs(objective, {"b": 8, "v": 100})).loss.backward()

    Inputs require gradient. Masks keep about four entries in five, and no label is *none*. Models (`net : model(…)`) are
    left out: pass your own.

    Arguments:
        sizes: extents of axes, by name; small and distinct ones are chosen for the others.
        seed: the seed of the draws.
        dtype: the type of floating-point tensors.
    """
    program = an_instance("objective", objective, Objective, "an objective").program
    if not an_instance("dtype", dtype, torch.dtype, "a type of torch").is_floating_point:
        raise fail("E726", "`dtype` must be a floating type", found=str(dtype))
    extents = dict(zip(program.axes, _EXTENTS * len(program.axes), strict=False))
    known = known_extents(objective, extents_of(sizes))
    extents = _bounded(extents, known, [info.order for info in program.tensors.values()])
    copies = copied_axes(program)
    extents |= {axis: extents[of] for axis, of in copies.items() if axis not in known and of in extents}
    generator = torch.Generator().manual_seed(a_whole_number("seed", seed))
    drawn = (info for info in program.tensors.values() if info.kind.name != "model")
    return {info.name: _draw(info, extents, generator, dtype) for info in drawn}


def known_extents(objective: Objective, sizes: Mapping[str, int]) -> dict[str, int]:
    """The extents that are given by the program, by the objective and by the caller; later ones take precedence."""
    positions = {axis.name: len(axis.positions) for axis in objective.program.axes.values() if axis.positions}
    return {**positions, **objective.sizes, **sizes}


def _bounded(free: Mapping[str, int], known: Mapping[str, int], orders: list[tuple[str, ...]]) -> dict[str, int]:
    """All extents; those that were not given are made smaller where a tensor of many axes would be too large."""
    extents: dict[str, int] = {}
    for most in (max(_EXTENTS), 2, 1):
        extents = {**{axis: min(extent, most) for axis, extent in free.items()}, **known}
        if all(prod(extents.get(axis, _WEIGHTS) for axis in order) <= _MOST for order in orders):
            break
    return extents


def _draw(info: TensorInfo, extents: Mapping[str, int], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    shape = [extents.get(axis, _WEIGHTS) for axis in info.order]
    kind = info.kind
    if kind.name == "mask":
        return torch.rand(shape, generator=generator) < 0.8
    if kind.name == "label":
        bound = extents.get(kind.codomain or "", 2)
        return torch.randint(max(bound, 1), shape, generator=generator)
    normal = torch.randn(shape, generator=generator, dtype=torch.float64)
    over = info.order.index(kind.axis) if kind.axis in info.order else None
    match kind.name:
        case "prob" if over is not None:
            value = normal.softmax(over)
        case "logprob":
            value = -normal.abs() if over is None else normal.log_softmax(over)
        case "sign":
            value = torch.where(normal < 0, -1.0, 1.0)
        case _:
            value = _within(normal, kind.bounds)
    value = value.to(dtype)
    return value.requires_grad_() if info.role == "input" else value


def _within(normal: Tensor, bounds: Interval) -> Tensor:
    """Normal draws mapped into an interval."""
    if bounds.lo > -INF and bounds.hi < INF:
        value = bounds.lo + (bounds.hi - bounds.lo) * normal.sigmoid()
    elif bounds.lo > -INF:
        value = bounds.lo + normal.abs() + (0.05 if bounds.lo_open else 0.0)
    elif bounds.hi < INF:
        value = bounds.hi - normal.abs() - (0.05 if bounds.hi_open else 0.0)
    else:
        value = normal
    return value.round() if bounds.integer else value
