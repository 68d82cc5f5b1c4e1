"""Probes: zeros that an operator of a compiled graph delivers, to be told dL/d root and to find its gradients again.

The graph adds a probe to the roots. Since d root / d probe = 1, autograd gives dL/d root as the gradient of the probe.

What a visit forms is kept under its probe, as long as the memory of that lives. It is no output of the operator: what an
operator delivers must not share memory with what it is given, so that backward would have to copy it.
"""

from __future__ import annotations

from weakref import WeakValueDictionary

import torch
from torch import Tensor

from lossc.runtime.backends.early import Visit


class _Memory(bytearray):
    """The memory of a probe."""

    visit: Visit


_MEMORY: WeakValueDictionary[int, _Memory] = WeakValueDictionary()
"""By address, which a copy does not have."""


def probe(visit: Visit) -> Tensor:
    """A zero for each root of which something is expected, under which the visit is kept."""
    if not visit.expected:
        return torch.empty(0, dtype=torch.float64)
    memory = _Memory(8 * len(visit.expected))
    memory.visit = visit
    tensor = torch.frombuffer(memory, dtype=torch.float64)
    _MEMORY[tensor.data_ptr()] = memory
    return tensor


def kept(tensor: Tensor) -> Visit | None:
    """What is kept under a probe; nothing under a copy of one."""
    memory = _MEMORY.get(tensor.data_ptr())
    return None if memory is None else memory.visit
