"""What `torch.compile` is told of functions, without its tracer, whose import takes longer than that of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

F = TypeVar("F", bound=Callable[..., object])
P = ParamSpec("P")
T = TypeVar("T")


def constant_in_traces(function: F) -> F:
    """What the function gives while a graph is traced is a constant of that: `torch.compiler.assume_constant_result`."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def outside_traces(function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """What the function gives for these arguments; the graph of a trace breaks at it: `torch.compiler.disable`."""
    if torch.compiler.is_compiling():
        found: T = torch.compiler.disable(function)(*arguments, **options)  # type: ignore[no-untyped-call]
        return found
    return function(*arguments, **options)
