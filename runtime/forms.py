"""Remembered forms of calls: names, types, shapes and devices of tensors that have passed all checks once.

Only labels have to be checked in further calls of such a form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

PLAIN = (Tensor, Parameter)

MOST = 1000
"""Forms that are kept."""


class Form(NamedTuple):
    """What checking a call of this form has found; `limits` are the extents that labels must not reach."""

    sizes: Mapping[str, int]
    like: Tensor
    types: Mapping[str, torch.dtype]
    limits: Sequence[tuple[str, int]]

    def tensors(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a call, in the types of the computation."""
        return {name: x if x.dtype == self.types[name] else x.to(self.types[name]) for name, x in given.items()}

    def fits(self, given: Mapping[str, Tensor]) -> bool:
        """Whether all labels are below their limits."""
        return all(not given[name].numel() or int(given[name].max()) < limit for name, limit in self.limits)


class Forms:
    """The forms of calls that passed."""

    def __init__(self) -> None:
        self._held: dict[object, Form] = {}

    def keep(self, key: object, form: Form) -> None:
        """Remembers a form."""
        if len(self._held) >= MOST:
            self._held.clear()
        self._held[key] = form

    def get(self, key: object) -> Form | None:
        """The form of a call, if there was one like it."""
        return self._held.get(key)


def form_of(given: Mapping[str, object], *options: object) -> tuple[object, ...] | None:
    """A key for the form of a call; None while tracing, and where some value is no plain tensor."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return None
    found: list[object] = []
    for name, x in given.items():
        if type(x) not in PLAIN or not isinstance(x, Tensor) or x.is_nested:
            return None
        found.append((name, x.dtype, x.layout, x.shape, x.device, x.requires_grad))
    return (*found, *options)
