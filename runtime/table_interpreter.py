"""Values and gradients of an objective from its statistic table alone, one statistic after another: an oracle for tests.

It states the meaning of a table in the plainest PyTorch. Bodies are evaluated over all classes at once,
vocabulary-sized gradients follow the formulas of the table, and autograd is used on rows only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from lossc.compiler.core import Along, Input, Node, Param, Rename, Slice, walk
from lossc.compiler.emission import emit
from lossc.compiler.program import TensorInfo
from lossc.compiler.table.model import Scalar, Statistic, Stream, Table
from lossc.runtime.backends.reference import Executable

Value = tuple[Tensor, tuple[str, ...]]
"""A tensor and the axes of its dimensions."""


@dataclass
class Sweep:
    """The evaluation of one table on one batch: `values` by name, each with its axes, and the row graphs for autograd."""

    table: Table
    values: dict[str, Value]
    sizes: dict[str, int]
    like: Tensor
    rows: dict[str, Value] = field(default_factory=dict)
    """Leaves and row values as autograd sees them."""
    graphs: dict[str, Tensor] = field(default_factory=dict)
    gradients: dict[str, Tensor] = field(default_factory=dict)

    # -------------------------------------------------------------------------------------- forward

    def run(self) -> None:
        for name in self.table.order:
            self.step(name)

    def step(self, name: str) -> None:
        entry = self._entry(name)
        match entry:
            case Statistic():
                self.give(name, self.reduce(entry), entry.rows)
            case Stream(provider="centred"):
                self.values[f"@{name}"] = self._evaluated(entry.source, self.values, sorted(entry.leaf.axes))
            case Stream():
                self._graph(name, entry.source, entry.leaf)
            case Scalar():
                self._graph(name, entry.value, entry.leaf)
            case _:
                self._graph(name, entry.node, entry.leaf)

    def _entry(self, name: str) -> Statistic | Stream | Scalar | _Computed:
        for group in (self.table.statistics, self.table.streams, self.table.scalars):
            for entry in group:
                if entry.name == name:
                    return entry
        return next(_Computed(entry.node, entry.leaf) for entry in self.table.computed if entry.name == name)

    def give(self, name: str, tensor: Tensor, axes: Sequence[str]) -> None:
        """Adds a value, and the leaf through which autograd reaches it."""
        leaf = tensor.detach()
        self.values[f"@{name}"] = (leaf, tuple(axes))
        self.rows[f"@{name}"] = (leaf.clone().requires_grad_() if leaf.is_floating_point() else leaf, tuple(axes))

    def _graph(self, name: str, node: Node, leaf: Node) -> None:
        axes = tuple(sorted(leaf.axes))
        self.graphs[name], _ = self._evaluated(node, self.rows, axes)
        self.give(name, self.graphs[name], axes)

    def reduce(self, statistic: Statistic) -> Tensor:
        """The statistic over all classes present."""
        shape = (*statistic.rows, self.table.axis)
        body = self.entries(statistic.body, shape)
        body = body if body.dtype == torch.bool else body.to(self.like.dtype)
        mask = None if statistic.mask is None else self.entries(statistic.mask, shape)
        match statistic.op:
            case "sum":
                return (body if mask is None else torch.where(mask, body, 0.0)).sum(-1)
            case "select":
                return self._selected(statistic, body)
            case "any":
                return (body if mask is None else body & mask).any(-1)
        admitted = body if mask is None else torch.where(mask, body, -math.inf)
        top = admitted.amax(-1)
        if statistic.op == "argmax":
            return torch.where(torch.isneginf(top), -1, admitted.argmax(-1))
        if statistic.op == "ties":
            attained = body == top.unsqueeze(-1)
            return (attained if mask is None else attained & mask).sum(-1).to(self.like)
        return torch.where(torch.isfinite(top), top, 0.0) if statistic.op == "shift" else _no_entry(top, mask)

    def _selected(self, statistic: Statistic, body: Tensor) -> Tensor:
        if isinstance(statistic.at, int):
            return body[..., statistic.at]
        assert statistic.at is not None
        at = self.entries(statistic.at, statistic.rows).to(torch.int64).clamp(0, body.shape[-1] - 1)
        return torch.gather(body, -1, at.unsqueeze(-1)).squeeze(-1)

    # -------------------------------------------------------------------------------------- expressions

    def entries(self, node: Node, axes: Sequence[str]) -> Tensor:
        return self._evaluated(node, self.values, axes)[0]

    def root(self, name: str) -> Tensor:
        root = next(root for root in self.table.seam if root.name == name)
        return self._evaluated(root.value, self.rows, sorted(root.value.axes))[0]

    def _evaluated(self, node: Node, values: Mapping[str, Value], axes: Sequence[str]) -> Value:
        """The value of an expression with these dimensions."""
        program = _program(node)
        bound: list[Tensor | int] = []
        for entry in program.bound:
            if entry.kind == "size":
                bound.append(self.sizes[entry.name])
            else:
                bound.append(self.like if entry.kind == "like" else _ordered(*values[entry.name], entry.axes))
        result = program.run(bound)["value"]
        return self._shaped(result, program.procedure.outputs["value"].axes, axes), tuple(axes)

    def _shaped(self, tensor: Tensor, have: tuple[str, ...], want: Sequence[str]) -> Tensor:
        tensor = tensor.permute([have.index(axis) for axis in want if axis in have])
        for at, axis in enumerate(want):
            if axis not in have:
                tensor = tensor.unsqueeze(at)
        return tensor.expand([self.sizes[axis] for axis in want])

    # -------------------------------------------------------------------------------------- backward

    def backward(self, value: Tensor) -> dict[str, Tensor]:
        """The gradient of a value with respect to every tensor and parameter that it depends on."""
        value.backward()  # type: ignore[no-untyped-call]
        for name in reversed(self.table.order):
            entry = self._entry(name)
            if isinstance(entry, Statistic):
                self._spread(entry)
            elif name in self.graphs:
                self._pass_on(name)
        return self._collected()

    def _spread(self, statistic: Statistic) -> None:
        """coefficient * d body / d stream, and coefficient * sensitivity, where the coefficient is not 0."""
        coefficient = self.rows[f"@{statistic.name}"][0].grad
        if coefficient is None:
            return
        for slope in statistic.gradients:
            axes = (*statistic.rows, self.table.axis)
            entries = coefficient.unsqueeze(-1) * self.entries(slope.value, axes)
            seen = (coefficient != 0).unsqueeze(-1)
            if statistic.mask is not None:
                seen = seen & self.entries(statistic.mask, axes)
            self._collect(slope.of, torch.where(seen, entries, 0.0), axes)
        for slope in statistic.sensitivities:
            products = coefficient * self.entries(slope.value, statistic.rows)
            self._collect(slope.of, torch.where(coefficient != 0, products, 0.0), statistic.rows)

    def _collect(self, name: str, gradient: Tensor, axes: tuple[str, ...]) -> None:
        stream = next((stream for stream in self.table.streams if stream.name == name), None)
        own = stream is not None and stream.provider in ("tensor", "parameter")
        target = self.values[name if own else f"@{name}"][1]
        gradient = _reduced(gradient, axes, target)
        leaf = self.rows[f"@{name}"][0] if f"@{name}" in self.rows else None
        if leaf is not None:
            leaf.grad = gradient if leaf.grad is None else leaf.grad + gradient
        else:
            self.gradients[name] = self.gradients.get(name, torch.zeros_like(gradient)) + gradient

    def _pass_on(self, name: str) -> None:
        """Passes gradient through a row value, or one computed by torch, to its inputs."""
        gradient, graph = self.rows[f"@{name}"][0].grad, self.graphs[name]
        if gradient is not None and graph.requires_grad:
            graph.backward(gradient)  # type: ignore[no-untyped-call]

    def _collected(self) -> dict[str, Tensor]:
        found = dict(self.gradients)
        for name, (leaf, _) in self.rows.items():
            if not name.startswith("@") and leaf.grad is not None:
                found[name] = found.get(name, torch.zeros_like(leaf)) + leaf.grad
        return found

    # -------------------------------------------------------------------------------------- blocks

    def merged(self, other: Sweep) -> dict[str, Tensor]:
        """The statistics of this block of classes and another one together, by name."""
        found: dict[str, Tensor] = {}
        moves: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
        for statistic in self.table.statistics:
            parts = [block.rescaled(statistic, moved) for block, moved in zip((self, other), moves, strict=True)]
            found[statistic.name] = together = self._together(statistic, *parts)
            if statistic.op == "shift":
                for part, moved in zip(parts, moves, strict=True):
                    self._note(statistic, together - part, moved)
        return found

    def _together(self, statistic: Statistic, mine: Tensor, others: Tensor) -> Tensor:
        """One statistic of two blocks that have the same shift."""
        match statistic.merge.kind:
            case "largest":
                return torch.maximum(mine, others)
            case "any":
                return mine | others
            case "owner":
                return torch.where(self._holds(statistic), mine, others)
        return mine + others

    def rescaled(self, statistic: Statistic, moves: Mapping[str, Tensor]) -> Tensor:
        """The statistic of this block under the common shifts."""
        merge, value = statistic.merge, self.values[f"@{statistic.name}"][0]
        known = {**self.values, **{f"@δ{name}": (move, self._axes_of(name)) for name, move in moves.items()}}
        if merge.growth is not None:
            return value + self._evaluated(merge.growth, known, statistic.rows)[0]
        if merge.kind != "rescale":
            return value
        factors = [(self._evaluated(factor, known, statistic.rows)[0], of) for factor, of in merge.terms]
        classes = float(self.sizes[self.table.axis])
        return torch.stack([f * (classes if of == "size" else self.values[f"@{of}"][0]) for f, of in factors]).sum(0)

    def _axes_of(self, stream: str) -> tuple[str, ...]:
        """The axes of the shift of a centred stream."""
        shift = self.table.stream(stream).shift
        assert shift is not None
        return self.table.statistic(shift).rows

    def _holds(self, statistic: Statistic) -> Tensor:
        """Whether the label of a selection lies in this block."""
        assert isinstance(statistic.at, Node)
        at = self.entries(statistic.at, statistic.rows)
        return (at >= 0) & (at < self.sizes[self.table.axis])

    def _note(self, statistic: Statistic, growth: Tensor, moves: dict[str, Tensor]) -> None:
        """Records that streams centred by a shift move against it."""
        for stream in self.table.streams:
            if stream.shift == statistic.name:
                moves[stream.name] = -stream.sign * growth


@dataclass(frozen=True)
class _Computed:
    node: Node
    leaf: Node


@lru_cache(maxsize=2048)
def _program(node: Node) -> Executable:
    return Executable(emit({"value": node}))


def sweep(
    table: Table,
    tensors: Mapping[str, Tensor],
    dtype: torch.dtype = torch.float64,
    given: Mapping[str, TensorInfo] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Sweep:
    """All statistics of a table on a batch, from tensors and parameters by name; `given` has the axes of further tensors."""
    state = Sweep(table, {}, dict(sizes or {}), torch.zeros((), dtype=dtype))
    leaves: dict[str, Node | None] = {name: info.node for name, info in (given or {}).items() if name in tensors}
    leaves |= {node.name: node for node in _given(table)}
    for name, tensor in tensors.items():
        node = leaves.get(name, Input(name, ()) if tensor.dim() == 0 else None)
        if not isinstance(node, Input | Param):
            continue
        state.sizes |= dict(zip(node.order, tensor.shape, strict=True))
        number = not (isinstance(node, Input) and node.kind in ("label", "mask"))
        tensor = tensor.to(dtype) if number else tensor
        state.values[name] = (tensor, node.order)
        state.rows[name] = (tensor.clone().requires_grad_() if number else tensor, node.order)
    _made_axes(table, state.sizes)
    state.run()
    return state


def _nodes(table: Table) -> Iterator[Node]:
    graphs = [root.value for root in table.seam] + [scalar.value for scalar in table.scalars]
    graphs += [part for s in table.statistics for part in (s.body, s.mask) if part is not None]
    graphs += [stream.source for stream in table.streams] + [entry.node for entry in table.computed]
    return walk(*graphs)


def _given(table: Table) -> list[Input | Param]:
    """The tensors and parameters that a table reads."""
    return [node for node in _nodes(table) if isinstance(node, Input | Param) and not node.name.startswith("@")]


def _made_axes(table: Table, sizes: dict[str, int]) -> None:
    """The extents of axes that the program makes from others."""
    for node in _nodes(table):
        match node:
            case Rename(old=old, new=new) if old in sizes:
                sizes.setdefault(new, sizes[old])
            case Slice(new=new, start=start, stop=stop):
                sizes.setdefault(new, stop - start)
            case Along(op="sort", axis=axis, new=str() as new) if axis in sizes:
                sizes.setdefault(new, sizes[axis])


def _ordered(tensor: Tensor, have: tuple[str, ...], want: tuple[str, ...]) -> Tensor:
    return tensor.permute([have.index(axis) for axis in want])


def _reduced(gradient: Tensor, have: tuple[str, ...], want: tuple[str, ...]) -> Tensor:
    """The gradient of a value that was repeated over axes that it lacks, in the value's own order of dimensions."""
    extra = [at for at, axis in enumerate(have) if axis not in want]
    left = tuple(axis for axis in have if axis in want)
    return _ordered(gradient.sum(extra) if extra else gradient, left, want)


def _no_entry(top: Tensor, mask: Tensor | None) -> Tensor:
    return top if mask is None else torch.where(mask.any(-1), top, 0.0)

