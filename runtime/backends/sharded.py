"""Heads whose classes are split over ranks: each rank computes statistics of its shard, merged after every sweep.

There are two collectives for each level, a maximum and a sum. dL/d scores stay on their rank; dL/d hidden states are
summed over ranks once a call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, distributed

from lossc.compiler.core import ZERO, Node, apply, substitute
from lossc.compiler.emission import emit
from lossc.compiler.kernels import NoKernelError
from lossc.compiler.sweeps import Sweep, place, shard, shard_stages, top
from lossc.compiler.table import Table
from lossc.runtime.backends.c import Compiled
from lossc.runtime.backends.chunked import Chunked, RowValues
from lossc.runtime.backends.environment import Environment, shaped
from lossc.runtime.backends.passes import Call, StatisticPass
from lossc.runtime.backends.reference import Executable
from lossc.runtime.backends.seam import Seam
from lossc.runtime.backends.shard_kernels import ShardKernels
from lossc.runtime.backends.toolchain import ToolchainError
from lossc.runtime.linear import Linear, Shard
from lossc.runtime.messages import fail


class Sharded:
    """The `Engine` for one rank's shard of the classes: compiled kernels where they are available, else the closed form."""

    def __init__(self, whole: Table, seam: Seam, part: Shard | None, compiled: Compiled | None) -> None:
        """`seam` is that of the whole table, none of which runs here; `compiled` knows how kernels are called.

        Without a `part` there are no ranks, and the statistics of all classes are known in advance. Raises E723 for a
        term that needs all classes in one place.
        """
        self._part = part
        self._compiled = compiled
        for entry in whole.computed:
            raise fail("E723", f"a head that is split over ranks has no {entry.reason} of its classes",
                       help="give the head whole, or leave that term out")  # fmt: skip
        table = shard(whole)
        self._chunked = Chunked(table, seam)
        self._row_values = RowValues(table)
        self._stages = [
            (stage.level, [_passes(step, table) for step in stage.largest], _passes(stage.sums, table))
            for stage in shard_stages(table)
        ]
        self._named = {s.name: s for s in table.statistics if s.purpose != "merge"}
        rows = {scalar.leaf: scalar.value for scalar in table.scalars if not scalar.level}
        at = {s.name: substitute(s.at, rows) for s in self._named.values() if s.op == "select" and isinstance(s.at, Node)}
        self._here = Executable(emit({name: apply("le", ZERO, node) for name, node in at.items()}))
        self._levels = table.levels
        self._kernels = self._made(table)
        self.axes = {f"@{scalar.name}": tuple(sorted(scalar.leaf.axes)) for scalar in table.scalars}
        self.axes |= {"@offset": (), "@classes": (), **{f"@here {name}": self._named[name].rows for name in at}}
        self.axes |= {} if self._kernels is None else self._kernels.flags

    def _made(self, table: Table) -> ShardKernels | None:
        """The kernels of this shard; None where there are none."""
        try:
            return None if self._compiled is None else ShardKernels(table, self._compiled.calls)
        except NoKernelError:
            return None

    def _serving(self, known: Environment) -> ShardKernels | None:
        """The kernels, where they can run."""
        return self._kernels if self._compiled is not None and self._compiled.serves(known.like.device) else None

    # -------------------------------------------------------------------------------------- the engine

    def statistics(self, known: Environment) -> dict[str, Tensor]:
        """The statistics over all classes."""
        kernels = self._serving(known)
        if kernels is not None and self._compiled is not None:
            try:
                return self._statistics(known, kernels)
            except ToolchainError as reason:
                self._compiled.give_up(reason)
        return self._statistics(known, None)

    def _statistics(self, known: Environment, kernels: ShardKernels | None) -> dict[str, Tensor]:
        """The same, with given kernels or without; with kernels, in double precision."""
        part = self._part
        assert part is not None
        call = self._placed(known, part.offset, part.classes, kernels)
        level = 0
        for at, largest, sums in self._stages:
            while level < at:
                call.tensors |= self._row_values.known(level, call)
                level += 1
            for number, step in enumerate(largest):
                now = replace(known, tensors=call.tensors)
                found = _run(step, call) if kernels is None else kernels.largest(at, number, now)
                self._merge_largest(found, call, part)
            found = _run(sums, call) if kernels is None else kernels.sums(at, replace(known, tensors=call.tensors))
            self._merge_sums(found, call, part)
        for after in range(level, self._levels + 1):
            call.tensors |= self._row_values.known(after, call)
        if kernels is not None:
            call.tensors |= kernels.irregular(known)
        return {name: value for name, value in call.tensors.items() if name not in known.tensors}

    def _placed(self, known: Environment, offset: int, classes: int, kernels: ShardKernels | None) -> Call:
        """A call that also knows the first class of the shard and the number of all classes."""
        like = known.like if kernels is None else known.like.double()
        call = self._call(replace(known, like=like))
        call.tensors |= {"@offset": like.new_tensor(float(offset)), "@classes": like.new_tensor(float(classes))}
        call.tensors |= self._places(call)
        return call

    def beside(self, known: Environment, offset: int, classes: int) -> dict[str, Tensor]:
        """The values that `gradients` of a shard reads besides the statistics of all classes, which are known already."""
        kernels = self._serving(known)
        call = self._placed(known, offset, classes, kernels)
        for level in range(self._levels + 1):
            call.tensors |= self._row_values.known(level, call)
        if kernels is not None:
            call.tensors |= kernels.irregular(known)
        return {name: value for name, value in call.tensors.items() if name not in known.tensors}

    def gradients(self, known: Environment, weights: Mapping[str, Tensor], wanted: frozenset[str]) -> dict[str, Tensor]:
        """The gradients of this rank's shard of the streams."""
        call = self._call(known)
        kernels = self._serving(known)
        given = {}
        for name, weight in weights.items():
            if name in self._named:
                here = known.tensors.get(f"@here {name}")
                given[name] = weight if here is None else weight * here
        if kernels is not None:
            return kernels.gradients(known, given, wanted)
        given = {name: weight.to(known.like.dtype) for name, weight in given.items()}
        sources = [source for source in self._chunked.sources if source.stream in wanted]
        return self._chunked.backward(call, sources, given) if given and sources else {}

    def _call(self, known: Environment) -> Call:
        rows = self._chunked.rows(known.sizes, known.like)
        return Call(dict(known.tensors), dict(known.params), known.sizes, known.like, True, rows, exact=True)

    def _places(self, call: Call) -> dict[str, Tensor]:
        """Whether the label of a selection belongs to this rank."""
        found = call.environment.run(self._here)
        return {f"@here {name}": shaped(*value, self._named[name].rows, call.sizes) for name, value in found.items()}

    # -------------------------------------------------------------------------------------- merging

    def _merge_largest(self, found: Mapping[str, Tensor], call: Call, part: Shard) -> None:
        names = [name for name in self._named if f"@{top(name)}" in found]
        if not names:
            return
        tops = dict(zip(names, _largest([found[f"@{top(name)}"] for name in names], part), strict=True))
        for name, value in tops.items():
            statistic = self._named[name]
            if statistic.op == "argmax":
                own = found[f"@{place(name)}"] + part.offset
                call.tensors[f"@{name}"] = _first(torch.where(found[f"@{top(name)}"] == value, own, part.classes), part)
            elif statistic.op == "shift":
                call.tensors[f"@{name}"] = torch.where(value.isfinite(), value, 0.0)
            else:
                call.tensors[f"@{name}"] = value if statistic.mask is None else torch.where(value == -torch.inf, 0.0, value)

    def _merge_sums(self, found: Mapping[str, Tensor], call: Call, part: Shard) -> None:
        if not found:
            return
        values = [self._own(name, value, call) for name, value in found.items()]
        for (name, before), value in zip(found.items(), _sums(values, part), strict=True):
            call.tensors[name] = value > 0 if before.dtype == torch.bool else value.to(before.dtype)

    def _own(self, name: str, value: Tensor, call: Call) -> Tensor:
        """The contribution of this rank; zero at labels of other ranks."""
        value = value.to(call.like.dtype)
        here = call.tensors.get(f"@here {name[1:]}")
        return value if here is None else torch.where(here, value, 0.0)


def _passes(sweeps: Sequence[Sweep], table: Table) -> list[StatisticPass]:
    return [StatisticPass(sweep, table) for sweep in sweeps]


def _run(passes: Sequence[StatisticPass], call: Call) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for each in passes:
        found |= each.run(call)
    return found


def _sums(values: list[Tensor], part: Shard) -> list[Tensor]:
    flat = torch.cat([value.reshape(-1) for value in values])
    distributed.all_reduce(flat, distributed.ReduceOp.SUM, group=part.group)
    return _unpacked(flat, values)


def _largest(values: list[Tensor], part: Shard) -> list[Tensor]:
    """The largest values over ranks; NaN wherever one rank has NaN."""
    flat = torch.cat([value.reshape(-1) for value in values])
    wrong = flat.isnan()
    both = torch.cat([torch.where(wrong, torch.inf, flat), wrong.to(flat.dtype)])
    distributed.all_reduce(both, distributed.ReduceOp.MAX, group=part.group)
    largest, wrongs = both.chunk(2)
    return _unpacked(torch.where(wrongs > 0, torch.nan, largest), values)


def _first(places: Tensor, part: Shard) -> Tensor:
    places = places.contiguous()
    distributed.all_reduce(places, distributed.ReduceOp.MIN, group=part.group)
    return places


def _unpacked(flat: Tensor, like: list[Tensor]) -> list[Tensor]:
    pieces = flat.split([value.numel() for value in like])  # type: ignore[no-untyped-call]
    return [piece.view(value.shape) for piece, value in zip(pieces, like, strict=True)]


def summed(head: Linear, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    """The gradients of the parts of a head; those of parts that all ranks share are summed over ranks."""
    if head.shard is None:
        return gradients
    shared = [name for name in ("hidden", "scale") if name in gradients]
    if shared:
        wide = [gradients[name].to(torch.promote_types(gradients[name].dtype, torch.float32)) for name in shared]
        dtype = torch.promote_types(wide[0].dtype, wide[-1].dtype)
        gradients |= dict(zip(shared, _sums([value.to(dtype) for value in wide], head.shard), strict=True))
    return gradients
