"""Functions whose slopes may be infinite below a choice such as a minimum: what is not taken has gradient 0."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def attached(value: Tensor, *pairs: Tensor) -> Tensor:
    """The value, a function of x1, x2, …, with slopes s1, s2, … by them, given as x1, s1, x2, s2, …

    A gradient g passes to x as g * s, and to where s is infinite as 0 if g is 0.
    """
    value, *parts = torch.broadcast_tensors(value, *pairs)  # type: ignore[no-untyped-call]
    found: Tensor = Attached.apply(value, *parts)  # type: ignore[no-untyped-call]
    return found


class Attached(torch.autograd.Function):
    """A value with its slopes, which may be differentiated again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, *pairs: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[2::2])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, ...]:
        if gradient is None:
            return (None,) * (1 + 2 * len(ctx.saved_tensors))
        found: list[Tensor | None] = [None]
        for slope in ctx.saved_tensors:
            unseen = (gradient == 0) & ~torch.isfinite(slope)
            found += [gradient * torch.where(unseen, 0.0, slope), None]
        return tuple(found)
