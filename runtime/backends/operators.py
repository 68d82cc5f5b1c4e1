"""Kernels as torch operators, so that `torch.compile` captures an objective as one graph with the kernels in it.

Each kernel has a pair of operators, `lossc::row_KEY` (the statistics of all rows) and `lossc::row_KEY_gradient`, where
KEY is a hash of what the kernel computes. The first is differentiable through the second; the second is not, and says
so. Where upstream gradients are expected, the first also forms the gradients, in one visit of each row, and the second
returns these if the expected ones come.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from lossc.compiler.kernels.c import source
from lossc.compiler.kernels.regular import Regularity
from lossc.runtime.backends.early import Expectation, Visit
from lossc.runtime.backends.environment import stored
from lossc.runtime.backends.kernel_calls import Given, KernelCalls, axes_of
from lossc.runtime.backends.once import refusal
from lossc.runtime.backends.probes import kept, probe

T = TypeVar("T")

SCHEMA = (
    "(Tensor[] streams, Tensor[] arguments, SymInt[] extents, bool double, Tensor? expected, bool[] moving) -> Tensor[]"
)
GRADIENT_SCHEMA = (
    "(Tensor[] streams, Tensor[] arguments, SymInt[] extents, bool double, Tensor[] statistics, Tensor?[] weights, "
    "int[] wants, Tensor probe, Tensor? upstream) -> Tensor[]"
)

_REGISTERED: dict[str, RowOperators] = {}


def row_operators(calls: KernelCalls) -> RowOperators:
    """The operators of a kernel.

    Kernels share operators if they compute the same and use the same names for their inputs.
    """
    key = _key(calls)
    if key not in _REGISTERED:
        _REGISTERED[key] = RowOperators(calls, key)
    return _REGISTERED[key]


def _key(calls: KernelCalls) -> str:
    kernel = calls.kernel
    types = {stream.name: "bool" if stream.leaf.is_mask else "f32" for stream in kernel.streams}
    wants = [stream.name for stream in kernel.differentiable]
    texts = [source(kernel, "statistics", "float", types, ()).text, source(kernel, "gradient", "float", types, wants).text]
    if kernel.adjoints is not None:
        texts.append(source(kernel, "visit", "float", types, wants).text)
    names = (
        calls.axes, [(s.name, s.provider, axes_of(s)) for s in kernel.streams],
        [(a.leaf.name, a.leaf.order) for a in kernel.arguments], [(s.name, s.rows, calls.axes_kept(s)) for s in kernel.every],
    )  # fmt: skip
    return hashlib.sha256(repr((texts, names)).encode()).hexdigest()[:16]


class RowOperators:
    """The two operators of one kernel, over lists in the order of its streams, row values and statistics.

    `extents` are those of the row axes, of the classes, and of further axes of labels. `expected` are the upstream
    gradients from which the seeds among the row values are made; `upstream` are those that came. `moving` says for each
    stream whether its gradient may be asked for; `wants` are the positions of the streams for which it is.
    """

    def __init__(self, calls: KernelCalls, key: str) -> None:
        self.calls = calls
        kernel = calls.kernel
        extra = dict.fromkeys(axis for point in kernel.points for axis in point.extra)
        self.axes = (*kernel.rows, kernel.axis, *extra)
        self.statistics = sorted(kernel.every, key=lambda s: not stored(s).is_floating_point)
        self.seeds = frozenset(adjoint.seed.leaf.name for adjoint in kernel.adjoints or ())
        self.has_flags = bool(Regularity(kernel).streams)
        self.expectation = Expectation()
        self.forward = _defined(f"row_{key}", SCHEMA, self._forward, self._forward_shapes)
        self.backward = _defined(f"row_{key}_gradient", GRADIENT_SCHEMA, self._backward, self._backward_shapes)
        self.forward.register_autograd(self._differentiate, setup_context=_keep)
        self.backward.register_autograd(_refuse, setup_context=None)

    def given(self, given: Given, expected: Tensor | None = None) -> tuple[Any, ...]:
        """The arguments of the operators for a call."""
        streams = [given.streams[stream.name][0] for stream in self.calls.kernel.streams]
        arguments = [_over(given.arguments[a.leaf.name], self._argument_axes(a.leaf.axes)) for a in self.calls.kernel.arguments]
        moving = [expected is not None and stream.requires_grad for stream in streams]
        return streams, arguments, [given.sizes[axis] for axis in self.axes], given.double, expected, moving

    def run(self, given: Given, expected: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        """The statistics, by the names of their leaves and with the axes of the table, and the probe of expected gradients."""
        *values, _, probe = self.forward(*self.given(given, expected))
        return {f"@{s.name}": value for s, value in zip(self.statistics, values, strict=True)}, probe

    def _argument_axes(self, axes: frozenset[str]) -> tuple[str, ...]:
        return tuple(axis for axis in self.axes if axis in axes)

    # -------------------------------------------------------------------------------------- forward

    def _taken(
        self, streams: Sequence[Tensor], arguments: Sequence[Tensor], extents: Sequence[int], double: bool
    ) -> Given:  # fmt: skip
        kernel = self.calls.kernel
        held = {s.name: (x, self._stream_axes(s.leaf.axes)) for s, x in zip(kernel.streams, streams, strict=True)}
        values = {a.leaf.name: (x, self._argument_axes(a.leaf.axes)) for a, x in zip(kernel.arguments, arguments, strict=True)}
        return Given(held, values, dict(zip(self.axes, extents, strict=True)), double)

    def _forward(
        self, streams: Sequence[Tensor], arguments: Sequence[Tensor], extents: Sequence[int], double: bool,
        expected: Tensor | None, moving: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        given = self._taken(streams, arguments, extents, double)
        visit = Visit(_numbered(() if expected is None else expected.tolist()), self.expectation.multiple)
        if visit.multiple is None:
            found = self.calls.statistics(given)
        else:
            wanted = frozenset(s.name for s, moves in zip(self.calls.kernel.streams, moving, strict=True) if moves)
            found, visit.gradients = self.calls.visit(self._seeded(given, visit.multiple), wanted)
        flags = found.get(self.calls.flags)
        values = [found[f"@{s.name}"].contiguous() for s in self.statistics]
        return [*values, flags if flags is not None else torch.empty(0, dtype=torch.bool), probe(visit)]

    def _seeded(self, given: Given, multiple: float) -> Given:
        """The same for a multiple of what is expected."""
        if multiple == 1.0:
            return given
        seeds = {name: (value * multiple, axes) for name, (value, axes) in given.arguments.items() if name in self.seeds}
        return replace(given, arguments={**given.arguments, **seeds})

    def _forward_shapes(
        self, streams: Sequence[Tensor], arguments: Sequence[Tensor], extents: Sequence[int], double: bool,
        expected: Tensor | None, moving: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        sizes = dict(zip(self.axes, extents, strict=True))
        like = streams[0]
        values = [like.new_empty([sizes[axis] for axis in s.rows], dtype=stored(s)) for s in self.statistics]
        rows = [sizes[axis] for axis in self.calls.kernel.rows] if self.has_flags else [0]
        roots = 0 if expected is None else expected.shape[0]
        return [*values, like.new_empty(rows, dtype=torch.bool), like.new_empty([roots], dtype=torch.float64)]

    # -------------------------------------------------------------------------------------- backward

    def _differentiate(self, ctx: Any, gradients: Sequence[Tensor | None]) -> tuple[Any, ...]:
        kernel = self.calls.kernel
        count, number = ctx.count, len(kernel.streams)
        *saved, probe = ctx.saved_tensors
        streams, arguments, statistics = saved[:number], saved[number:count], saved[count:]
        reached = {stream.name for stream in kernel.differentiable}
        wants = [at for at, stream in enumerate(kernel.streams) if ctx.needs_input_grad[0][at] and stream.name in reached]
        found: list[Tensor] = []
        if wants:
            found = self.backward(streams, arguments, ctx.extents, ctx.double, statistics,
                                  list(gradients[: len(self.statistics)]), wants, probe, gradients[-1])  # fmt: skip
        results: list[Tensor | None] = [None] * number
        for at, gradient in zip(wants, found, strict=True):
            results[at] = gradient
        return results, [None] * len(arguments), None, None, None, None

    def _backward(
        self, streams: Sequence[Tensor], arguments: Sequence[Tensor], extents: Sequence[int], double: bool,
        statistics: Sequence[Tensor], weights: Sequence[Tensor | None], wants: Sequence[int], probe: Tensor,
        upstream: Tensor | None,
    ) -> list[Tensor]:  # fmt: skip
        names = [self.calls.kernel.streams[at].name for at in wants]
        found = self._early(probe, upstream)
        if found is None:
            known = {f"@{s.name}": x for s, x in zip(self.statistics, statistics, strict=False)}
            given = replace(
                self._taken(streams, arguments, extents, double), statistics={**known, self.calls.flags: statistics[-1]},
                weights={s.name: w for s, w in zip(self.statistics, weights, strict=True) if w is not None},
            )  # fmt: skip
            found = self.calls.gradient(given, frozenset(names))
        return [self._placed(found.get(name), at, streams[at]) for at, name in zip(wants, names, strict=True)]

    def _early(self, probe: Tensor, upstream: Tensor | None) -> dict[str, Tensor] | None:
        """The gradients that were formed with the statistics, if they are those that are asked for."""
        visit = kept(probe)
        return None if visit is None or upstream is None else self.expectation.answer(visit, _numbered(upstream))

    def _placed(self, gradient: Tensor | None, at: int, stream: Tensor) -> Tensor:
        """A gradient with the dimensions of the operator's stream."""
        if gradient is None:
            return torch.zeros(stream.shape, dtype=stream.dtype)
        entry = self.calls.kernel.streams[at]
        have, want = axes_of(entry), self._stream_axes(entry.leaf.axes)
        return gradient.permute([have.index(axis) for axis in want]).contiguous()

    def _stream_axes(self, axes: frozenset[str]) -> tuple[str, ...]:
        kernel = self.calls.kernel
        return (*(axis for axis in kernel.rows if axis in axes), kernel.axis)

    def _backward_shapes(
        self, streams: Sequence[Tensor], arguments: Sequence[Tensor], extents: Sequence[int], double: bool,
        statistics: Sequence[Tensor], weights: Sequence[Tensor | None], wants: Sequence[int], probe: Tensor,
        upstream: Tensor | None,
    ) -> list[Tensor]:  # fmt: skip
        return [torch.empty(streams[at].shape, dtype=streams[at].dtype, device=streams[at].device) for at in wants]


def _over(argument: tuple[Tensor, tuple[str, ...]], axes: tuple[str, ...]) -> Tensor:
    """A row value with its axes in this order."""
    tensor, have = argument
    return tensor.permute([have.index(axis) for axis in axes])


def _numbered(values: Iterable[T]) -> dict[str, T]:
    return {str(at): value for at, value in enumerate(values)}


def _defined(name: str, schema: str, run: Callable[..., Any], shapes: Callable[..., Any]) -> Any:
    operator = torch.library.custom_op(f"lossc::{name}", run, mutates_args=(), schema=schema, device_types="cpu")
    operator.register_fake(shapes)
    return operator


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Sequence[Tensor]) -> None:
    streams, arguments, extents, double, *_ = inputs
    ctx.save_for_backward(*streams, *arguments, *output)
    ctx.count, ctx.extents, ctx.double = len(streams) + len(arguments), extents, double
    ctx.set_materialize_grads(False)


def _refuse(ctx: Any, *_: Any) -> Mapping[str, Any]:
    raise refusal()
