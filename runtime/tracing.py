"""What `torch.compile` is told of functions, without its tracer, whose import takes longer than that of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])


def constant_in_traces(function: F) -> F:
    """What the function gives while a graph is traced is a constant of that: `torch.compiler.assume_constant_result`."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
