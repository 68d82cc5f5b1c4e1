"""Gradients in closed form are differentiable only once; second derivatives are refused with E720."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from lossc.grammar.diagnostics import LosscError
from lossc.runtime.messages import fail


def refusal() -> LosscError:
    """The error for a derivative of a derivative, and for calls under a transform of `torch.func`."""
    return fail(
        "E720", "this backend gives first derivatives only, and not under `torch.func` or in forward mode",
        help='for second derivatives and `torch.func` load the objective with `backend="reference"`',
    )  # fmt: skip


def transforming() -> bool:
    """Whether a transform of `torch.func`, or differentiation in forward mode, is active."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def refuse_transforms() -> None:
    """Raises E720 under a transform of `torch.func`."""
    if transforming():
        raise refusal()


def once(gradients: Iterable[Tensor | None], *sources: Tensor | None) -> list[Tensor | None]:
    """The gradients, attached to the sources so that differentiating them again raises E720."""
    if not torch.is_grad_enabled():
        return list(gradients)
    moving = [source for source in sources if source is not None and source.is_floating_point()]
    return [None if gradient is None else OnlyOnce.apply(gradient, *moving) for gradient in gradients]  # type: ignore[no-untyped-call]


def apart(values: Iterable[Tensor]) -> Iterator[Tensor]:
    """The values as distinct tensors; equal roots are computed once and would be one tensor."""
    there: set[int] = set()
    for value in values:
        yield value.clone() if id(value) in there else value
        there.add(id(value))


class OnlyOnce(torch.autograd.Function):
    """A gradient that cannot be differentiated again."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *sources: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[None, ...]:
        raise refusal()
