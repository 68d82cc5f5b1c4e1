"""Two tables over the same matrix of all pairs, one along its rows and one along its columns, with one shared gradient pass.

| blocks of | what is computed | matrix products |
|---|---|---|
| rows | the statistics of the first table | 1 |
| columns | the statistics of the second table; dL/d entry by both tables, multiplied with the vectors on either side | 3 |

Running the tables separately takes 3 products for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lossc.runtime.backends.blocks import Block
from lossc.runtime.backends.early import ratio_of, scaled
from lossc.runtime.backends.environment import Environment
from lossc.runtime.backends.heads import Headed
from lossc.runtime.backends.passage import Key, Passage, Rooted, Total, narrowed
from lossc.runtime.backends.pool import empty_on
from lossc.runtime.linear import Linear

LEAST_FEATURES = 128
"""Of vectors: with fewer, two products cost less than turning each block of entries round."""


@dataclass(frozen=True)
class Way:
    """A table, the name of its matrix, the head that makes it, and the upstream gradients expected at its roots."""

    headed: Headed
    name: str
    head: Linear
    expected: Mapping[str, float]

    def passage(self, environment: Environment, *, early: bool) -> tuple[Passage, dict[Key, Tensor]]:
        """A call that forms gradients block by block, or (not `early`) only statistics."""
        return self.headed.passage(environment, {self.name: self.head}, self.expected if early else {})

    @property
    def is_expected(self) -> bool:
        """Whether the upstream gradients of its roots are known in advance."""
        return self.headed.forms_early and bool(self.headed.moving & self.expected.keys())

    @property
    def is_plain(self) -> bool:
        """Whether gradients can be formed for a part of the classes, and reach nothing but its matrix."""
        (component, *others) = self.headed.components
        reached = {stream.name for stream in component.streams.values() if stream.provider != "centred"}
        return not others and component.is_plain and reached == {self.name}


def together(first: Way, second: Way, environment: Environment) -> dict[str, Tensor] | None:
    """The roots of both tables; None where they have to run separately.

    `second` reads the transposed matrix, and neither table reads a root of the other.
    """
    if not (torch.is_grad_enabled() and first.is_expected and second.is_expected and first.is_plain):
        return None
    if first.head.shard is not None or first.head.hidden.shape[-1] < LEAST_FEATURES:
        return None
    (one, inputs), (other, more) = first.passage(environment, early=False), second.passage(environment, early=True)
    call = BothWays(one, other, first.expected)
    if not call.is_possible:
        return None
    keys = (*((0, key) for key in inputs), *((1, key) for key in more))
    values = list(Rooted.apply(call, keys, *inputs.values(), *more.values()))  # type: ignore[no-untyped-call]
    count = len(first.headed.seam.procedure.outputs)
    return {**first.headed.named(values[:count]), **second.headed.named(values[count:])}


class BothWays:
    """One call of both tables; `expected` are the upstream gradients expected at the roots of the first."""

    def __init__(self, first: Passage, second: Passage, expected: Mapping[str, float]) -> None:
        self.calls = (first, second)
        self._first_expected = expected
        self._component = first.owner.components[0]
        self._weights: dict[str, Tensor] = {}
        self._early: dict[tuple[int, Key], Tensor] | None = None

    @property
    def moving(self) -> frozenset[str]:
        """The roots through which gradient flows."""
        return self.calls[0].moving | self.calls[1].moving

    @property
    def is_possible(self) -> bool:
        """Whether every row and column counts, and a gradient is wanted that comes with the blocks of the second table."""
        first, second = self.calls
        wanted = any(kind in first.heads for kind, _ in first.keys)
        return wanted and first.needed is None and second.needed is None and second.is_early

    def forward(self) -> dict[str, Tensor]:
        """The roots of both tables; the gradients are formed as well."""
        first, second = self.calls
        found = first.forward()
        like = first.known.like.double()
        total = Total(first, whole=True, heads=())
        upstream = {name: like.new_tensor(weight) for name, weight in self._first_expected.items()}
        weights = first.coefficients(first.known, upstream, {}, total)
        self._weights = {name: weight for name, weight in weights.items() if f"@{name}" in self._component.values}
        second.beside = self._slope
        found |= second.forward()
        second.beside, self._weights = None, {}
        formed = (total.finish(), second.early or {})
        second.early = None
        self._early = {(at, key): value for at, own in enumerate(formed) for key, value in own.items()}
        return found

    def _slope(self, scores: Tensor, block: Block) -> Tensor:
        """dL/d entry through the first table, for the entries [columns, rows] of a block of columns."""
        first, axis = self.calls[0], self._component.table.axis
        start, length = block.get(axis, (0, first.known.sizes[axis]))
        engine = self._component.of_parts()
        (name,) = first.heads
        known = narrowed(first.known, first.owner.axes, {axis: (start, length)}).having({name: _turned(scores)})
        known = known.having(engine.beside(known, start, first.known.sizes[axis]))
        slope = engine.gradients(known, self._weights, frozenset((name,))).get(name)
        return torch.zeros_like(scores) if slope is None else _turned(slope)

    # -------------------------------------------------------------------------------------- backward

    def backward(self, upstream: Mapping[str, Tensor]) -> dict[tuple[int, Key], Tensor]:
        """The gradient of each input of both calls; both tables run again if the upstream gradients are not those expected."""
        taken, self._early = self._early, None
        if taken is not None:
            ratio = ratio_of({**self._first_expected, **self.calls[1].expected}, upstream)
            if ratio is not None:
                return self._in_types(scaled(taken, ratio))
            for call in self.calls:
                call.owner.stop_forming_early()
        found: dict[tuple[int, Key], Tensor] = {}
        for at, call in enumerate(self.calls):
            own = {name: gradient for name, gradient in upstream.items() if name in call.owner.seam.procedure.outputs}
            found |= _numbered(at, call.backward(own))
        return found

    def _in_types(self, gradients: Mapping[tuple[int, Key], Tensor]) -> dict[tuple[int, Key], Tensor]:
        found: dict[tuple[int, Key], Tensor] = {}
        for at, call in enumerate(self.calls):
            found |= _numbered(at, call.in_types({key: value for (number, key), value in gradients.items() if number == at}))
        return found


def _turned(block: Tensor) -> Tensor:
    """The transposed block in contiguous memory, which is faster to read and to accumulate."""
    turned = empty_on(block.device, block.T.shape, block.dtype)
    return turned.copy_(block.T)


def _numbered(at: int, gradients: Mapping[Key, Tensor]) -> dict[tuple[int, Key], Tensor]:
    return {(at, key): value for key, value in gradients.items()}
