"""Tables whose scores come from linear heads: block of rows by block of rows, so that the scores are never whole.

| schedule | when | products |
|---|---|---|
| gradients with the block | every dL/d root is expected, and roots are plain sums over the axes that blocks cut | 3 |
| blocks made again | everything else: coupled rows, upstream gradients of each row, other gradients than expected | 4 |

A block gives its statistics; the seam turns those into one coefficient for each row and statistic, where it needs no other
row at once, and else when all are known; the coefficients give dL/d scores of the block, and the products of the head take it
to hidden states and weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from lossc.compiler.core import Input, walk
from lossc.compiler.emission import emit
from lossc.compiler.table import Stream, Table
from lossc.compiler.table.blocks import independent, mixed, needed
from lossc.runtime.backends.blocks import Block, cut, part
from lossc.runtime.backends.engines import Engine
from lossc.runtime.backends.environment import Environment, shaped
from lossc.runtime.backends.kernel_calls import in_double
from lossc.runtime.backends.once import once
from lossc.runtime.backends.projection import Projection, needed_rows
from lossc.runtime.backends.provider import Provider
from lossc.runtime.backends.reference import Executable
from lossc.runtime.backends.seam import Seam
from lossc.runtime.linear import Linear

CPU_BYTES = 112 << 20
DEVICE_BYTES = 512 << 20
"""For the scores of a block, of all heads together; their gradients take their place."""

SLICE_BYTES = 8 << 20
"""For the gradients of scores before they take their place."""

CPU_ROWS = 256
DEVICE_ROWS = 1024
"""The least rows of a block: products of fewer are slow."""

CLOSE = 2.0**-20
"""The largest relative difference between an upstream gradient that was expected and the one that came."""

Axes = tuple[str, ...]
Key = tuple[str, str]
"""A kind (`tensor`, `param`, or the name of a head) and a name."""


@dataclass(frozen=True)
class Schedule:
    """How rows are cut: the axes that are, and the rows of a block along them. `early`: gradients with the block."""

    axes: Axes
    rows: int
    early: bool


class Headed:
    """Runs one table, some of whose dense streams are made by heads. `axes` are those of every tensor and parameter."""

    def __init__(
        self, table: Table, seam: Seam, providers: Sequence[Provider], engine: Engine, axes: Mapping[Key, Axes]
    ) -> None:
        self.table = table
        self.seam = seam
        self.providers = tuple(providers)
        self.engine = engine
        self.axes = dict(axes)
        self.streams = {stream.name: stream for stream in table.streams if stream.differentiable}
        self.rows = tuple(dict.fromkeys(axis for s in table.streams for axis in sorted(s.leaf.axes) if axis != table.axis))
        self.values = {f"@{s.name}": s.rows for s in table.statistics}
        self.values |= {f"@{p.name}": p.axes for p in self.providers if table.axis not in p.axes}
        self.delivered_axes = {f"@{p.name}": p.axes for p in self.providers}
        self._whole = mixed(table)
        self._sums = {root.name: independent(root.value) for root in table.seam}
        self.moving = {root.name for root in table.seam if _moves(root.value)}
        mask = needed(table)
        self._needed = None if mask is None else Executable(emit({"needed": mask}))
        self.direct = {s.name: _key(s) for s in self.streams.values() if s.provider in ("tensor", "parameter")}
        self.delivered = [p.name for p in self.providers if table.axis not in p.axes]
        """Row values that providers deliver."""

    def wanted(self, keys: Iterable[Key], heads: Iterable[str]) -> Iterator[str]:
        """The streams whose gradient leads to an input."""
        moving = {key if key[0] not in heads else ("tensor", key[0]) for key in keys}
        for name, stream in self.streams.items():
            if stream.provider != "centred" and (name not in self.direct or self.direct[name] in moving):
                yield name

    def takes(self, heads: Iterable[str]) -> bool:
        """Whether the class axis of the table is that of all these heads."""
        return all(self.axes["tensor", name][-1] == self.table.axis for name in heads)

    def run(
        self, environment: Environment, heads: Mapping[str, Linear], weights: Mapping[str, float]
    ) -> dict[str, Tensor]:
        """The roots of the table; `weights` are the dL/d root that are expected."""
        inputs = dict(self._inputs(environment, heads)) if torch.is_grad_enabled() else {}
        plain = {name: x.detach() for name, x in environment.tensors.items()}
        known = Environment(
            plain, {name: x.detach() for name, x in environment.params.items()}, environment.sizes, environment.like
        )
        call = Passage(self, known, {name: head.detach() for name, head in heads.items()}, tuple(inputs),
                       dict(weights) if inputs else {})  # fmt: skip
        values = Rooted.apply(call, *inputs.values())  # type: ignore[no-untyped-call]
        return dict(zip(self.seam.procedure.outputs, values, strict=True))

    def _inputs(self, environment: Environment, heads: Mapping[str, Linear]) -> Iterator[tuple[Key, Tensor]]:
        """What a gradient may be asked for."""
        for name, head in heads.items():
            yield from (((name, key), x) for key, x in head.parts.items() if x.requires_grad)
        for kind, held in (("tensor", environment.tensors), ("param", environment.params)):
            yield from (((kind, name), x) for name, x in held.items() if x.requires_grad)

    # -------------------------------------------------------------------------------------- schedule

    def schedule(
        self, sizes: Mapping[str, int], heads: Mapping[str, Linear], keys: Iterable[Key], expected: Iterable[str]
    ) -> Schedule:
        """Blocks within the budget; gradients are formed with a block where every root that moves is expected."""
        free = self.free(heads)
        most = self._most_rows(sizes, heads, keys)
        expected = frozenset(expected)
        if expected and expected >= self.moving:
            apart = frozenset.intersection(frozenset(free), *(self._sums[name] for name in self.moving))
            axes = tuple(axis for axis in free if axis in apart)
            inner = self._inner(axes, sizes)
            if axes and (inner <= most or prod(sizes[a] for a in self.rows) <= most):
                return Schedule(axes, max(1, most // inner), early=True)
        return Schedule(free, max(1, most // self._inner(free, sizes)), early=False)

    def free(self, heads: Iterable[str]) -> Axes:
        """The row axes along which nothing is mixed, in the order of the dimensions of hidden states."""
        return tuple(axis for axis in self._order(heads) if axis not in self._whole)

    def _inner(self, axes: Axes, sizes: Mapping[str, int]) -> int:
        return max(1, prod(sizes[axis] for axis in self.rows if axis not in axes))

    def _order(self, heads: Iterable[str]) -> Axes:
        """The row axes, those of hidden states in the order of their dimensions."""
        named = [axis for name in heads for axis in self.axes["tensor", name][:-1]]
        return tuple(dict.fromkeys(axis for axis in (*named, *self.rows) if axis in self.rows))

    def _most_rows(self, sizes: Mapping[str, int], heads: Mapping[str, Linear], keys: Iterable[Key]) -> int:
        device = next(iter(heads.values())).device.type
        budget, least = (CPU_BYTES, CPU_ROWS) if device == "cpu" else (DEVICE_BYTES, DEVICE_ROWS)
        row, rows = _row_bytes(heads), prod(sizes[axis] for axis in self.rows)
        spared = sum(_widening(head) for name, head in heads.items() if (name, "weight") in keys)
        if rows * row <= budget + spared:
            return max(1, rows)
        return max(least, budget // max(1, row))

    # -------------------------------------------------------------------------------------- rows that count

    def needed(self, known: Environment, order: Axes) -> Tensor | None:
        """A mask of the rows that count, with the dimensions `order`; None where all do."""
        if self._needed is None or any(name not in known.tensors for name in self._needed.procedure.names("tensor")):
            return None
        found, axes = known.run(self._needed)["needed"]
        return shaped(found, axes, order, known.sizes) if set(axes) <= set(order) else None


def _row_bytes(heads: Mapping[str, Linear]) -> int:
    """Of the scores of one row."""
    return sum(head.dtype.itemsize * head.weight.shape[0] for head in heads.values())


def _widening(head: Linear) -> int:
    """Bytes by which what the gradient of the weight is added up in, where there are several blocks, is larger than it."""
    return head.weight.numel() * max(0, 4 - head.dtype.itemsize)


def _key(stream: Stream) -> Key:
    return ("param" if stream.provider == "parameter" else "tensor", stream.name)


def _moves(value: Any) -> bool:
    return any(isinstance(node, Input) and not node.detached and node.kind not in ("mask", "label") for node in walk(value))


class Passage:
    """One call: what is known, the heads, and gradients that were formed with the statistics."""

    def __init__(
        self, owner: Headed, known: Environment, heads: Mapping[str, Linear], keys: tuple[Key, ...],
        expected: dict[str, float],
    ) -> None:  # fmt: skip
        self.owner, self.known, self.heads, self.keys, self.expected = owner, known, heads, keys, expected
        self.early: dict[Key, Tensor] | None = None
        self.wanted = frozenset(owner.wanted(keys, heads))
        self._projections: dict[str, Projection] = {}

    def projection(self, name: str, *, fresh: bool = False) -> Projection:
        """The products of a head; `fresh` ones have added nothing yet."""
        if fresh or name not in self._projections:
            self._projections[name] = Projection(self.heads[name], self.known.like)
        return self._projections[name]

    def forward(self) -> dict[str, Tensor]:
        """The roots of the table."""
        owner, known = self.owner, self.known
        plan = owner.schedule(known.sizes, self.heads, self.keys, self.expected)
        blocks = list(self._blocks(plan))
        total = Total(self, whole=len(blocks) == 1) if plan.early else None
        found: dict[str, Tensor] = {}
        for block in blocks:
            visit = BlockVisit(self, block)
            values = visit.values()
            if total is not None:
                self._at_once(visit, total)
            for name, value in values.items():
                if name in owner.values:
                    axes = owner.values[name]
                    if name not in found:
                        found[name] = value.new_empty([known.sizes[axis] for axis in axes])
                    part(found[name], axes, block).copy_(value)
        self.known = known.having(found)
        self.early = None if total is None else total.finish()
        return {name: _in_type(root, known.like) for name, root in owner.seam.values(in_double(self.known)).items()}

    def backward(self, upstream: Mapping[str, Tensor]) -> dict[Key, Tensor]:
        """The gradient of each input, from dL/d root."""
        taken, self.early = self.early, None
        ratio = _ratio(self.expected, upstream) if taken is not None else None
        if taken is not None and ratio is not None:
            return taken if abs(ratio - 1.0) <= CLOSE else {key: value.mul_(ratio) for key, value in taken.items()}
        del taken
        owner = self.owner
        blocks = list(self._blocks(owner.schedule(self.known.sizes, self.heads, self.keys, ())))
        total = Total(self, whole=len(blocks) == 1)
        exact = {name: gradient.double() for name, gradient in upstream.items()}
        seam = owner.seam.gradients(
            in_double(self.known), exact, tensors=[*self._tensors, *(f"@{name}" for name in owner.delivered)], params=self._params
        )
        total.rows(seam.tensors, seam.params, {})
        for block in blocks:
            visit = BlockVisit(self, block)
            visit.values()
            values = {name: part(x, owner.values[f"@{name}"], block) for name, x in seam.statistics.items()}
            visit.spread(values, total)
        return total.finish()

    def _at_once(self, visit: BlockVisit, total: Total) -> None:
        """The gradients of a block from the dL/d root that are expected."""
        owner, like = self.owner, self.known.like.double()
        upstream = {name: like.new_tensor(weight) for name, weight in self.expected.items()}
        seam = owner.seam.gradients(
            in_double(visit.known), upstream, tensors=[*self._tensors, *(f"@{name}" for name in owner.delivered)], params=self._params
        )
        total.rows(seam.tensors, seam.params, visit.block)
        visit.spread(seam.statistics, total)

    def _blocks(self, plan: Schedule) -> Iterator[Block]:
        return cut(plan.axes, self.known.sizes, plan.rows)

    @property
    def _tensors(self) -> list[str]:
        return [name for kind, name in self.keys if kind == "tensor" and name not in self.owner.streams]

    @property
    def _params(self) -> list[str]:
        return [name for kind, name in self.keys if kind == "param" and name not in self.owner.streams]


def _ratio(expected: Mapping[str, float], upstream: Mapping[str, Tensor]) -> float | None:
    """What all upstream gradients are as a multiple of those that were expected; None where there is no such number."""
    ratio: float | None = None
    for name in expected.keys() | upstream.keys():
        wanted, came = expected.get(name, 0.0), upstream.get(name)
        if came is not None and came.numel() != 1:
            return None
        got = 0.0 if came is None else float(came)
        if wanted == 0.0:
            if got != 0.0:
                return None
            continue
        if ratio is None:
            ratio = got / wanted
        if not abs(got - ratio * wanted) <= CLOSE * abs(got):
            return None
    return ratio


class BlockVisit:
    """One block of rows during one call."""

    def __init__(self, call: Passage, block: Block) -> None:
        self.call, self.block = call, block
        self.scores: dict[str, Tensor] = {}
        self.rows: dict[str, Tensor | None] = {}
        self.axes = {name: axes for (kind, name), axes in call.owner.axes.items() if kind == "tensor"}
        known = replace(call.known, tensors={name: x for name, x in call.known.tensors.items() if name in self.axes})
        self.known = self._narrowed(known, block)
        for name in call.heads:
            self._multiply(name)

    def _narrowed(self, known: Environment, block: Block) -> Environment:
        """What is known of a block."""
        sizes = {**known.sizes, **{axis: length for axis, (_, length) in block.items()}}
        tensors = {name: part(x, self.axes[name], block) for name, x in known.tensors.items()}
        params = {name: part(x, self.call.owner.axes["param", name], block) for name, x in known.params.items()}
        return Environment(tensors, params, sizes, known.like)

    def _multiply(self, name: str) -> None:
        """The scores of one head."""
        order = self.axes[name]
        self.rows[name] = needed_rows(self.call.owner.needed(self.known, order[:-1]))
        scores = self.call.projection(name).scores(self.hidden(name), self.rows[name])
        self.scores[name] = scores.view([self.known.sizes[axis] for axis in order])
        self.known = self.known.having({name: self.scores[name]})

    def hidden(self, name: str) -> Tensor:
        """The hidden states of a head, flattened."""
        hidden = part(self.call.heads[name].hidden, self.axes[name][:-1], self.block)
        return hidden.reshape(-1, hidden.shape[-1])

    def values(self) -> dict[str, Tensor]:
        """Statistics and delivered values; they are known from then on."""
        owner = self.call.owner
        found: dict[str, Tensor] = {}
        for provider in owner.providers:
            found[f"@{provider.name}"] = provider.value(self.known)
            self.known = self.known.having(found)
        found |= owner.engine.statistics(self.known)
        self.known = self.known.having(found)
        self.axes |= {**owner.engine.axes, **owner.values, **owner.delivered_axes}
        return found

    def spread(self, weights: Mapping[str, Tensor], total: Total) -> None:
        """Adds the gradients of a block to the total, from dL/d statistic and dL/d delivered value.

        Slice by slice the gradients of scores take their place.
        """
        sizes = self.known.sizes
        order = tuple(axis for axis in self.call.owner.free(self.call.heads) if axis in self.block)
        inner = prod(sizes[axis] for axis in self.call.owner.rows if axis not in order)
        rows = max(1, SLICE_BYTES // (_row_bytes(self.call.heads) * max(1, inner)))
        for piece in cut(order, sizes, rows):
            given = {name: part(x, self.axes[f"@{name}"], piece) for name, x in weights.items()}
            self._spread(self._narrowed(self.known, piece), given, _inside(self.block, piece), piece, total)
        for name in self.call.heads:
            total.settle(name, self)

    def _spread(
        self, known: Environment, weights: Mapping[str, Tensor], block: Block, piece: Block, total: Total
    ) -> None:
        """The same for a piece of the block, which is `block` of all rows."""
        owner, call = self.call.owner, self.call
        slopes = owner.engine.gradients(known, weights, call.wanted)
        slopes |= {name: weights[name] for name in owner.delivered if name in weights}
        of_scores: dict[str, Tensor] = {}
        direct = ((owner.direct[name], slope) for name, slope in slopes.items() if name in owner.direct)
        for key, gradient in (*direct, *_through(owner.providers, known, slopes)):
            name = key[1]
            if key[0] == "tensor" and name in call.heads:
                of_scores[name] = gradient if name not in of_scores else of_scores[name] + gradient
            else:
                total.add(key, gradient, block)
        for name in call.heads:
            scores = part(self.scores[name], self.axes[name], piece)
            slope = of_scores.get(name)
            if slope is None:
                scores.zero_()
            else:
                scores.copy_(call.projection(name).uncapped(slope.to(scores.dtype), scores))


def _inside(outer: Block, inner: Block) -> Block:
    """A block of a block, as a block of the whole."""
    starts = {axis: start for axis, (start, _) in outer.items()}
    return {**outer, **{axis: (starts.get(axis, 0) + start, length) for axis, (start, length) in inner.items()}}


def _through(
    providers: Sequence[Provider], known: Environment, slopes: Mapping[str, Tensor]
) -> Iterator[tuple[Key, Tensor]]:
    """The gradient of what providers read, from that of what they deliver."""
    sums: dict[Key, Tensor] = {("tensor", f"@{name}"): value for name, value in slopes.items()}
    for provider in reversed(providers):
        gradient = sums.get(("tensor", f"@{provider.name}"))
        if gradient is not None:
            for read, value in provider.slopes(known, gradient):
                key = ("param" if read.param else "tensor", read.name)
                sums[key] = sums[key] + value if key in sums else value
    yield from ((key, value) for key, value in sums.items() if not key[1].startswith("@"))


class Total:
    """Gradients while blocks are added to them; `whole` where there is one block."""

    def __init__(self, call: Passage, *, whole: bool) -> None:
        self.call = call
        self.sums: dict[Key, Tensor] = {}
        self.parts: dict[str, dict[str, Tensor]] = {}
        for name in call.heads:
            wanted = frozenset(key for kind, key in call.keys if kind == name)
            self.parts[name] = call.projection(name, fresh=True).start(wanted, whole=whole)

    def add(self, key: Key, gradient: Tensor, block: Block) -> None:
        """Adds dL/d tensor over a block, if it is asked for."""
        if key in self.call.keys:
            part(self._sum(key), self.call.owner.axes[key], block).add_(gradient)

    def rows(self, tensors: Mapping[str, Tensor], params: Mapping[str, Tensor], block: Block) -> None:
        """Adds the gradients of what stands on rows."""
        for kind, held in (("tensor", tensors), ("param", params)):
            for name, gradient in held.items():
                self.add((kind, name), gradient, block)

    def _sum(self, key: Key) -> Tensor:
        if key not in self.sums:
            kind, name = key
            source = (self.call.known.tensors if kind == "tensor" else self.call.known.params)[name]
            self.sums[key] = torch.zeros(source.shape, dtype=self.call.known.like.dtype, device=source.device)
        return self.sums[key]

    def settle(self, name: str, visit: BlockVisit) -> None:
        """Takes dL/d scores of a block, which stand in their place, to the parts of a head."""
        hidden, parts = visit.hidden(name), self.parts[name]
        if not parts:
            return
        found = torch.zeros_like(hidden) if "hidden" in parts else None
        slope = visit.scores[name].view(hidden.shape[0], -1)
        self.call.projection(name).add(parts, hidden, slope, found, visit.rows[name])
        if found is not None:
            place = part(parts["hidden"], visit.axes[name][:-1], visit.block)
            place.copy_(found.view(place.shape))

    def finish(self) -> dict[Key, Tensor]:
        """The gradients by input."""
        found = dict(self.sums)
        for name, parts in self.parts.items():
            found |= {(name, key): value for key, value in self.call.projection(name).finish(parts).items()}
        return found


class Rooted(torch.autograd.Function):
    """The roots of a table as functions of the inputs of a call."""

    @staticmethod
    def forward(ctx: Any, call: Passage, *inputs: Tensor) -> tuple[Tensor, ...]:
        roots: dict[str, Tensor] = {}
        for name, value in call.forward().items():
            roots[name] = value.clone() if any(value is other for other in roots.values()) else value
        ctx.call, ctx.names = call, tuple(roots)
        ctx.save_for_backward(*inputs)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(value for name, value in roots.items() if name not in call.owner.moving))
        return tuple(roots.values())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        upstream = {name: g for name, g in zip(ctx.names, gradients, strict=True) if g is not None}
        inputs = ctx.saved_tensors
        with torch.no_grad():
            found = ctx.call.backward(upstream)
        return (None, *once((found.get(key) for key in ctx.call.keys), *upstream.values(), *inputs))


def _in_type(value: Tensor, like: Tensor) -> Tensor:
    return value.to(like.dtype) if value.is_floating_point() else value
