"""Probes: zeros returned by an operator of a compiled graph, by which backward learns dL/d root and finds the gradients.

The graph adds a probe to the roots. Since d root / d probe = 1, the gradient of the probe is dL/d root.

The gradients that a visit forms are kept under its probe for as long as the probe's memory lives. They cannot be
outputs of the operator: an output must not share memory with an input, so backward would have to copy them.
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
    """A zero for each root for which an upstream gradient is expected; the visit is kept under it."""
    if not visit.expected:
        return torch.empty(0, dtype=torch.float64)
    memory = _Memory(8 * len(visit.expected))
    memory.visit = visit
    tensor = torch.frombuffer(memory, dtype=torch.float64)
    _MEMORY[tensor.data_ptr()] = memory
    return tensor


def kept(tensor: Tensor) -> Visit | None:
    """The visit kept under a probe; None for a copy of a probe."""
    memory = _MEMORY.get(tensor.data_ptr())
    return None if memory is None else memory.visit
