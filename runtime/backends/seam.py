"""The seam of a statistic table: from statistics to values, and from dL/d value to dL/d statistic, on rows.

Everything vocabulary-sized has been reduced to statistics by then. The table's row expressions run as emitted
procedures, which autograd differentiates. A statistic is a leaf of that graph; through the sensitivities of the table
it also passes gradient to the row values that occur in its body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from lossc.compiler.core import Input, Node, Param, differentiable_leaf, walk
from lossc.compiler.cut import SEEN
from lossc.compiler.derivative import derivative
from lossc.compiler.emission import Procedure, emit
from lossc.compiler.faults import InternalError
from lossc.compiler.table import Statistic, Table
from lossc.grammar.source import Span
from lossc.runtime.backends.environment import Environment, in_double, in_type, shaped
from lossc.runtime.backends.provider import Provider
from lossc.runtime.backends.reference import Executable
from lossc.runtime.backends.seam_rows import Gradients, SeamRows

Weights = Mapping[str, float]
"""The dL/d output that is expected of outputs."""

Weigh = Callable[[Mapping[str, Tensor]], Weights]
"""From outputs that are known early, such as denominators, to the dL/d output that is expected of others."""


@dataclass(frozen=True)
class Differentiable:
    """Roots attached by autograd to `sources`: tensors and statistics by name, parameters as `(name,)`."""

    values: dict[str, Tensor]
    sources: dict[Any, Tensor]

    def gradients(self, upstream: Mapping[str, Tensor]) -> Gradients:
        """The gradients for upstream gradients of the roots; may be called any number of times."""
        pairs = [(self.values[name], gradient) for name, gradient in upstream.items() if self.values[name].requires_grad]
        found: tuple[Tensor | None, ...] = (None,) * len(self.sources)
        if pairs:
            outputs, gradients = zip(*pairs, strict=True)
            found = torch.autograd.grad(
                outputs, list(self.sources.values()), gradients, retain_graph=True, allow_unused=True
            )
        return _sorted(dict(zip(self.sources, found, strict=True)))


class Scalars:
    """Row values, differentiable.

    Elementwise row values are attached to their leaves by explicit slopes. Where no gradient reaches such a value none
    passes through it, even if its slope is NaN, as it is where a masked row holds garbage.
    """

    def __init__(self, values: Mapping[str, Node]) -> None:
        slopes = {name: _slopes_of(value) for name, value in values.items()}
        single = {name: values[name] for name, found in slopes.items() if found is not None}
        self.leaves = {name: tuple(found) for name, found in slopes.items() if found is not None}
        self.values = Executable(emit(single))
        self.mixed = tuple(
            Provider(name, value, tuple(sorted(value.axes)), {}) for name, value in values.items() if name not in single
        )
        named = {f"{name} {at}": slope for name in single for at, slope in enumerate((slopes[name] or {}).values())}
        self.slopes = Executable(emit(named))

    @property
    def procedures(self) -> tuple[Procedure, ...]:
        mixed = (provider.executable for provider in self.mixed)
        return tuple(each.procedure for each in (self.values, self.slopes, *mixed))

    def run(self, environment: Environment) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
        """Each row value with the axes of its dimensions."""
        found = {provider.name: (provider.run(environment), provider.axes) for provider in self.mixed}
        with torch.no_grad():
            values, slopes = environment.run(self.values), environment.run(self.slopes)
        for name, (computed, axes) in values.items():
            value = computed.detach()
            for at, leaf in enumerate(self.leaves[name]):
                source = environment.leaf(leaf)
                if source.requires_grad:
                    parts = (shaped(source, leaf.order, axes, environment.sizes),
                             shaped(*slopes[f"{name} {at}"], axes, environment.sizes))  # fmt: skip
                    value = _Attached.apply(value, *parts)  # type: ignore[no-untyped-call]
            found[name] = (value, axes)
        return found


def _slopes_of(value: Node) -> dict[Input | Param, Node] | None:
    """The derivative with respect to each differentiable leaf; None where the value is not elementwise."""
    leaves = [node for node in walk(value) if isinstance(node, Input | Param) and differentiable_leaf(node)]
    try:
        return {leaf: derivative(value, leaf) for leaf in leaves}
    except InternalError:
        return None


@dataclass(frozen=True)
class Stage:
    """What comes after sweep `level`: differentiable row values, and the statistics of the next sweep that contain them."""

    scalars: Scalars
    sensitivities: Executable
    receiving: tuple[tuple[Statistic, tuple[str, ...]], ...]
    """Each such statistic with the row values that its sensitivities are of."""


class Seam:
    """The row expressions of one table, ready to run. `seen` has masks of the entries that count, for some roots.

    `compiled` allows row programs on the CPU where no autograd graph is needed; they compute the same in one call.
    """

    def __init__(
        self, table: Table, *, seen: Mapping[str, Node] | None = None, spans: dict[Node, Span] | None = None
    ) -> None:
        self.table = table
        roots = {root.name: root.value for root in table.seam}
        masks = {name: roots[key] for name, key in _masks(roots, seen or {}).items()}
        values = {name: root for name, root in roots.items() if not name.startswith(SEEN)}
        self.procedure: Procedure = emit(values, seen=masks, spans=spans)
        self.executable = Executable(_on_rows(self.procedure))
        self._plain = Executable(_on_rows(emit(values, seen=masks, spans=spans, differentiable=False)))
        found = (s for s in table.statistics if s.purpose != "merge")
        self.leaves = tuple(s for s in found if not getattr(s.leaf, "detached", True))
        self.stages = tuple(_stage(table, level) for level in range(table.levels))
        self.compiled = False
        self._rows = SeamRows(table, values, self.procedure, self.leaves)

    @property
    def procedures(self) -> tuple[Procedure, ...]:
        """All procedures that may run, which tells the values that have to be bound."""
        inner = [part for stage in self.stages for part in (*stage.scalars.procedures, stage.sensitivities.procedure)]
        return (self.procedure, *inner)

    def values(self, environment: Environment) -> dict[str, Tensor]:
        """Every root of the table, from an environment with the statistics."""
        executable = self.executable if torch.is_grad_enabled() else self._plain
        return executable.run(environment.bind(executable.bound))

    def final(self, environment: Environment) -> dict[str, Tensor]:
        """Every root in the type of the computation, without gradient."""
        if torch.is_grad_enabled():
            with torch.no_grad():
                return self.final(environment)
        found = self._rows.values(environment) if self._on_rows(environment) else None
        if found is not None:
            return found
        values = self.values(in_double(environment))
        return {name: in_type(root, environment.like) for name, root in values.items()}

    def _on_rows(self, environment: Environment) -> bool:
        return self.compiled and environment.like.device.type == "cpu" and not torch.compiler.is_compiling()

    def differentiates(self, environment: Environment, tensors: Sequence[str], params: Sequence[str]) -> bool:
        """Whether `gradients` can do without autograd."""
        return self._on_rows(environment) and self._rows.differentiates(environment, tensors, params)

    def chained(self, environment: Environment) -> dict[str, Tensor]:
        """Every root, attached by autograd to the statistics and to the row values in their bodies."""
        return self.values(self._attached(environment) if torch.is_grad_enabled() else environment)

    def differentiable(
        self, environment: Environment, *, tensors: Iterable[str] = (), params: Iterable[str] = ()
    ) -> Differentiable:
        """The roots as functions of statistics, and of these tensors and parameters where they occur in row values."""
        with torch.enable_grad(), saved_tensors_hooks(_as_it_is, _as_it_is):
            leaves = {f"@{s.name}": environment.tensors[f"@{s.name}"] for s in self.leaves}
            held = {name: _leaf(environment.tensors[name]) for name in tensors}
            given = {name: _leaf(environment.params[name]) for name in params}
            held |= {name: _leaf(tensor) for name, tensor in leaves.items()}
            inner = replace(environment.having(held), params={**environment.params, **given})
            return Differentiable(self.values(self._attached(inner)), {**held, **{(name,): x for name, x in given.items()}})

    def gradients(
        self, environment: Environment, upstream: Mapping[str, Tensor], *, tensors: Sequence[str] = (),
        params: Sequence[str] = (),
    ) -> Gradients:  # fmt: skip
        """dL/d statistic, and the gradients of these tensors and parameters through row values, from dL/d root."""
        found = self._rows.gradients(environment, upstream, tensors, params) if self._on_rows(environment) else None
        if found is not None:
            return found
        exact = {name: gradient.double() for name, gradient in upstream.items()}
        return self.differentiable(in_double(environment), tensors=tensors, params=params).gradients(exact)

    def _attached(self, environment: Environment) -> Environment:
        """The environment with statistics that pass gradient to the row values in their bodies, level by level."""
        for stage in self.stages:
            if not stage.receiving:
                continue
            scalars = stage.scalars.run(environment)
            with torch.no_grad():
                slopes = environment.run(stage.sensitivities)
            attached = {}
            for statistic, sources in stage.receiving:
                value = environment.tensors[f"@{statistic.name}"]
                for source in sources:
                    parts = (shaped(*scalars[source], statistic.rows, environment.sizes),
                             shaped(*slopes[f"{statistic.name} {source}"], statistic.rows, environment.sizes))  # fmt: skip
                    value = _Attached.apply(value, *parts)  # type: ignore[no-untyped-call]
                attached[f"@{statistic.name}"] = value
            environment = environment.having(attached)
        return environment


def _masks(roots: Mapping[str, Node], seen: Mapping[str, Node]) -> dict[str, str]:
    """The masked roots, each with the name of the root that is its mask."""
    return {name: f"{SEEN}{name}" for name in seen if f"{SEEN}{name}" in roots}


def with_masks(roots: Mapping[str, Node], seen: Mapping[str, Node]) -> dict[str, Node]:
    """The roots of a table for a `Seam` that masks some of them."""
    return {**roots, **{f"{SEEN}{name}": mask for name, mask in seen.items()}}


def _stage(table: Table, level: int) -> Stage:
    named = {scalar.name: scalar.value for scalar in table.scalars}
    named |= {s.name: s.leaf for s in table.statistics} | {computed.name: computed.leaf for computed in table.computed}
    receiving = [(s, sources) for s in table.statistics
                 if s.level == level + 1 and (sources := tuple(slope.of for slope in s.sensitivities))]  # fmt: skip
    wanted = dict.fromkeys(source for _, sources in receiving for source in sources)
    return Stage(
        Scalars({name: named[name] for name in wanted}),
        Executable(emit(_slopes(receiving))),
        tuple(receiving),
    )


def _slopes(receiving: Iterable[tuple[Statistic, tuple[str, ...]]]) -> dict[str, Node]:
    return {f"{s.name} {slope.of}": slope.value for s, _ in receiving for slope in s.sensitivities}


ON_ROWS = {"torch.log": "operations.row_log", "torch.exp": "operations.row_exp"}


def _on_rows(procedure: Procedure) -> Procedure:
    """The procedure with operations that suit few numbers, since rows are few."""
    instructions = (replace(each, operation=ON_ROWS.get(each.operation, each.operation)) for each in procedure.instructions)
    return replace(procedure, instructions=tuple(instructions))


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_()


def _sorted(found: Mapping[Any, Tensor | None]) -> Gradients:
    there = {name: gradient for name, gradient in found.items() if gradient is not None}
    return Gradients(
        {name[1:]: gradient for name, gradient in there.items() if isinstance(name, str) and name.startswith("@")},
        {name: gradient for name, gradient in there.items() if isinstance(name, str) and not name.startswith("@")},
        {name[0]: gradient for name, gradient in there.items() if isinstance(name, tuple)},
    )


class _Attached(torch.autograd.Function):
    """A statistic, unchanged, whose gradient g also reaches a row value as g * slope; where g is 0 nothing is passed."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, source: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (slope,) = ctx.saved_tensors
        return gradient, torch.where(gradient != 0, gradient * slope, 0.0), None


__all__ = ["SEEN", "Differentiable", "Gradients", "Seam", "Weigh", "Weights", "with_masks"]
