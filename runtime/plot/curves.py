"""Terms along one entry: the first of a tensor or named quantity, of which everything else stays as it is."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lossc.compiler.kinds import Kind
from lossc.compiler.program import LetInfo, TensorInfo
from lossc.grammar.diagnostics import LosscError
from lossc.grammar.suggest import did_you_mean
from lossc.runtime.messages import fail
from lossc.runtime.objective import Objective
from lossc.runtime.plot.neutral import DTYPE, extents_of, neutral, neutral_inputs

_WITHOUT_SLOPE = ("mask", "label", "model", "int", "sign", "weights", "choice")
_INSIDE = 0.005
"""How far from the ends of an interval that it must not reach the entry stays."""


@dataclass(frozen=True)
class Line:
    """A term, and its slope, at each place under one setting of the parameters; NaN where there is none."""

    label: str
    values: tuple[float, ...]
    slopes: tuple[float, ...]

    @property
    def moves(self) -> bool:
        """Whether the entry makes a difference."""
        finite = [value for value in self.values if math.isfinite(value)]
        return any(self.slopes) or max(finite, default=0.0) - min(finite, default=0.0) > 1e-12


@dataclass(frozen=True)
class Curve:
    """A term along `places`, a line for each setting."""

    term: str
    places: tuple[float, ...]
    lines: tuple[Line, ...]

    @property
    def moves(self) -> bool:
        return any(line.moves for line in self.lines)


def curves(
    objective: Objective, along: str | None = None, *, sizes: Mapping[str, int] | None = None,
    fixed: Mapping[str, float] | None = None, between: tuple[float, float] | None = None, points: int = 241,
    sweep: tuple[str, Sequence[float | str]] | None = None,
) -> tuple[str, list[Curve]]:  # fmt: skip
    """What the entry is called, and a curve for each term: the term times its weight, and its derivative.

    The entry is the first one of the input or named quantity `along`, by default of the first input with a slope; of a
    distribution the others share what is left. `fixed` gives all entries of other tensors a number, `sweep` is a parameter
    with the values that make a line each; it keeps the last.
    """
    info = _info(objective, along)
    given: dict[str, Tensor] = neutral_inputs(objective, sizes)
    if isinstance(info, LetInfo):
        extents = extents_of(objective, sizes or {})
        like = torch.zeros([extents[axis] for axis in info.order], dtype=DTYPE)
        given[info.name] = neutral(info.kind, info.order, like, "input")
    every = (*objective.program.tensors, *objective.program.lets)
    for name, value in (fixed or {}).items():
        given[_named(name, every)] = torch.full_like(given.get(name, torch.zeros((), dtype=DTYPE)), value)
    places = _places(info.kind, between, points)
    lines: dict[str, list[Line]] = {}
    for label, setting in _settings(sweep):
        objective.set(**setting)
        for term, (values, slopes) in _along(objective, info, given, places).items():
            lines.setdefault(term, []).append(Line(label, values, slopes))
    found = [Curve(term, tuple(places), tuple(of_term)) for term, of_term in lines.items()]
    return _title(objective, info), found


def _settings(sweep: tuple[str, Sequence[float | str]] | None) -> Iterator[tuple[str, dict[str, float | str]]]:
    """Parameters for each line, and what it is called."""
    if sweep is None:
        yield "", {}
        return
    name, values = sweep
    for value in values:
        yield f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}", {name: value}


def _along(
    objective: Objective, info: TensorInfo | LetInfo, given: Mapping[str, Tensor], places: Sequence[float]
) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    """The values and slopes of each term at every place."""
    values: dict[str, list[float]] = {term.name: [] for term in objective.program.terms}
    slopes: dict[str, list[float]] = {term.name: [] for term in objective.program.terms}
    for place in places:
        entry = torch.tensor(place, dtype=DTYPE, requires_grad=True)
        result = objective(**{**given, info.name: _with_entry(info, given[info.name], entry)}, per_term=True)
        for name in values:
            term = result.terms[name]
            values[name].append(float(term.detach()))
            slopes[name].append(_slope(term, entry))
    return {name: (tuple(values[name]), tuple(slopes[name])) for name in values}


def _slope(term: Tensor, entry: Tensor) -> float:
    if not term.requires_grad:
        return 0.0
    (slope,) = torch.autograd.grad(term, entry, retain_graph=True, allow_unused=True)
    return 0.0 if slope is None else float(slope)


def _with_entry(info: TensorInfo | LetInfo, base: Tensor, entry: Tensor) -> Tensor:
    """The tensor with its first entry; others along the axis of a distribution share what that leaves."""
    first = torch.zeros(base.shape, dtype=torch.bool)
    first.view(-1)[0] = True
    kind, others = info.kind, base
    if kind.axis in info.order and kind.name in ("prob", "logprob") and base.shape[info.order.index(kind.axis)] > 1:
        at = info.order.index(kind.axis)
        line = torch.zeros_like(first)
        line[tuple(slice(None) if axis == at else 0 for axis in range(base.ndim))] = True
        count = base.shape[at] - 1
        share = (1 - entry) / count if kind.name == "prob" else torch.log1p(-entry.exp()) - math.log(count)
        others = torch.where(line, share, base)
    return torch.where(first, entry, others)


# -------------------------------------------------------------------------------------- what it is along


def _info(objective: Objective, along: str | None) -> TensorInfo | LetInfo:
    """The tensor or named quantity of this name."""
    program = objective.program
    every: dict[str, TensorInfo | LetInfo] = {**program.tensors, **program.lets}
    fit = {name: info for name, info in every.items() if info.kind.name not in _WITHOUT_SLOPE}
    if along is None:
        along = next((name for name, info in program.tensors.items() if name in fit and info.role == "input"), None)
        along = along or next(iter(fit), "")
    if along in every and along not in fit:
        raise _unknown(f"`{along}` is a {every[along].kind.name}, along which there is no slope", along, fit)
    return fit[_named(along, fit)]


def _named(name: str, every: Collection[str]) -> str:
    """The name, which must be one of these."""
    if name not in every:
        raise _unknown(f"there is no tensor or named quantity `{name}`", name, every)
    return name


def _unknown(message: str, name: str, every: Collection[str]) -> LosscError:
    return fail("E805", message, help=did_you_mean(name, every) or (f"there are {', '.join(every)}",))


def _places(kind: Kind, between: tuple[float, float] | None, points: int) -> list[float]:
    low, high = between or _range(kind)
    return torch.linspace(low, high, points, dtype=DTYPE).tolist()


def _range(kind: Kind) -> tuple[float, float]:
    """Where the kind is of interest."""
    if kind.name == "prob":
        return _INSIDE, 1 - _INSIDE
    if kind.name == "logprob":
        return -6.0, -_INSIDE
    low, high = float(kind.bounds.lo), float(kind.bounds.hi)
    low = low + _INSIDE if math.isfinite(low) else min(-6.0, high - 6.0)
    return low, high - _INSIDE if math.isfinite(high) else max(6.0, low + 6.0)


def _title(objective: Objective, info: TensorInfo | LetInfo) -> str:
    """`logits[chosen, 0]`, without the axes of the batch."""
    axes = [objective.program.axes[axis] for axis in info.order if axis in objective.program.axes]
    places = [(axis.positions or ("0",))[0] for axis in axes if not axis.batch]
    return f"{info.name}[{', '.join(places)}]" if places else info.name
