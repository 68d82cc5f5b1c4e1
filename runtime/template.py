"""The fixed half of a standalone module: `standalone` pastes the two classes below behind the tables of one objective.

The tables here are those of an objective without terms; they say what the classes expect.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

TENSORS: tuple[tuple[str, str, str, tuple[str, ...], str | None], ...] = ()
"""Of each tensor: its name, `input` or `data`, its type, its axes, and the axis that a label points into."""

PARAMETERS: tuple[tuple[str, float | list[float], str, tuple[str, ...]], ...] = ()
"""Of each parameter: its name, its value, `param` or `learn` (trained), and its axes.

In a module that follows the run a role may also be `run`, `state` or `draw`: see `template_run`.
"""

EXTENTS: dict[str, int] = {}
"""Extents of axes that are known beforehand."""

SIZES: tuple[str, ...] = ()
"""The axes of which the program is given the extent."""

NATIVE: tuple[str, ...] = ()
"""Tensors that are read in the floating type that they have."""

UNUSED: tuple[str, ...] = ()
"""Tensors that are declared and that the objective does not need."""

TERMS: tuple[tuple[str, int, int], ...] = ()
"""Of each term and monitor: its name, its sign in the loss (0 for a monitor), and its number of parts."""


FUNCTIONS: tuple[str, ...] = ()
"""The models that are passed by name, and functions to import, `extern:package.module:function`."""

WEIGHTS: tuple[tuple[str, str, str, str | None], ...] = ()
"""Of each group of weights: its name, the pattern of names, the axis along which it is laid out, that of its leaves."""

LEAVES: tuple[str, ...] = ()
"""The groups, by the axis along which they are laid out, of which the program is given the shapes of the leaves."""

GRADIENTS: bool = False
"""Whether gradients are taken inside, so that autograd is needed in evaluation too."""


def program(
    like: Tensor, tensors: list[Tensor], parameters: list[Tensor], sizes: list[int], functions: list[Callable[..., Tensor]],
    leaves: list[tuple[tuple[int, ...], ...]],
) -> list[tuple[Tensor, Tensor, Tensor | None, Tensor]]:
    """Of each part: coefficient, numerator, denominator, and the number of entries that it admits."""
    return []


class Result(NamedTuple):
    """The loss, and by name: terms, monitors, counts, and numerator and denominator of each part."""

    loss: Tensor
    terms: dict[str, Tensor]
    monitors: dict[str, Tensor]
    counts: dict[str, Tensor]
    numerators: dict[str, tuple[Tensor, ...]]
    denominators: dict[str, tuple[Tensor | None, ...]]


class Batch(NamedTuple):
    """What a call is given, ready for `program`."""

    like: Tensor
    tensors: list[Tensor]
    extents: dict[str, int]
    functions: list[Any]
    leaves: list[tuple[tuple[int, ...], ...]]

    @property
    def sizes(self) -> list[int]:
        return [self.extents[axis] for axis in SIZES]


class Objective(nn.Module):
    """The objective: `Objective()(**tensors).loss.backward()`; parameters may be given other values."""

    def __init__(self, **values: float | list[float]) -> None:
        super().__init__()
        unknown = set(values) - {name for name, _, role, _ in PARAMETERS if role in ("param", "learn")}
        if unknown:
            raise TypeError(f"there is no parameter {sorted(unknown)}")
        self.learned = nn.ParameterList()
        self.values: list[Tensor] = []
        for name, value, role, axes in PARAMETERS:
            tensor = torch.tensor(values.get(name, value), dtype=torch.float64)
            if role == "learn":
                start = tensor.float().expand([EXTENTS[axis] for axis in axes]).clone()
                self.learned.append(nn.Parameter(start))
            self.values.append(tensor)

    def forward(self, **given: object) -> Result:
        batch = self.batch(given)
        attached = torch.is_grad_enabled()
        parameters = self.parameters_of(batch.like, batch.extents)
        with torch.autocast(batch.like.device.type, enabled=False), torch.set_grad_enabled(attached or GRADIENTS):
            parts = program(batch.like, batch.tensors, parameters, batch.sizes, batch.functions, batch.leaves)
            result = combined(batch.like, parts)
        return result if attached else result._replace(loss=result.loss.detach())

    def batch(self, given: dict[str, Any]) -> Batch:
        return prepared(given)

    def parameters_of(self, like: Tensor, extents: dict[str, int]) -> list[Tensor]:
        """The parameters in order, in the type of the computation."""
        learned = iter(self.learned)
        chosen = [next(learned) if row[2] == "learn" else value for row, value in zip(PARAMETERS, self.values, strict=True)]
        pairs = zip(chosen, PARAMETERS, strict=True)
        return [value.to(like).expand([extents.get(axis, -1) for axis in row[3]]) for value, row in pairs]


def prepared(given: dict[str, Any]) -> Batch:
    """Tensors, groups of weights and functions, checked."""
    shapes: dict[str, tuple[tuple[int, ...], ...]] = {}
    for name, pattern, laid, _ in WEIGHTS:
        given[name], shapes[laid] = laid_out(given[name], pattern)
    functions = [external(name) if name.startswith("extern:") else given.pop(name) for name in FUNCTIONS]
    like, ready, extents = admitted({name: value for name, value in given.items() if isinstance(value, Tensor)})
    extents |= {layer: len(shapes[laid]) for _, _, laid, layer in WEIGHTS if layer is not None}
    return Batch(like, ready, extents, functions, [shapes[laid] for laid in LEAVES])


def external(name: str) -> object:
    """The function that the objective takes from a module of its user."""
    _, module, function = name.split(":")
    return getattr(importlib.import_module(module), function)


def laid_out(given: object, pattern: str) -> tuple[Tensor, tuple[tuple[int, ...], ...]]:
    """A module, or parameters by name, as one vector of those whose names match, and their shapes; a tensor is one of them."""
    if isinstance(given, nn.Module):
        given = dict(given.named_parameters())
    if isinstance(given, dict):
        chosen = [given[key] for key in sorted(given) if fnmatchcase(key, pattern or "*")]
    else:
        chosen = [torch.as_tensor(given)]
    return torch.cat([leaf.flatten() for leaf in chosen]), tuple(tuple(leaf.shape) for leaf in chosen)


def admitted(given: dict[str, Tensor]) -> tuple[Tensor, list[Tensor], dict[str, int]]:
    """The tensors in order and in the type of the computation, with the extents of their axes."""
    wrong = (set(given) - set(UNUSED)) ^ {name for name, *_ in TENSORS}
    if wrong:
        raise TypeError(f"missing or unexpected: {sorted(wrong)}")
    extents = dict(EXTENTS)
    for name, _, kind, axes, _ in TENSORS:
        if (given[name].dtype == torch.bool) != (kind == "mask") or (kind == "integer" and given[name].is_floating_point()):
            raise TypeError(f"{name} must hold a {kind}, not {given[name].dtype}")
        if given[name].dim() != len(axes):
            raise ValueError(f"{name} must have the dimensions {axes}, not {tuple(given[name].shape)}")
        for axis, extent in zip(axes, given[name].shape, strict=True):
            if extents.setdefault(axis, extent) != extent:
                raise ValueError(f"{name} has {extent} along {axis}, not {extents[axis]}")
    told = [(name, into) for name, *_, into in TENSORS if into is not None and into not in extents]
    for name, into in told:
        largest = int(given[name].max()) if given[name].numel() else -1
        extents[into] = max(extents.get(into, 0), largest + 1)
    numbers = [(role, given[name]) for name, role, kind, *_ in TENSORS if kind == "number"]
    inputs = [tensor for role, tensor in numbers if role == "input"] or [tensor for _, tensor in numbers]
    double = any(tensor.dtype == torch.float64 for tensor in inputs)
    device = next((tensor.device for tensor in given.values()), None)
    like = torch.zeros((), dtype=torch.float64 if double else torch.float32, device=device)
    types = {"number": like.dtype, "integer": torch.int64, "mask": torch.bool}
    ready = [given[name].detach() if role == "data" else given[name] for name, role, *_ in TENSORS]
    pairs = zip(ready, TENSORS, strict=True)
    return like, [tensor if entry[0] in NATIVE else tensor.to(types[entry[2]]) for tensor, entry in pairs], extents


def combined(like: Tensor, parts: list[tuple[Tensor, Tensor, Tensor | None, Tensor]]) -> Result:
    """sum_k c_k N_k / D_k of each term, where a quotient of nothing is 0."""
    loss = like
    result = Result(loss, {}, {}, {}, {}, {})
    for name, sign, number in TERMS:
        own, parts = parts[:number], parts[number:]
        value = like
        for coefficient, numerator, denominator, _ in own:
            share = numerator
            if denominator is not None:
                empty = denominator == 0
                share = torch.where(empty, numerator * 0.0, numerator / torch.where(empty, 1.0, denominator))
            value = value + coefficient * share
        loss = loss + sign * value
        (result.terms if sign else result.monitors)[name] = value.detach()
        result.counts[name] = own[0][3].detach() if own else like
        result.numerators[name] = tuple(part[1].detach() for part in own)
        result.denominators[name] = tuple(None if part[2] is None else part[2].detach() for part in own)
    return result._replace(loss=loss)


PASTED = (Result, Batch, prepared, external, laid_out, admitted, combined)
"""What every module holds besides its class."""
