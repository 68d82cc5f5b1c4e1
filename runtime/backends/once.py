"""Gradients in closed form can be taken once; second derivatives are refused by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from lossc.grammar.diagnostics import LosscError
from lossc.runtime.messages import fail


def refusal() -> LosscError:
    """What is raised for a derivative of a derivative, and under the transforms of `torch.func`."""
    return fail(
        "E720", "this backend gives first derivatives only, and not under `torch.func`",
        help='for second derivatives and `torch.func` load the objective with `backend="reference"`',
    )  # fmt: skip


def transforming() -> bool:
    """Whether a transform of `torch.func` is at work."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def refuse_transforms() -> None:
    """E720 under a transform of `torch.func`."""
    if transforming():
        raise refusal()


def once(gradients: Iterable[Tensor | None], *sources: Tensor | None) -> list[Tensor | None]:
    """The gradients, which depend on the sources and raise where they are differentiated again."""
    if not torch.is_grad_enabled():
        return list(gradients)
    moving = [source for source in sources if source is not None and source.is_floating_point()]
    return [None if gradient is None else OnlyOnce.apply(gradient, *moving) for gradient in gradients]  # type: ignore[no-untyped-call]


def apart(values: Iterable[Tensor]) -> Iterator[Tensor]:
    """The values as different tensors: equal roots are worked out once."""
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
