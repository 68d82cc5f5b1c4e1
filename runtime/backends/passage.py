"""One call of a table whose scores come from heads: what happens to each block of rows.

A block gives its statistics. The seam turns these into one coefficient for each row and statistic: at once where the
coefficients need no other block, otherwise after all blocks. The coefficients give dL/d scores of the block, and the
products of the head turn that into gradients of hidden states and weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from lossc.runtime.backends.blocks import Block, cut, part
from lossc.runtime.backends.early import ratio_of, scaled
from lossc.runtime.backends.environment import Environment, in_double, shaped
from lossc.runtime.backends.once import apart, once
from lossc.runtime.backends.projection import Projection, needed_rows
from lossc.runtime.backends.provider import Provider
from lossc.runtime.backends.rounding import rounded
from lossc.runtime.backends.sharded import summed
from lossc.runtime.linear import Linear

if TYPE_CHECKING:
    from lossc.runtime.backends.heads import Component, Headed, Schedule

SLICE_BYTES = 8 << 20
"""For the gradients of scores before they take their place."""

Axes = tuple[str, ...]
Key = tuple[str, str]
"""A kind (`tensor`, `param`, or the name of a head) and a name."""


def row_bytes(heads: Mapping[str, Linear]) -> int:
    """Bytes of the scores of one row."""
    return sum(head.dtype.itemsize * head.weight.shape[0] for head in heads.values())


def narrowed(known: Environment, axes: Mapping[Key, Axes], block: Block) -> Environment:
    """The environment of one block; tensors and parameters missing from `axes` have no axis that the block cuts."""
    tensors = {name: part(x, axes.get(("tensor", name), ()), block) for name, x in known.tensors.items()}
    params = {name: part(x, axes.get(("param", name), ()), block) for name, x in known.params.items()}
    sizes = {**known.sizes, **{axis: length for axis, (_, length) in block.items()}}
    return replace(known, tensors=tensors, params=params, sizes=sizes)


class Passage:
    """One call: its environment, its heads, and the gradients that were formed with the statistics."""

    def __init__(
        self, owner: Headed, known: Environment, heads: Mapping[str, Linear], keys: tuple[Key, ...],
        expected: dict[str, float],
    ) -> None:  # fmt: skip
        self.owner, self.known, self.heads, self.keys, self.expected = owner, known, heads, keys, expected
        self.needed = owner.needed(known)
        self.early: dict[Key, Tensor] | None = None
        self.beside: Callable[[Tensor, Block], Tensor] | None = None
        """What is added to the gradients of the scores of a block that stands in the place named: those of another table."""
        self._projections: dict[str, Projection] = {}

    @property
    def moving(self) -> frozenset[str]:
        """The roots through which gradient flows."""
        return self.owner.moving

    def projection(self, name: str, *, fresh: bool = False) -> Projection:
        """The products of a head; with `fresh`, nothing has been accumulated in it yet."""
        if fresh or name not in self._projections:
            self._projections[name] = Projection(self.heads[name], self.known.like)
        return self._projections[name]

    # -------------------------------------------------------------------------------------- forward

    def forward(self) -> dict[str, Tensor]:
        """The roots of the table."""
        owner, known = self.owner, self.known
        found: dict[str, Tensor] = {}
        for component in sorted(owner.components, key=lambda component: component.is_moved):
            plan = self._schedule(component, self.expected)
            blocks = list(cut(plan.axes, known.sizes, plan.rows))
            total = Total(self, whole=len(blocks) == 1) if plan.early else None
            for block in blocks:
                visit = Visit(self, component, plan.axes, block)
                self._keep(visit.values(), component, block, found)
                if total is not None:
                    self._at_once(visit, total)
            self.early = None if total is None else total.finish()
            self._projections.clear()
            self.known = known.having(found)
        return owner.seam.final(self.known)

    @property
    def is_early(self) -> bool:
        """Whether gradients are formed along with the blocks."""
        return any(self._schedule(component, self.expected).early for component in self.owner.components)

    def _schedule(self, component: Component, expected: Mapping[str, float]) -> Schedule:
        return self.owner.schedule(component, self.known.sizes, component.heads(self.heads), self.keys, expected)

    def _keep(self, values: Mapping[str, Tensor], component: Component, block: Block, found: dict[str, Tensor]) -> None:
        """Writes the values of a block into those of all rows."""
        for name, axes in component.values.items():
            if name in values and name not in found:
                found[name] = values[name].new_empty([self.known.sizes[axis] for axis in axes])
            if name in values:
                part(found[name], axes, block).copy_(values[name])

    def _at_once(self, visit: Visit, total: Total) -> None:
        """Adds the gradients of a block for the expected upstream gradients."""
        like = self.known.like.double()
        upstream = {name: like.new_tensor(weight) for name, weight in self.expected.items()}
        axis = self.owner.table.axis
        rows = replace(visit.known, sizes={**visit.known.sizes, axis: self.known.sizes[axis]})
        weights = self.coefficients(rows, upstream, visit.block, total)
        visit.spread({name: x for name, x in weights.items() if f"@{name}" in visit.component.values}, total)

    def coefficients(
        self, known: Environment, upstream: Mapping[str, Tensor], block: Block, total: Total
    ) -> dict[str, Tensor]:
        """dL/d statistic and dL/d row value of a provider.

        Gradients of inputs that appear in row values are added to `total`.
        """
        streams = {key for component in self.owner.components for key in component.direct.values()}
        delivered = [f"@{name}" for component in self.owner.components for name in component.delivered]
        tensors = [name for kind, name in self.keys if kind == "tensor" and (kind, name) not in streams]
        params = [name for kind, name in self.keys if kind == "param" and (kind, name) not in streams]
        seam = self.owner.seam.gradients(in_double(known), upstream, tensors=[*tensors, *delivered], params=params)
        for kind, held in (("tensor", seam.tensors), ("param", seam.params)):
            for name, gradient in held.items():
                total.add((kind, name), gradient, block)
        return seam.statistics

    # -------------------------------------------------------------------------------------- backward

    def backward(self, upstream: Mapping[str, Tensor]) -> dict[Key, Tensor]:
        """The gradient of each input, in the type of that input, from dL/d root."""
        return self.in_types(self._gradients(upstream))

    def in_types(self, gradients: Mapping[Key, Tensor]) -> dict[Key, Tensor]:
        """The gradients converted to the types of their inputs, in place where possible."""
        return {key: rounded(value, self._type(key)) for key, value in gradients.items()}

    def _type(self, key: Key) -> torch.dtype:
        kind, name = key
        if kind in self.heads:
            return self.heads[kind].parts[name].dtype
        return (self.known.tensors if kind == "tensor" else self.known.params)[name].dtype

    def _gradients(self, upstream: Mapping[str, Tensor]) -> dict[Key, Tensor]:
        taken, self.early = self.early, None
        if taken is not None:
            ratio = ratio_of(self.expected, upstream)
            if ratio is not None:
                return scaled(taken, ratio)
            self.owner.stop_forming_early()
            del taken
        plans = {component: self._schedule(component, {}) for component in self.owner.components if component.is_moved}
        blocks = {each: list(cut(plan.axes, self.known.sizes, plan.rows)) for each, plan in plans.items()}
        total = Total(self, whole=all(len(found) == 1 for found in blocks.values()))
        exact = {name: gradient.double() for name, gradient in upstream.items()}
        weights = self.coefficients(self.known, exact, {}, total)
        for component, plan in plans.items():
            for block in blocks[component]:
                visit = Visit(self, component, plan.axes, block)
                visit.values()
                visit.spread({name: self._of(name, x, component, block) for name, x in weights.items()
                              if f"@{name}" in component.values}, total)  # fmt: skip
        gradients = total.finish()
        self._projections.clear()
        return gradients

    def _of(self, name: str, weight: Tensor, component: Component, block: Block) -> Tensor:
        return part(weight, component.values[f"@{name}"], block)


class Visit:
    """One block of rows during one call; `axes` are those that blocks cut."""

    def __init__(self, call: Passage, component: Component, axes: Axes, block: Block) -> None:
        self.call, self.component, self.cut, self.block = call, component, axes, block
        self.heads = component.heads(call.heads)
        self.wanted = frozenset(component.wanted(call.keys, call.heads))
        self.engine = component.engine_for(self.heads)
        self.scores: dict[str, Tensor] = {}
        self.rows: dict[str, Tensor | None] = {}
        self.axes = {name: axes for (kind, name), axes in call.owner.axes.items() if kind == "tensor"}
        self.axes |= {name: axes for each in call.owner.components if not each.is_moved for name, axes in each.values.items()}
        known = replace(call.known, tensors={name: x for name, x in call.known.tensors.items() if name in self.axes})
        own = {self.axes[name][-1]: head.weight.shape[0] for name, head in self.heads.items()}
        self.known = self._narrowed(replace(known, sizes={**known.sizes, **own}), block)
        for name in self.heads:
            self._multiply(name)

    def _narrowed(self, known: Environment, block: Block) -> Environment:
        """The environment of the block."""
        order: dict[Key, Axes] = {("tensor", name): axes for name, axes in self.axes.items()}
        return narrowed(known, {**self.call.owner.axes, **order}, block)

    def _multiply(self, name: str) -> None:
        """The scores of one head."""
        order = self.axes[name]
        self.rows[name] = needed_rows(self._needed(order[:-1]))
        scores = self.call.projection(name).scores(self.hidden(name), self.rows[name])
        self.scores[name] = scores.view([self.known.sizes[axis] for axis in order])
        self.known = self.known.having({name: self.scores[name]})

    def _needed(self, order: Axes) -> Tensor | None:
        """The rows of the block that count."""
        if self.call.needed is None or not set(self.call.needed[1]) <= set(order):
            return None
        mask, axes = self.call.needed
        return shaped(part(mask, axes, self.block), axes, order, self.known.sizes)

    def hidden(self, name: str) -> Tensor:
        """The hidden states of a head, flattened."""
        hidden = part(self.heads[name].hidden, self.axes[name][:-1], self.block)
        return hidden.reshape(-1, hidden.shape[-1])

    def values(self) -> dict[str, Tensor]:
        """Statistics and row values of providers; they are part of the environment from then on."""
        component = self.component
        found: dict[str, Tensor] = {}
        for provider in component.providers:
            found[f"@{provider.name}"] = provider.value(self.known)
            self.known = self.known.having(found)
        found |= self.engine.statistics(self.known)
        self.known = self.known.having(found)
        made = {f"@{provider.name}": provider.axes for provider in component.providers}
        self.axes |= {**self.engine.axes, **component.values, **made}
        return found

    # -------------------------------------------------------------------------------------- gradients

    def spread(self, weights: Mapping[str, Tensor], total: Total) -> None:
        """Adds the gradients of a block to `total`, from dL/d statistic and dL/d row value of a provider.

        Gradients of scores are computed slice by slice and overwrite the scores.
        """
        order = tuple(axis for axis in self.component.free(self.heads) if axis in self.cut)
        row = row_bytes(self.heads)
        inner = self.component.inner(order, self.known.sizes)
        for piece in cut(order, self.known.sizes, max(1, SLICE_BYTES // max(1, row * inner))):
            self._spread(weights, piece, total)
        for name in self.heads:
            total.settle(name, self)

    def _spread(self, weights: Mapping[str, Tensor], piece: Block, total: Total) -> None:
        """The same for one slice of the block."""
        component = self.component
        known, block = self._narrowed(self.known, piece), _inside(self.block, piece)
        given = {name: part(x, self.axes[f"@{name}"], piece) for name, x in weights.items() if self._counts(name, block)}
        slopes = self.engine.gradients(known, given, self.wanted)
        slopes |= {name: given[name] for name in component.delivered if name in given}
        of_scores: dict[str, Tensor] = {}
        direct = ((component.direct[name], slope) for name, slope in slopes.items() if name in component.direct)
        for key, gradient in (*direct, *_through(component.providers, known, slopes)):
            kind, name = key
            if kind == "tensor" and name in self.heads:
                of_scores[name] = gradient if name not in of_scores else of_scores[name] + gradient
            else:
                total.add(key, gradient, block)
        for name in self.heads:
            slope = of_scores.get(name)
            if self.call.beside is not None:
                other = self.call.beside(part(self.scores[name], self.axes[name], piece), block)
                slope = other if slope is None else slope.add_(other)
            self._replace(name, slope, piece)

    def _counts(self, name: str, block: Block) -> bool:
        """Whether this block adds the gradient of a value: values without an axis that blocks cut are made in each block."""
        axes = self.axes.get(f"@{name}", ())
        first = axes or self.component is self.call.owner.components[0]
        return bool(first) and all(block[axis][0] == 0 for axis in self.cut if axis not in axes)

    def _replace(self, name: str, slope: Tensor | None, piece: Block) -> None:
        """Overwrites the scores with dL/d product."""
        scores = part(self.scores[name], self.axes[name], piece)
        if slope is None:
            scores.zero_()
        else:
            scores.copy_(self.call.projection(name).uncapped(slope.to(scores.dtype), scores))


def _inside(outer: Block, inner: Block) -> Block:
    """A block within a block, as a block of the whole."""
    starts = {axis: start for axis, (start, _) in outer.items()}
    return {**outer, **{axis: (starts.get(axis, 0) + start, length) for axis, (start, length) in inner.items()}}


def _through(
    providers: Sequence[Provider], known: Environment, slopes: Mapping[str, Tensor]
) -> Iterator[tuple[Key, Tensor]]:
    """The gradients of what providers read, from those of what they deliver."""
    sums: dict[Key, Tensor] = {("tensor", f"@{name}"): value for name, value in slopes.items()}
    for provider in reversed(providers):
        gradient = sums.get(("tensor", f"@{provider.name}"))
        if gradient is not None:
            for read, value in provider.slopes(known, gradient):
                key = ("param" if read.param else "tensor", read.name)
                sums[key] = sums[key] + value if key in sums else value
    yield from ((key, value) for key, value in sums.items() if not key[1].startswith("@"))


class Total:
    """Gradients while blocks are added to them; `whole` means that there is only one block."""

    def __init__(self, call: Passage, *, whole: bool, heads: Iterable[str] | None = None) -> None:
        """`heads` are those for which gradients are accumulated; all of them by default."""
        self.call = call
        self.sums: dict[Key, Tensor] = {}
        self.parts: dict[str, dict[str, Tensor]] = {}
        for name in call.heads if heads is None else heads:
            wanted = frozenset(key for kind, key in call.keys if kind == name)
            self.parts[name] = call.projection(name, fresh=True).start(wanted, whole=whole)

    def add(self, key: Key, gradient: Tensor, block: Block) -> None:
        """Adds the dL/d tensor of a block, if that gradient is asked for."""
        if key in self.call.keys:
            part(self._sum(key), self.call.owner.axes[key], block).add_(gradient)

    def _sum(self, key: Key) -> Tensor:
        if key not in self.sums:
            kind, name = key
            source = (self.call.known.tensors if kind == "tensor" else self.call.known.params)[name]
            self.sums[key] = torch.zeros(source.shape, dtype=self.call.known.like.dtype, device=source.device)
        return self.sums[key]

    def settle(self, name: str, visit: Visit) -> None:
        """Multiplies dL/d scores of a block, which have overwritten the scores, into the gradients of a head."""
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
            gradients = self.call.projection(name).finish(parts)
            found |= {(name, key): value for key, value in summed(self.call.heads[name], gradients).items()}
        return found


class Rootable(Protocol):
    """A call with its roots, of which gradient flows through those in `moving`, and dL/d input by key from dL/d root."""

    @property
    def moving(self) -> frozenset[str]: ...

    def forward(self) -> dict[str, Tensor]: ...

    def backward(self, upstream: Mapping[str, Tensor]) -> Mapping[Any, Tensor]: ...


class Rooted(torch.autograd.Function):
    """The roots of a call as an autograd function of its inputs, which `keys` names in order."""

    @staticmethod
    def forward(ctx: Any, call: Rootable, keys: tuple[Any, ...], *inputs: Tensor) -> tuple[Tensor, ...]:
        found = call.forward()
        roots = dict(zip(found, apart(found.values()), strict=True))
        ctx.call, ctx.keys, ctx.names = call, keys, tuple(roots)
        ctx.save_for_backward(*inputs)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(value for name, value in roots.items() if name not in call.moving))
        return tuple(roots.values())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        upstream = {name: g for name, g in zip(ctx.names, gradients, strict=True) if g is not None}
        inputs = ctx.saved_tensors
        with torch.no_grad():
            found = ctx.call.backward(upstream)
        return (None, None, *once((found.get(key) for key in ctx.keys), *upstream.values(), *inputs))
