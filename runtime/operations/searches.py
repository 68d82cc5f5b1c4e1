"""Searches: points of a ball at which a function is large, and roots. `body` is the function of the point and of `given`.

No gradient passes through a search, and it takes its own gradients wherever it is called, in evaluation too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Body = Callable[..., Tensor]


@torch.compiler.disable  # type: ignore[untyped-decorator]
def worst(
    start: Tensor, radius: Tensor, step: Tensor | None, *given: Any, body: Body, steps: int, norm: str, dims: tuple[int, ...]
) -> Tensor:
    """The last of `steps` points of projected gradient ascent on sum(body) in the ball of this radius around 0.

    Each step has the length `step` (2.5 radius / steps where it is None) in the norm of the ball, which runs over `dims`:
    signs for `inf`, the normalised gradient for `2`, the entry of the largest slope for `1`.
    """
    with torch.inference_mode(False):
        point, radius = constants((start, radius))
        length = 2.5 * radius / steps if step is None else constants((step,))[0]
        fixed = constants(given)
        point = projected(point, radius, norm, dims)
        for _ in range(steps):
            ascent = direction(slope(body, point, fixed), norm, dims)
            point = projected(point + length * ascent, radius, norm, dims)
        return point


@torch.compiler.disable  # type: ignore[untyped-decorator]
def root(low: Tensor, high: Tensor, *given: Any, body: Body) -> Tensor:
    """The x in [low, high] with body(x) = 0, entry by entry, by bisection down to neighbouring numbers.

    NaN where body has the same sign at both ends, or is no number there.
    """
    with torch.inference_mode(False), torch.no_grad():
        low, high = constants((low, high))
        fixed = constants(given)
        first, last = body(low, *fixed), body(high, *fixed)
        bracketed = ((first <= 0) & (last >= 0)) | ((first >= 0) & (last <= 0))
        rising = first < last
        middle = low
        for _ in range(200):
            middle = low + (high - low) / 2
            if bool(((middle == low) | (middle == high) | ~bracketed).all()):
                break
            before = (body(middle, *fixed) < 0) == rising
            low, high = torch.where(before, middle, low), torch.where(before, high, middle)
        return torch.where(bracketed, middle, torch.nan)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def root_slope(x: Tensor, *given: Any, body: Body) -> Tensor:
    """d body / d x at a root, entry by entry."""
    with torch.inference_mode(False):
        (x,) = constants((x,))
        return slope(body, x, constants(given))


def implicit(x: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    """The root x with the gradient of the equation value = 0: dx = -d value / slope; 0 where the slope is."""
    found: Tensor = Implicit.apply(x, value, slope)  # type: ignore[no-untyped-call]
    return found


class Implicit(torch.autograd.Function):
    """A root with its first derivative, by which nothing is differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(value, slope)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None]:
        value, slope = ctx.saved_tensors
        steep = (slope != 0) & torch.isfinite(slope)
        found = torch.where(steep, -gradient / torch.where(steep, slope, 1.0), 0.0)
        return None, FirstOnly.apply(found, value), None  # type: ignore[no-untyped-call]


class FirstOnly(torch.autograd.Function):
    """A derivative that is itself no constant, but has no derivative: asking for it is an error, not a wrong number."""

    @staticmethod
    def forward(ctx: Any, derivative: Tensor, of: Tensor) -> Tensor:
        return derivative.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise RuntimeError("the second derivative of a `root` is not known: only its first derivative is")


def found_or(x: Tensor, other: Tensor) -> Tensor:
    """The root, and where there is none another number, so that what is computed there has slopes."""
    return torch.where(torch.isnan(x), other.detach(), x)


# ------------------------------------------------------------------------------------------------ parts of them


def constants(values: tuple[Any, ...]) -> list[Any]:
    """Tensors without their graph, fit for one of their own; anything else as it is."""
    plain = [value.detach() if isinstance(value, Tensor) else value for value in values]
    return [value.clone() if isinstance(value, Tensor) and value.is_inference() else value for value in plain]


def slope(body: Body, point: Tensor, given: list[Any]) -> Tensor:
    """d sum(body) / d point, a constant."""
    with torch.enable_grad():
        point = point.detach().requires_grad_()
        value = body(point, *given)
        if not value.requires_grad:
            return torch.zeros_like(point)
        (found,) = torch.autograd.grad(value.sum(), point, allow_unused=True)
    return torch.zeros_like(point) if found is None else found.detach()


def direction(gradient: Tensor, norm: str, dims: tuple[int, ...]) -> Tensor:
    """The point of the unit ball at which the product with the gradient is largest."""
    if norm == "inf":
        return gradient.sign()
    if norm == "2":
        length = (gradient**2).sum(dim=dims, keepdim=True).sqrt() if dims else gradient.abs()
        return gradient / torch.where(length > 0, length, 1.0)
    size = gradient.abs()
    top = size.amax(dim=dims, keepdim=True) if dims else size
    first = (size == top) & (top > 0)
    number = first.sum(dim=dims, keepdim=True) if dims else first
    return torch.where(first, gradient.sign() / torch.where(number > 0, number, 1), 0.0)


def projected(point: Tensor, radius: Tensor, norm: str, dims: tuple[int, ...]) -> Tensor:
    """The nearest point of the ball of this radius around 0."""
    if norm == "inf" or not dims:
        return torch.maximum(torch.minimum(point, radius), -radius)
    if norm == "2":
        length = (point**2).sum(dim=dims, keepdim=True).sqrt()
        return point * torch.where(length > radius, radius / torch.where(length > 0, length, 1.0), 1.0)
    return torch.where(point.abs().sum(dim=dims, keepdim=True) > radius, shrunk(point, radius, dims), point)


def shrunk(point: Tensor, radius: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The nearest point with the sum of absolute values `radius`: each entry nearer to 0 by the same amount."""
    kept = [dim for dim in range(point.dim()) if dim not in dims]
    size = point.abs().permute(*kept, *dims).flatten(len(kept))
    limit = radius.expand(point.shape).permute(*kept, *dims).flatten(len(kept))[..., :1]
    ordered = size.sort(dim=-1, descending=True).values
    count = torch.arange(1, size.shape[-1] + 1, device=point.device)
    excess = (ordered.cumsum(dim=-1) - limit) / count
    number = (ordered > excess).sum(dim=-1, keepdim=True).clamp(min=1)
    amount = excess.gather(-1, number - 1).reshape([*(point.shape[dim] for dim in kept), *[1] * len(dims)])
    amount = amount.permute(*[(*kept, *dims).index(dim) for dim in range(point.dim())])
    return point.sign() * (point.abs() - amount).clamp(min=0)
