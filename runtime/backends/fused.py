"""Programs whose vocabulary-sized parts run table by table on a backend, and the rest on the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from lossc.compiler.core import Node
from lossc.compiler.cut import SEEN, Cut
from lossc.compiler.emission import Bound, Procedure, complete_extents
from lossc.compiler.table import Table
from lossc.grammar.source import Span
from lossc.runtime.backends.engines import Engine
from lossc.runtime.backends.environment import Environment
from lossc.runtime.backends.heads import Headed
from lossc.runtime.backends.once import refuse_transforms
from lossc.runtime.backends.provider import Provider
from lossc.runtime.backends.reference import Value
from lossc.runtime.backends.rest import Rest
from lossc.runtime.backends.seam import Seam, Weigh, Weights
from lossc.runtime.linear import Linear

DIRECT = ("tensor", "parameter", "centred")
"""Providers of streams that need no operation of their own."""


class Operator(Protocol):
    """Runs one table: `run` returns its roots, attached by autograd to every tensor and parameter that they depend on.

    `weights` are the upstream gradients expected at the roots, so that gradients may be formed at once; others may come
    all the same. Streams and row values computed by PyTorch operations are among the tensors, under `@name`. `native`
    lists the tensors that are taken in whatever floating type they have. `ahead` says that knowing the weights is worth
    a wait for the device.
    """

    ahead: bool
    native: frozenset[str]
    roots: frozenset[str]

    def run(self, environment: Environment, weights: Weights | None = None) -> dict[str, Tensor]: ...


class Fused:
    """A cut program ready to run: `run` takes the values listed in `bound`, in order, and returns the outputs by name.

    `whole` is the program as the reference runs it.
    """

    heads = True
    """Whether a tensor may be a `Linear`."""

    def __init__(
        self, parts: Cut, whole: Procedure, spans: dict[Node, Span], operator: Callable[[Table, Seam], Operator],
        engine: Callable[[Operator], Engine], across: Callable[[frozenset[str]], Fused | None] | None = None,
    ) -> None:  # fmt: skip
        """`across(heads)` gives the program cut differently for the case that these tensors are heads, or None."""
        seams = tuple(Seam(table, seen=_masks(table), spans=spans) for table in parts.tables)
        self.operators = tuple(operator(seam.table, seam) for seam in seams)
        self._providers = tuple(tuple(_providers(table, spans)) for table in parts.tables)
        self._rest = Rest(parts.rest, parts.rest_seen, spans)
        self._cut = parts
        self._seams = seams
        self._operator, self._engine, self._spans = operator, engine, spans
        self._headed: dict[int, Headed] = {}
        every = [whole, self._rest.procedure, *(p.executable.procedure for group in self._providers for p in group)]
        every += [procedure for seam in seams for procedure in seam.procedures]
        self._across = across
        self._inner = {name: axes for each in parts.crossings for name, axes in {**each.leaves, **each.orders}.items()}
        self.bound = tuple(_joined(every, frozenset((*parts.made, *self._inner))))
        self._turned = dict(turned(whole, (self._rest.procedure, *(seam.procedure for seam in seams))))
        self.native = frozenset().union(*(operator.native for operator in self.operators))

    def run(self, values: list[Value | Linear], weigh: Weigh | None = None) -> dict[str, Tensor]:
        """The outputs of all tables and of the rest."""
        return self.run_in(self.environment(values), weigh, self.given_heads(values))

    def run_in(
        self, environment: Environment, weigh: Weigh | None = None, heads: Mapping[str, Linear] | None = None
    ) -> dict[str, Tensor]:
        """The outputs, from values that are bound by name."""
        refuse_transforms()
        if heads and torch.compiler.is_compiling():
            environment, heads = formed(environment, heads), None
        if heads and self._across is not None and (other := self._across(frozenset(heads))) is not None:
            return other.run_in(environment, weigh, heads)
        whole = {name: head for name, head in (heads or {}).items() if name in self._rest.procedure.names("tensor")}
        outputs = self._rest.run(formed(environment, whole), compiled=any(seam.compiled for seam in self._seams))
        device = environment.like.device.type
        early = device == "cpu" or bool(heads) or (device == "cuda" and self._waits)
        weights = weigh(outputs) if weigh is not None and early else {}
        outputs.update(self._through(environment, weights, heads or {}))
        return {**outputs, **{name: outputs[name].permute(dims) for name, dims in self._turned.items()}}

    @property
    def _waits(self) -> bool:
        """Whether to wait for weights on a device other than the CPU; impossible while a CUDA graph is being captured."""
        return any(operator.ahead for operator in self.operators) and not torch.cuda.is_current_stream_capturing()

    def _through(self, environment: Environment, weights: Weights, heads: Mapping[str, Linear]) -> dict[str, Tensor]:
        """The roots of all tables."""
        found: dict[str, Tensor] = {}
        for at in range(len(self.operators)):
            found.update(self._operate(at, environment, weights, heads))
        return found

    def _operate(
        self, at: int, environment: Environment, weights: Weights, heads: Mapping[str, Linear]
    ) -> dict[str, Tensor]:
        """The roots of one table."""
        expected = {name: weight for name, weight in weights.items() if name in self.operators[at].roots}
        read = {name: head for name, head in heads.items() if name in self._reads(at)}
        if read and (headed := self.headed(at)).takes(read):
            return headed.run(environment, read, expected)
        inner = formed(environment, read)
        for provider in self._providers[at]:
            inner = inner.having({f"@{provider.name}": provider.run(inner)})
        return self.operators[at].run(inner, expected)

    def headed(self, at: int) -> Headed:
        """Runs a table some of whose scores are made by heads."""
        if at not in self._headed:
            axes = {(str(entry.kind), entry.name): entry.axes for entry in self.bound if entry.kind in ("tensor", "param")}
            axes |= {("tensor", name): order for name, order in self._inner.items()}
            table = self._seams[at].table
            self._headed[at] = Headed(
                table, partial(self._seam_of, at), partial(_providers, spans=self._spans), partial(self._engine_of, at), axes
            )
        return self._headed[at]

    def _seam_of(self, at: int, table: Table) -> Seam:
        """The seam of a table, or of one with changed statistics."""
        seam = self._seams[at]
        return seam if table is seam.table else Seam(table, seen=_masks(table), spans=self._spans)

    def _engine_of(self, at: int, table: Table) -> Engine:
        """The engine that computes blocks of a table, or of a shard of it."""
        seam = self._seams[at]
        return self._engine(self.operators[at] if table is seam.table else self._operator(table, seam))

    def _reads(self, at: int) -> frozenset[str]:
        """The tensors of the batch that a table reads."""
        streams = {stream.name for stream in self._seams[at].table.streams if stream.provider == "tensor"}
        return frozenset(streams.union(*({read.name for read in p.reads} for p in self._providers[at])))

    def given_heads(self, values: Sequence[Value | Linear]) -> dict[str, Linear]:
        """The heads among the bound values."""
        return {entry.name: value for entry, value in zip(self.bound, values, strict=True) if isinstance(value, Linear)}

    def environment(self, values: Sequence[Value | Linear]) -> Environment:
        """The bound values by name; of heads, only the extents enter."""
        tensors: dict[str, Tensor] = {}
        params: dict[str, Tensor] = {}
        sizes: dict[str, int] = {}
        functions: dict[str, Value] = {}
        like: Tensor | None = None
        for entry, value in zip(self.bound, values, strict=True):
            if isinstance(value, int):
                sizes[entry.name] = value
            elif isinstance(value, Linear):
                sizes.update(zip(entry.axes, value.shape, strict=True))
            elif not isinstance(value, Tensor):
                functions[entry.name] = value
            elif entry.kind == "like":
                like = value
            else:
                (tensors if entry.kind == "tensor" else params)[entry.name] = value
                sizes.update(zip(entry.axes, value.shape, strict=True))
        assert like is not None
        heads = [(entry, value) for entry, value in zip(self.bound, values, strict=True) if isinstance(value, Linear)]
        sizes.update({entry.axes[-1]: value.classes for entry, value in heads})
        return Environment(tensors, params, complete_extents(self._cut.made, sizes), like, functions)


def formed(environment: Environment, heads: Mapping[str, Linear]) -> Environment:
    """The environment with the scores of heads computed as tensors."""
    return environment.having({name: head.logits() for name, head in heads.items()}) if heads else environment


def turned(whole: Procedure, parts: Iterable[Procedure]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The outputs whose dimensions have another order in a part than in the whole, with the order in the whole."""
    for part in parts:
        for name, value in part.outputs.items():
            if name in whole.outputs and value.axes != whole.outputs[name].axes:
                yield name, tuple(value.axes.index(axis) for axis in whole.outputs[name].axes)


def _providers(table: Table, spans: dict[Node, Span]) -> Iterator[Provider]:
    """The providers of a table, in the order in which they are needed."""
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
    """The bindings of all procedures, each once; extents of axes made inside are computed."""
    unique = {("like", ""): Bound("like", "", 0)}
    for procedure in procedures:
        for bound in procedure.bound:
            inside = bound.name.startswith("@") or (bound.kind == "size" and bound.name in made)
            if not inside:
                unique.setdefault((bound.kind, bound.name), bound)
    yield from unique.values()
