"""Gradients inside a program, and calls of what the caller passes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def tracked(x: Tensor) -> Tensor:
    """The tensor as a variable to differentiate by; one that is part of a graph stays part of it."""
    return x if x.requires_grad else x.detach().requires_grad_()


def gradient(u: Tensor, x: Tensor) -> Tensor:
    """d (sum u) / d x, itself differentiable; 0 where u does not depend on x."""
    if not u.requires_grad:
        return torch.zeros_like(x)
    (found,) = torch.autograd.grad(u.sum(), x, create_graph=True, allow_unused=True)
    return torch.zeros_like(x) if found is None else found


def called(function: Callable[..., Tensor], like: Tensor, *arguments: Tensor) -> Tensor:
    """What a function of the caller gives, in the type of the computation."""
    return function(*arguments).to(like.dtype)


def without_weights(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function whose weights have no gradient, while its arguments do.

    What is no module holds weights that nobody knows of, so all that it gives is a constant.
    """
    if not isinstance(function, torch.nn.Module):
        return lambda *arguments: function(*arguments).detach()
    weights = {name: weight.detach() for name, weight in function.named_parameters()}
    return lambda *arguments: torch.func.functional_call(function, weights, arguments)


def held(function: Callable[..., Tensor], like: Tensor, *arguments: Tensor) -> Tensor:
    """The same of a function that is held fixed; one that is wrapped knows itself how."""
    module = isinstance(function, torch.nn.Module)
    fixed = without_weights(function) if module else getattr(function, "held", None) or without_weights(function)
    return fixed(*arguments).to(like.dtype)


def folded(x: Tensor, number: int) -> Tensor:
    """The first dimension with the `number` behind it as one."""
    return x.flatten(0, number)


def unfolded(x: Tensor, *sizes: int) -> Tensor:
    """The first dimension as several of these extents."""
    return x.reshape(*sizes, *x.shape[1:])
