"""Functions whose slopes may be infinite below a choice such as a minimum: what is not taken has gradient 0."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def attached(value: Tensor, *pairs: Tensor) -> Tensor:
    """The value, a function of x1, x2, …, with slopes s1, s2, … by them, given as x1, s1, x2, s2, …

    A gradient g passes to x as g * s, and to where s is infinite as 0 if g is 0.
    """
    sources = [x if x.shape == value.shape else x.expand(value.shape) for x in pairs[::2]]
    single = torch.compiler.is_compiling() or not torch._C._are_functorch_transforms_active()
    found: Tensor = (Attached if single else Transformed).apply(value.detach(), *sources, *pairs[1::2])  # type: ignore[no-untyped-call]
    return found


class Attached(torch.autograd.Function):
    """A value with its slopes, which may be differentiated again."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *parts: Tensor) -> Tensor:
        ctx.save_for_backward(*parts[len(parts) // 2 :])
        ctx.set_materialize_grads(False)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, ...]:
        if gradient is None:
            return (None,) * (1 + 2 * len(ctx.saved_tensors))
        still = gradient == 0
        found = [gradient * torch.where(still & ~torch.isfinite(slope), 0.0, slope) for slope in ctx.saved_tensors]
        return (None, *found, *(None for _ in found))


class Transformed(torch.autograd.Function):
    """The same in the form that the transforms of `torch.func` take, in which a call costs three times as much."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, *parts: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        parts = inputs[1:]
        ctx.save_for_backward(*parts[len(parts) // 2 :])
        ctx.set_materialize_grads(False)

    backward = staticmethod(Attached.backward)
