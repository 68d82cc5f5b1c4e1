"""Streams and row values that a torch operation delivers, such as sorted or summed-up logits.

Nothing of the operation is kept for the backward pass, which runs it again; and where no gradient reaches a row none leaves
it, even if the row is garbage under a mask, on which the operation has no finite slope.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor

from lossc.compiler.core import Node, Rename, walk
from lossc.compiler.emission import emit
from lossc.compiler.table.extract import across
from lossc.grammar.source import Span
from lossc.runtime.backends.environment import Environment, shaped
from lossc.runtime.backends.once import once
from lossc.runtime.backends.reference import Executable

Axes = tuple[str, ...]


@dataclass(frozen=True)
class Read:
    """A tensor or parameter that an operation reads, with its axes; along `apart` the operation mixes no entries.

    Each of `views` names the axes of the value along which those of `apart` lie: `x[b]` is read along `b`, along `j`, or
    both where the value is of all pairs of `x` and `x[b -> j]`.
    """

    param: bool
    name: str
    axes: Axes
    apart: Axes
    views: tuple[Axes, ...]

    def of(self, environment: Environment) -> Tensor:
        return (environment.params if self.param else environment.tensors)[self.name]


@dataclass(frozen=True)
class Names:
    """Along which axes an operation mixes entries, and which axes are another under a new name."""

    mixed: frozenset[str]
    renamed: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, node: Node) -> Names:
        parts = list(walk(node))
        renames = frozenset((part.old, part.new) for part in parts if isinstance(part, Rename))
        return cls(frozenset().union(*(across(part) for part in parts if not isinstance(part, Rename))), renames)

    def read(self, param: bool, name: str, axes: Axes, of: Axes) -> Read:
        """What is read, where the value has the axes `of`."""
        places = {axis: self._places(axis, of) for axis in axes}
        apart = tuple(axis for axis in axes if places[axis])
        views = tuple(view for view in product(*(places[axis] for axis in apart)) if len(set(view)) == len(view))
        return Read(param, name, axes, apart, views) if views else Read(param, name, axes, (), ((),))

    def _places(self, axis: str, of: Axes) -> Axes:
        """The axes of the value along which an axis lies, none where entries along one of its names are mixed."""
        names = {axis}
        while more := {new for old, new in self.renamed if old in names} - names:
            names |= more
        return () if names & self.mixed else tuple(sorted(names & set(of)))


class Provider:
    """One stream or row value; its axes are in alphabetical order."""

    def __init__(self, name: str, node: Node, axes: Axes, spans: dict[Node, Span]) -> None:
        self.name = name
        self.axes = axes
        self.executable = Executable(emit({name: node}, spans=spans))
        names = Names.of(node)
        self.reads = tuple(
            names.read(entry.kind == "param", entry.name, entry.axes, axes)
            for entry in self.executable.bound
            if entry.kind in ("tensor", "param")
        )

    def run(self, environment: Environment) -> Tensor:
        """Its value."""
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return self.value(environment)
        values = [read.of(environment) for read in self.reads]
        provided: Tensor = Provided.apply(self, environment.sizes, environment.like, *values)  # type: ignore[no-untyped-call]
        return provided

    def value(self, environment: Environment) -> Tensor:
        """Its value, by the operation itself."""
        value, have = environment.run(self.executable)[self.name]
        return shaped(value, have, self.axes, environment.sizes)

    def of(self, values: Sequence[Tensor], sizes: dict[str, int], like: Tensor) -> Tensor:
        """Its value from what it reads."""
        tensors = {read.name: value for read, value in zip(self.reads, values, strict=True) if not read.param}
        params = {read.name: value for read, value in zip(self.reads, values, strict=True) if read.param}
        return self.value(Environment(tensors, params, sizes, like))

    def slopes(self, environment: Environment, upstream: Tensor) -> Iterator[tuple[Read, Tensor]]:
        """The gradient of each tensor and parameter that it reads, from that of its value."""
        values = self.sheltered([read.of(environment) for read in self.reads], upstream)
        with torch.enable_grad():
            held = [value.detach().requires_grad_(value.is_floating_point()) for value in values]
            provided = self.of(held, dict(environment.sizes), environment.like)
        wanted = [(read, value) for read, value in zip(self.reads, held, strict=True) if value.requires_grad]
        if not wanted:
            return
        found = torch.autograd.grad(provided, [value for _, value in wanted], upstream.to(provided.dtype), allow_unused=True)
        for (read, _), gradient in zip(wanted, found, strict=True):
            if gradient is not None:
                yield read, self.hidden(gradient, read, upstream)

    def hidden(self, gradient: Tensor, read: Read, upstream: Tensor) -> Tensor:
        """The gradient, 0 along `apart` wherever the upstream gradient is 0."""
        return torch.where(self.reached(gradient, read, upstream), gradient, 0.0) if read.apart else gradient

    def reached(self, value: Tensor, read: Read, upstream: Tensor) -> Tensor:
        """Where along `apart` a gradient arrives, in the shape of what is read."""
        return reduce(torch.logical_or, (self._seen(value, read, view, upstream) for view in read.views))

    def _seen(self, value: Tensor, read: Read, view: Axes, upstream: Tensor) -> Tensor:
        """Where it arrives along one view."""
        reached = upstream != 0
        for dim in reversed([at for at, axis in enumerate(self.axes) if axis not in view]):
            reached = reached.any(dim)
        order = tuple(read.apart[view.index(axis)] for axis in self.axes if axis in view)
        return shaped(reached, order, read.axes, dict(zip(read.axes, value.shape, strict=True)))

    def sheltered(self, values: Sequence[Tensor], upstream: Tensor) -> list[Tensor]:
        """What is read, with a reached entry in place of those that no gradient reaches where these meet all of another
        tensor: garbage of one row would make the gradient of every prototype NaN, 0 times NaN."""
        rows = {axis for read in self.reads for axis in read.apart}
        alone = all(len(read.views) == 1 for read in self.reads)
        floating = [read for read, value in zip(self.reads, values, strict=True) if _floating(value)]
        if alone and all(rows <= frozenset(read.axes) for read in floating):
            return list(values)
        pairs = zip(self.reads, values, strict=True)
        return [self.stand_in(v, read, upstream) if read.apart and _floating(v) else v for read, v in pairs]

    def stand_in(self, value: Tensor, read: Read, upstream: Tensor) -> Tensor:
        """`value`, with that of the first reached entry along `apart` wherever no gradient arrives."""
        apart = [dim for dim, axis in enumerate(read.axes) if axis in read.apart]
        front = list(range(len(apart)))
        reached = self.reached(value, read, upstream)
        if not value.numel():
            return value
        count = prod(value.shape[dim] for dim in apart)
        places = reached.movedim(apart, front).reshape(count, -1).any(1)
        found = value.movedim(apart, front).flatten(0, len(apart) - 1)[places.to(torch.uint8).argmax()]
        for dim in apart:
            found = found.unsqueeze(dim)
        return torch.where(reached, value, found)


def _floating(value: Tensor) -> bool:
    return value.is_floating_point()


def slopes(provided: Tensor, wanted: Sequence[Tensor], upstream: Tensor) -> tuple[Tensor | None, ...]:
    """The gradient to each of `wanted`: none where what is provided only orders or compares them."""
    if not provided.requires_grad:
        return (None,) * len(wanted)
    return torch.autograd.grad(provided, wanted, upstream, allow_unused=True, create_graph=False)


class Provided(torch.autograd.Function):
    """The value of a provider, which its backward pass works out anew."""

    @staticmethod
    def forward(ctx: Any, provider: Provider, sizes: dict[str, int], like: Tensor, *values: Tensor) -> Tensor:
        ctx.provider, ctx.sizes = provider, sizes
        ctx.save_for_backward(like, *values)
        return provider.of(values, sizes, like).contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (upstream,) = gradients
        like, *values = ctx.saved_tensors
        needed = ctx.needs_input_grad[3:]
        safe = ctx.provider.sheltered(values, upstream)
        with torch.enable_grad():
            held = [value.detach().requires_grad_(need) for value, need in zip(safe, needed, strict=True)]
            provided = ctx.provider.of(held, ctx.sizes, like)
        wanted = [value for value, need in zip(held, needed, strict=True) if need]
        found = iter(slopes(provided, wanted, upstream))
        results: list[Tensor | None] = []
        for read, need in zip(ctx.provider.reads, needed, strict=True):
            gradient = next(found) if need else None
            results.append(None if gradient is None else ctx.provider.hidden(gradient, read, upstream))
        return (None, None, None, *once(results, *gradients, *values))
