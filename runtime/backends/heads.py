"""Tables whose scores come from linear heads: block of rows by block of rows, so that the scores never exist as a whole.

| schedule | when | matrix products |
|---|---|---|
| gradients with each block | upstream gradients are expected, at roots that are plain sums over the axes that blocks cut | 3 |
| blocks computed again in backward | otherwise: coupled rows, a gradient for each row, or one that was not expected | 4 |

`passage` has what happens to each block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from lossc.compiler.core import differentiable
from lossc.compiler.emission import emit
from lossc.compiler.plan.budget import HEAD_BYTES, HEAD_ROWS, rows_within
from lossc.compiler.table import Stream, Table
from lossc.compiler.table.blocks import anchored, components, independent, is_smooth, mixed, needed
from lossc.runtime.backends.engines import Engine, Kernels
from lossc.runtime.backends.environment import Environment
from lossc.runtime.backends.passage import Axes, Key, Passage, Rooted, row_bytes
from lossc.runtime.backends.provider import Provider
from lossc.runtime.backends.reference import Executable
from lossc.runtime.backends.seam import Seam
from lossc.runtime.backends.sharded import Sharded
from lossc.runtime.linear import Linear
from lossc.runtime.messages import fail

CPU_BYTES, DEVICE_BYTES = HEAD_BYTES["cpu"], HEAD_BYTES["other devices"]
CPU_ROWS, DEVICE_ROWS = HEAD_ROWS["cpu"], HEAD_ROWS["other devices"]


@dataclass(frozen=True)
class Schedule:
    """How rows are cut: along `axes`, `rows` at a time. With `early`, gradients are formed along with each block."""

    axes: Axes
    rows: int
    early: bool


class Component:
    """Streams and statistics whose row axes are connected; `axes` has those of every tensor and parameter."""

    def __init__(
        self, table: Table, seam: Seam, providers: Sequence[Provider], engine: Engine, axes: Mapping[Key, Axes]
    ) -> None:
        self.table = table
        self._seam = seam
        self._sharded: dict[object, Sharded] = {}
        self.engine = engine
        self.axes = axes
        named = {stream.name for stream in table.streams} | {entry.name for entry in table.computed}
        self.providers = tuple(provider for provider in providers if provider.name in named)
        read = [axes.get(("tensor", read.name), ()) for provider in self.providers for read in provider.reads]
        orders = (*(sorted(stream.leaf.axes) for stream in table.streams), *read)
        self.rows = tuple(dict.fromkeys(axis for order in orders for axis in order if axis != table.axis))
        self.delivered = tuple(p.name for p in self.providers if table.axis not in p.axes)
        """Row values that providers deliver."""
        self.values = {f"@{s.name}": s.rows for s in table.statistics}
        self.values |= {f"@{p.name}": p.axes for p in self.providers if p.name in self.delivered}
        self.streams = {stream.name: stream for stream in table.streams if stream.differentiable}
        self.direct = {s.name: _key(s) for s in self.streams.values() if s.provider in ("tensor", "parameter")}
        self._read = {s.name for s in table.streams if s.provider == "tensor"}
        self._read |= {read.name for provider in self.providers for read in provider.reads}
        self._whole = mixed(table)

    @property
    def is_moved(self) -> bool:
        """Whether gradient may reach it. What gradient never reaches is computed before any gradient is formed."""
        return bool(self.streams or self.delivered)

    @cached_property
    def is_plain(self) -> bool:
        """Whether gradients of a part of the classes can be formed from the statistics, with products in another order."""
        return not self.providers and is_smooth(self.table)

    def heads(self, heads: Mapping[str, Linear]) -> dict[str, Linear]:
        """The heads that make its streams."""
        return {name: head for name, head in heads.items() if name in self._read}

    def of_parts(self) -> Sharded:
        """The engine that forms gradients over a part of the classes, from the statistics of all."""
        if None not in self._sharded:
            compiled = self.engine.compiled if isinstance(self.engine, Kernels) else None
            self._sharded[None] = Sharded(self.table, self._seam, None, compiled)
        return self._sharded[None]

    def engine_for(self, heads: Mapping[str, Linear]) -> Engine:
        """The engine that computes a block: over all classes, or over one rank's shard."""
        parts = [head.shard for head in heads.values() if head.shard is not None]
        if not parts:
            return self.engine
        part = parts[0]
        key = (part.group, part.offset, part.classes)
        if key not in self._sharded:
            compiled = self.engine.compiled if isinstance(self.engine, Kernels) else None
            self._sharded[key] = Sharded(self.table, self._seam, part, compiled)
        return self._sharded[key]

    def wanted(self, keys: Iterable[Key], heads: Iterable[str]) -> Iterator[str]:
        """The streams whose gradient leads to an input."""
        moving = {key if key[0] not in heads else ("tensor", key[0]) for key in keys}
        for name, stream in self.streams.items():
            if stream.provider != "centred" and (name not in self.direct or self.direct[name] in moving):
                yield name

    def free(self, heads: Iterable[str]) -> Axes:
        """The row axes along which no row depends on another, in the order of the dimensions of the hidden states."""
        named = [axis for name in heads for axis in self.axes["tensor", name][:-1]]
        order = dict.fromkeys(axis for axis in (*named, *self.rows) if axis in self.rows)
        return tuple(axis for axis in order if axis not in self._whole)

    def inner(self, axes: Axes, sizes: Mapping[str, int]) -> int:
        """The rows of the smallest block, one entry along each of these axes."""
        return max(1, prod(sizes[axis] for axis in self.rows if axis not in axes))


class Headed:
    """Runs one table, some of whose dense streams are made by heads."""

    def __init__(
        self, whole: Table, seam: Callable[[Table], Seam], providers: Callable[[Table], Iterable[Provider]],
        engine: Callable[[Table], Engine], axes: Mapping[Key, Axes],
    ) -> None:  # fmt: skip
        """`axes` are those of every tensor and parameter that is bound."""
        table, self._places = anchored(whole)
        self.table = table
        self.seam = seam(table)
        places = {name: (axis,) if name.startswith("@index") else () for name, axis in self._places.items()}
        self.axes: dict[Key, Axes] = {**axes, **{("tensor", name): order for name, order in places.items()}}
        made = tuple(providers(table))
        self.components = tuple(Component(each, self.seam, made, engine(each), self.axes) for each in components(table))
        self.moving = frozenset(root.name for root in table.seam if differentiable(root.value))
        self._sums = {root.name: independent(root.value) for root in table.seam}
        self._moved = [component for component in self.components if component.is_moved]
        self._forms_early = True
        mask = needed(table)
        self._needed = None if mask is None else Executable(emit({"needed": mask}))

    def takes(self, heads: Iterable[str]) -> bool:
        """Whether all these heads have the class axis of the table."""
        return all(self.axes["tensor", name][-1] == self.table.axis for name in heads)

    def run(
        self, environment: Environment, heads: Mapping[str, Linear], weights: Mapping[str, float]
    ) -> dict[str, Tensor]:
        """The roots of the table; `weights` are the upstream gradients expected at them."""
        call, inputs = self.passage(environment, heads, weights)
        return self.named(Rooted.apply(call, tuple(inputs), *inputs.values()))  # type: ignore[no-untyped-call]

    def passage(
        self, environment: Environment, heads: Mapping[str, Linear], weights: Mapping[str, float]
    ) -> tuple[Passage, dict[Key, Tensor]]:
        """A call that has not started yet, and the inputs that may be asked for a gradient."""
        if 0 < sum(head.shard is not None for head in heads.values()) < len(heads):
            raise fail("E723", "one head is split over ranks and another is whole", help="split both over the same ranks")
        inputs = dict(_inputs(environment, heads)) if torch.is_grad_enabled() else {}
        plain = {name: x.detach() for name, x in environment.tensors.items()}
        params = {name: x.detach() for name, x in environment.params.items()}
        known = replace(environment, tensors={**plain, **self._anchors(environment)}, params=params)
        expected = dict(weights) if inputs and self._forms_early else {}
        return Passage(self, known, {name: head.detach() for name, head in heads.items()}, tuple(inputs), expected), inputs

    def named(self, values: Iterable[Tensor]) -> dict[str, Tensor]:
        """The roots by name, from their values in order."""
        return dict(zip(self.seam.procedure.outputs, values, strict=True))

    def _anchors(self, environment: Environment) -> dict[str, Tensor]:
        """Row positions and extents, as tensors."""
        sizes, like = environment.sizes, environment.like
        return {
            name: torch.arange(sizes[axis], device=like.device)
            if name.startswith("@index")
            else like.new_tensor(float(sizes[axis]))
            for name, axis in self._places.items()
        }

    @property
    def forms_early(self) -> bool:
        """Whether every upstream gradient so far was the expected one."""
        return self._forms_early

    def stop_forming_early(self) -> None:
        """Stops forming gradients early, after an upstream gradient that was not the expected one."""
        self._forms_early = False

    # -------------------------------------------------------------------------------------- schedule

    def schedule(
        self, component: Component, sizes: Mapping[str, int], heads: Mapping[str, Linear], keys: Iterable[Key],
        expected: Iterable[str],
    ) -> Schedule:  # fmt: skip
        """Blocks within the memory budget; with gradients where a block alone has all that these need."""
        if not heads:
            return Schedule((), 1, early=False)
        free = component.free(heads)
        most = _most_rows(component, sizes, heads, keys)
        weighed = self.moving & frozenset(expected)
        if weighed and self._moved == [component]:
            apart = frozenset.intersection(frozenset(free), *(self._sums[name] for name in weighed))
            axes = tuple(axis for axis in free if axis in apart)
            inner = component.inner(axes, sizes)
            if inner <= most:
                return Schedule(axes, max(1, most // inner), early=True)
        return Schedule(free, max(1, most // component.inner(free, sizes)), early=False)

    # -------------------------------------------------------------------------------------- rows that count

    def needed(self, known: Environment) -> tuple[Tensor, Axes] | None:
        """A mask of the rows that count, with its axes; None where all of them may."""
        if self._needed is None or any(name not in known.tensors for name in self._needed.procedure.names("tensor")):
            return None
        return known.run(self._needed)["needed"]


def _most_rows(component: Component, sizes: Mapping[str, int], heads: Mapping[str, Linear], keys: Iterable[Key]) -> int:
    device = next(iter(heads.values())).device.type
    budget, unit = (CPU_BYTES, CPU_ROWS) if device == "cpu" else (DEVICE_BYTES, DEVICE_ROWS)
    row, rows = row_bytes(heads), prod(sizes[axis] for axis in component.rows)
    spared = sum(_widening(head) for name, head in heads.items() if (name, "weight") in keys)
    if rows * row <= budget + spared:
        return max(1, rows)
    return rows_within(budget, row, unit)


def _widening(head: Linear) -> int:
    """By how many bytes the accumulator for the gradient of the weight exceeds that gradient, given several blocks."""
    return head.weight.numel() * max(0, 4 - head.dtype.itemsize)


def _inputs(environment: Environment, heads: Mapping[str, Linear]) -> Iterator[tuple[Key, Tensor]]:
    """The inputs that may be asked for a gradient."""
    for name, head in heads.items():
        yield from (((name, key), x) for key, x in head.parts.items() if x.requires_grad)
    for kind, held in (("tensor", environment.tensors), ("param", environment.params)):
        yield from (((kind, name), x) for name, x in held.items() if x.requires_grad)


def _key(stream: Stream) -> Key:
    return ("param" if stream.provider == "parameter" else "tensor", stream.name)
