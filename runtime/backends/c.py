"""The backend `c`: generated C kernels, on the CPU.

One kernel call computes the statistics and another writes the gradients; between the two runs the seam, which works on
rows. Where the loss is a sum over rows with coefficients known in advance, a single call visits each row once: it
computes the statistics and writes the gradient for the expected upstream gradient. If another upstream gradient comes,
the gradient is computed again from the statistics.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from lossc.compiler.core import Input, differentiable
from lossc.compiler.kernels import NoKernelError, kernels
from lossc.compiler.table import Stream, Table
from lossc.runtime.backends.chunked import Chunked
from lossc.runtime.backends.early import Expectation, Visit
from lossc.runtime.backends.environment import Environment, in_double, in_type
from lossc.runtime.backends.kernel_calls import KernelCalls
from lossc.runtime.backends.once import apart, once
from lossc.runtime.backends.operators import row_operators
from lossc.runtime.backends.seam import Differentiable, Gradients, Seam, Weights
from lossc.runtime.backends.toolchain import ToolchainError, compiler
from lossc.runtime.messages import LosscWarning
from lossc.runtime.tracing import constant_in_traces


class Compiled:
    """Runs one table; an `Operator`. A table without kernels, or without a C compiler, runs on the backend `torch`."""

    name = "c"
    ahead = False
    calls: type[KernelCalls] = KernelCalls

    def __init__(self, table: Table, seam: Seam) -> None:
        self.table = table
        self.seam = seam
        seam.compiled = True
        self.other = Chunked(table, seam)
        self.native, self.roots = self.other.native, self.other.roots
        self.streams = {_key(s): s for s in table.streams if s.differentiable and s.provider != "centred"}
        self.moving = tuple(root.name for root in table.seam if differentiable(root.value))
        self.expectation = Expectation()
        self._plans: dict[tuple[str, ...], tuple[KernelCalls, ...] | None] = {}
        self._operators = SimpleNamespace()
        """Those of each plan: attributes, since a trace that has read a dictionary sees nothing that is added later."""
        self._unable = False

    def run(self, environment: Environment, weights: Weights | None = None) -> dict[str, Tensor]:
        """The roots of the table; `weights` are the upstream gradients expected at them."""
        if not self.serves(environment.like.device):
            return self.other.run(environment)
        if torch.compiler.is_compiling():
            return self._traced(environment, weights or {}) if self._prepare(self._plan_of({})) else self.other.run(environment)
        try:
            return self._run(environment, weights or {})
        except (NoKernelError, ToolchainError) as reason:
            self.give_up(reason)
            return self.other.run(environment)

    @constant_in_traces
    def _prepare(self, plan: str) -> bool:
        """Builds the operators of a plan before a call that runs them is traced; False where there are none."""
        if not hasattr(self._operators, plan):
            weighted = [name for name, known in zip(self.moving, plan.removeprefix("plan"), strict=True) if known == "1"]
            try:
                compiler()
                found = tuple((calls, row_operators(calls)) for calls in self.plan(weighted) or ())
                setattr(self._operators, plan, found)
            except (NoKernelError, ToolchainError) as reason:
                self.give_up(reason)
        return bool(getattr(self._operators, plan, ()))

    def _plan_of(self, weights: Weights) -> str:
        """The name of the plan for the case that upstream gradients of these roots are expected."""
        return "plan" + "".join(["1" if name in weights else "0" for name in self.moving])

    def _traced(self, environment: Environment, weights: Weights) -> dict[str, Tensor]:
        """The roots, with the kernels as operators of the graph; where weights are known, they visit each row once."""
        weights = weights if self._visits(environment, weights) else {}
        known, probes = environment, []
        seeds = {f"@weight {name}": torch.as_tensor(weights.get(name, 0.0), dtype=torch.float64)
                 for name in (self.moving if weights else ())}  # fmt: skip
        expected = torch.stack(list(seeds.values())) if seeds else None
        for calls, operators in getattr(self._operators, self._plan_of(weights)):
            found, probe = operators.run(calls.given(known.having(seeds)), expected)
            known = known.having(found)
            probes.append(probe)
        roots = self.seam.chained(in_double(known))
        for probe in probes if seeds else ():
            roots.update({name: roots[name] + probe[at] for at, name in enumerate(self.moving)})
        return {name: in_type(root, environment.like) for name, root in roots.items()}

    def _visits(self, environment: Environment, weights: Weights) -> bool:
        """Whether a traced call forms gradients together with its statistics."""
        held = {"tensor": environment.tensors, "param": environment.params}
        moves = any(held[kind][name].requires_grad for kind, name in self.streams)
        if not moves or any(self.seam.procedure.outputs[name].axes for name in self.moving):
            return False
        return any(name in weights for name in self.moving) and self._prepare(self._plan_of(weights))

    def serves(self, device: torch.device) -> bool:
        """Whether kernels can run on a device, as far as is known."""
        return not self._unable and device.type == "cpu"

    @property
    def flags(self) -> dict[str, tuple[str, ...]]:
        """The names of the flags of regular rows, with their axes."""
        return {} if self._unable else {calls.flags: calls.kernel.rows for calls in self.plan() or ()}

    def give_up(self, reason: Exception) -> None:
        """Runs on the backend `torch` from now on; warns once where the reason is a missing compiler."""
        self._unable = True
        if isinstance(reason, ToolchainError):
            _warn_once(f"the backend `{self.name}` is not available, `torch` runs in its place: {reason}")

    def _run(self, environment: Environment, weights: Weights) -> dict[str, Tensor]:
        inputs = dict(_moving(environment)) if torch.is_grad_enabled() else {}
        known = Environment(
            {name: _free(tensor) for name, tensor in environment.tensors.items()},
            {name: _free(tensor) for name, tensor in environment.params.items()},
            environment.sizes, environment.like,
        )  # fmt: skip
        visit = Visit(weights if inputs else {}, self.expectation.multiple)
        values = Values.apply(self, known, visit, tuple(inputs), *inputs.values())  # type: ignore[no-untyped-call]
        return dict(zip(self.seam.procedure.outputs, values, strict=True))

    # -------------------------------------------------------------------------------------- kernels

    def plan(self, weighted: Iterable[str] = ()) -> tuple[KernelCalls, ...] | None:
        """The kernels; for weighted roots, those that visit each row once. None where there are none."""
        key = tuple(sorted(weighted))
        if key not in self._plans:
            leaves = {name: Input(f"@weight {name}", ()) for name in key}
            found = kernels(self.table, leaves if key else None)
            usable = not key or all(kernel.adjoints is not None for kernel in found)
            self._plans[key] = tuple(self.calls(kernel, at) for at, kernel in enumerate(found)) if usable else None
        return self._plans[key]

    def statistics(self, known: Environment) -> dict[str, Tensor]:
        """All statistics."""
        found: dict[str, Tensor] = {}
        for calls in self.plan() or ():
            found |= calls.statistics(calls.given(known.having(found)))
        return found

    def visited(self, known: Environment, visit: Visit, wanted: frozenset[str]) -> dict[str, Tensor]:
        """All statistics, and the gradients of the wanted streams where one visit computes both."""
        plan = self.plan(visit.expected) if visit.expected and wanted else None
        if plan is None or visit.multiple is None:
            return self.statistics(known)
        found: dict[str, Tensor] = {}
        device = known.like.device
        given = {f"@weight {name}": torch.full((), value * visit.multiple, dtype=torch.float64, device=device)
                 for name, value in visit.expected.items()}  # fmt: skip
        for calls in plan:
            values, gradients = calls.visit(calls.given(known.having(given)), wanted)
            found |= values
            _accumulate(visit.gradients, gradients)
        return found

    def gradients(self, known: Environment, weights: Mapping[str, Tensor], wanted: frozenset[str]) -> dict[str, Tensor]:
        """The gradient of each wanted stream, from dL/d statistic."""
        found: dict[str, Tensor] = {}
        for calls in self.plan() or ():
            _accumulate(found, calls.gradient(replace(calls.given(known), weights=weights), wanted))
        return found


def _accumulate(total: dict[str, Tensor], gradients: Mapping[str, Tensor]) -> None:
    for name, gradient in gradients.items():
        total[name] = gradient if name not in total else total[name].add_(gradient)


Key = tuple[str, str]
"""A tensor or a parameter, by name."""


def _key(stream: Stream) -> Key:
    if stream.provider == "parameter":
        return "param", stream.name
    return "tensor", stream.name if stream.provider == "tensor" else f"@{stream.name}"


def _free(tensor: Tensor) -> Tensor:
    return tensor.detach() if tensor.requires_grad else tensor


def _moving(environment: Environment) -> Iterable[tuple[Key, Tensor]]:
    """The inputs that may be asked for a gradient."""
    for kind, held in (("tensor", environment.tensors), ("param", environment.params)):
        for name, tensor in held.items():
            if tensor.requires_grad:
                yield (kind, name), tensor


class Values(torch.autograd.Function):
    """The roots of a table as functions of tensors and parameters."""

    @staticmethod
    def forward(
        ctx: Any, owner: Compiled, known: Environment, visit: Visit, keys: tuple[Key, ...], *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        wanted = frozenset(owner.streams[key].name for key in keys if key in owner.streams)
        known = known.having(owner.visited(known, visit, wanted))
        needs_graph = keys and not visit.gradients and not owner.seam.differentiates(known, *_on_rows(owner, keys))
        graph = _graph(owner, known, keys) if needs_graph else None
        if graph is None:
            found = owner.seam.final(known)
        else:
            found = {name: in_type(root.detach(), known.like) for name, root in graph.values.items()}
        roots = dict(zip(found, apart(found.values()), strict=True))
        ctx.owner, ctx.visit, ctx.wanted, ctx.keys, ctx.graph = owner, visit, wanted, keys, graph
        ctx.tensors, ctx.params = tuple(known.tensors), tuple(known.params)
        ctx.sizes, ctx.like = known.sizes, known.like
        ctx.save_for_backward(*known.tensors.values(), *known.params.values(), *inputs)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(value for name, value in roots.items() if name not in owner.moving))
        return tuple(roots.values())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        owner: Compiled = ctx.owner
        names = owner.seam.procedure.outputs
        upstream = {name: g for name, g in zip(names, gradients, strict=True) if g is not None}
        early = owner.expectation.answer(ctx.visit, upstream)
        if early is not None and not torch.is_grad_enabled() and owner.streams.keys() >= set(ctx.keys):
            return (None, None, None, None, *[early.get(owner.streams[key].name) for key in ctx.keys])
        saved = iter(ctx.saved_tensors)
        tensors = {name: next(saved) for name in ctx.tensors}
        known = Environment(tensors, {name: next(saved) for name in ctx.params}, ctx.sizes, ctx.like)
        with torch.no_grad():
            found = _gradients(owner, known, early, upstream, ctx.keys, ctx.wanted, ctx.graph)
        results = once((found.get(key) for key in ctx.keys), *upstream.values(), *saved)
        return (None, None, None, None, *results)


def _gradients(
    owner: Compiled, known: Environment, early: Mapping[str, Tensor] | None, upstream: Mapping[str, Tensor],
    keys: tuple[Key, ...], wanted: frozenset[str], graph: Differentiable | None,
) -> dict[Key, Tensor]:  # fmt: skip
    """The gradient of each input that has one; `early` are those of streams that are formed already."""
    rows = [key for key in keys if key not in owner.streams]
    if early is not None and not rows:
        return {key: early[stream.name] for key, stream in owner.streams.items() if stream.name in early}
    if graph is None:
        tensors, params = _on_rows(owner, keys)
        seam = owner.seam.gradients(known, upstream, tensors=tensors, params=params)
    else:
        seam = graph.gradients({name: gradient.double() for name, gradient in upstream.items()})
    streams = owner.gradients(known, seam.statistics, wanted) if early is None else early
    found = {key: streams[stream.name] for key, stream in owner.streams.items() if stream.name in streams}
    return found | {key: gradient for key in rows if (gradient := _of_row(seam, key)) is not None}


def _graph(owner: Compiled, known: Environment, keys: tuple[Key, ...]) -> Differentiable:
    """The roots as functions of the statistics, and of the inputs that appear in row values."""
    tensors, params = _on_rows(owner, keys)
    return owner.seam.differentiable(in_double(known), tensors=tensors, params=params)


def _on_rows(owner: Compiled, keys: tuple[Key, ...]) -> tuple[list[str], list[str]]:
    """The tensors and parameters among the inputs that are not streams."""
    rows = [key for key in keys if key not in owner.streams]
    return [name for kind, name in rows if kind == "tensor"], [name for kind, name in rows if kind == "param"]


def _of_row(seam: Gradients, key: Key) -> Tensor | None:
    kind, name = key
    if kind == "param":
        return seam.params.get(name)
    return seam.tensors.get(name) if not name.startswith("@") else seam.statistics.get(name[1:])


_warned: set[str] = set()


def _warn_once(message: str) -> None:
    if not _warned:
        _warned.add(message)
        warnings.warn(message, LosscWarning, stacklevel=2)


__all__ = ["Compiled"]
