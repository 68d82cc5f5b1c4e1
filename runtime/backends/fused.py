"""Programs whose vocabulary-sized parts run on a backend, table by table; the rest runs as the reference does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from torch import Tensor

from lossc.compiler.core import Node
from lossc.compiler.cut import SEEN, Cut
from lossc.compiler.emission import Bound, Procedure, emit
from lossc.compiler.table import Table
from lossc.grammar.source import Span
from lossc.runtime.backends.once import refuse_transforms
from lossc.runtime.backends.provider import Provider
from lossc.runtime.backends.reference import Executable
from lossc.runtime.backends.seam import Environment, Seam

DIRECT = ("tensor", "parameter", "centred")
"""Providers of streams that need no operation of their own."""


Weights = Mapping[str, float]
"""The dL/d output that is expected of outputs."""

Weigh = Callable[[Mapping[str, Tensor]], Weights]
"""From outputs that are known early, such as denominators, to the dL/d output that is expected of others."""


class Operator(Protocol):
    """Runs one table: `run` gives its roots, attached to every tensor and parameter that they depend on.

    `weights` are the dL/d root that are expected, so that gradients may be formed at once; others may come all the same.

    Streams and row values that a torch operation delivers are among the tensors, under `@name`. `native` are the tensors
    that it takes in the floating type that they have.
    """

    native: frozenset[str]
    roots: frozenset[str]

    def run(self, environment: Environment, weights: Weights | None = None) -> dict[str, Tensor]: ...


class Fused:
    """A cut program ready to run: `run` takes what is `bound`, in order, and returns the outputs by name.

    `whole` is the program as the reference runs it.
    """

    def __init__(
        self, parts: Cut, whole: Procedure, spans: dict[Node, Span], operator: Callable[[Table, Seam], Operator]
    ) -> None:
        seams = tuple(Seam(table, seen=_masks(table), spans=spans) for table in parts.tables)
        self.operators = tuple(operator(seam.table, seam) for seam in seams)
        self._providers = tuple(tuple(_providers(table, spans)) for table in parts.tables)
        self._rest = Executable(emit(parts.rest, seen=parts.rest_seen, spans=spans))
        self._cut = parts
        every = [whole, self._rest.procedure, *(p.executable.procedure for group in self._providers for p in group)]
        every += [procedure for seam in seams for procedure in seam.procedures]
        self.bound = tuple(_joined(every, frozenset(parts.made)))
        self.native = frozenset().union(*(operator.native for operator in self.operators))

    def run(self, values: list[Tensor | int], weigh: Weigh | None = None) -> dict[str, Tensor]:
        """The outputs of all tables and of the rest."""
        return self.run_in(self.environment(values), weigh)

    def run_in(self, environment: Environment, weigh: Weigh | None = None) -> dict[str, Tensor]:
        """The same, from what is bound by name."""
        refuse_transforms()
        outputs = self._rest.run(environment.bind(self._rest.bound))
        weights = weigh(outputs) if weigh is not None and environment.like.device.type == "cpu" else {}
        for providers, operator in zip(self._providers, self.operators, strict=True):
            inner = environment
            for provider in providers:
                inner = inner.having({f"@{provider.name}": provider.run(inner)})
            outputs |= operator.run(inner, {name: weight for name, weight in weights.items() if name in operator.roots})
        return outputs

    def environment(self, values: list[Tensor | int]) -> Environment:
        """What is bound, by name."""
        tensors: dict[str, Tensor] = {}
        params: dict[str, Tensor] = {}
        sizes: dict[str, int] = {}
        like: Tensor | None = None
        for entry, value in zip(self.bound, values, strict=True):
            if isinstance(value, int):
                sizes[entry.name] = value
            elif entry.kind == "like":
                like = value
            else:
                (tensors if entry.kind == "tensor" else params)[entry.name] = value
                sizes |= dict(zip(entry.axes, value.shape, strict=True))
        assert like is not None
        return Environment(tensors, params, self._cut.with_made(sizes), like)


def _providers(table: Table, spans: dict[Node, Span]) -> Iterator[Provider]:
    """In the order in which they are needed."""
    entries = {stream.name: (stream.source, stream.leaf) for stream in table.streams if stream.provider not in DIRECT}
    entries |= {entry.name: (entry.node, entry.leaf) for entry in table.computed}
    for name in table.order:
        if name in entries:
            node, leaf = entries[name]
            yield Provider(name, node, tuple(sorted(leaf.axes)), spans)


def _masks(table: Table) -> dict[str, Node]:
    """The masks among the roots, by the roots that they mask."""
    return {root.name.removeprefix(SEEN): root.value for root in table.seam if root.name.startswith(SEEN)}


def _joined(procedures: Iterable[Procedure], made: frozenset[str]) -> Iterator[Bound]:
    """What any of the procedures needs from the caller, once; extents of axes that are made inside are worked out."""
    unique = {("like", ""): Bound("like", "", 0)}
    for procedure in procedures:
        for bound in procedure.bound:
            inside = bound.name.startswith("@") or (bound.kind == "size" and bound.name in made)
            if not inside:
                unique.setdefault((bound.kind, bound.name), bound)
    yield from unique.values()
