"""The states of an objective: what each call of a step gathers, and how states are renewed after the last call."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lossc.compiler.core import Param, walk
from lossc.compiler.emission import emit
from lossc.compiler.program import Program, StateInfo
from lossc.compiler.renewal import Behind, Merging, Renewals
from lossc.compiler.simplify import Simplifier
from lossc.runtime.arguments import brief
from lossc.runtime.backends.reference import Executable
from lossc.runtime.messages import fail
from lossc.runtime.touched import Touched, rows_of, spread, union, write_rows

MERGERS: dict[Merging, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add, "any": torch.logical_or, "all": torch.logical_and, "max": torch.maximum, "min": torch.minimum,
    "logaddexp": torch.logaddexp, "first": lambda first, _: first,
}  # fmt: skip
"""How the values of two calls, or of two ranks, become one."""

NEUTRAL: dict[Merging, float | bool] = {
    "add": 0.0, "any": False, "all": True, "max": -math.inf, "min": math.inf, "logaddexp": -math.inf, "first": 0.0
}  # fmt: skip
"""What leaves the other value as it is."""


class Held(nn.Module):
    """Tensors by name, saved and moved with the objective, always in double precision."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(_key(name), tensor.to(torch.float64))

    def __getitem__(self, name: str) -> Tensor:
        """The tensor of that name. Raises E726 where there is none."""
        if name not in self:
            raise fail("E726", f"there is no {brief(name)} among these", help=f"there are {', '.join(self) or 'none'}")
        return self._buffers[_key(name)]  # type: ignore[return-value]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _key(name) in self._buffers

    def __iter__(self) -> Iterator[str]:
        return iter(name.replace("/", ".") for name in self._buffers)

    def __len__(self) -> int:
        return len(self._buffers)

    def keys(self) -> list[str]:
        """The names."""
        return list(self)

    def items(self) -> list[tuple[str, Tensor]]:
        """The names with their tensors, which may be written to under `torch.no_grad()`."""
        return [(name, self[name]) for name in self]

    def renew(self, values: Mapping[str, Outcome], orders: Mapping[str, tuple[str, ...]], rows: Touched) -> None:
        """Writes new values of the entries that a step touched; where the new value is absent, the old one stays."""
        with torch.no_grad():
            for name, outcome in values.items():
                held = rows_of(self[name], orders[name], rows)
                new, present = laid_out(outcome, orders[name], held)
                write_rows(self[name], orders[name], rows, new if present is None else torch.where(present, new, held))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Held:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, tensor in self._buffers.items():
            self._buffers[name] = None if tensor is None else tensor.to(torch.float64)
        return self


def _key(name: str) -> str:
    return name.replace(".", "/")


@dataclass
class Pending:
    """What the calls of the current step have gathered, merged call by call. Extents are those of the last call.

    Along the axes of `rows` only the entries that calls have touched are held.
    """

    values: dict[str, Tensor] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    rows: Touched = field(default_factory=dict)

    def add(self, states: States, outputs: Mapping[str, Tensor], sizes: Mapping[str, int], rows: Touched) -> None:
        """Merges the values of one more call, whose dimensions are in the order of their names."""
        values = {name: _exact(outputs[name].detach()) for name in states.merging}
        if self.values:
            every = union(self.rows, rows, {**self.sizes, **sizes})
            for name, how in states.merging.items():
                held, own = (
                    spread(value, states.axes[name], have, every, NEUTRAL[how])
                    for value, have in ((self.values[name], self.rows), (values[name], rows))
                )
                values[name] = MERGERS[how](held, own)
            rows = every
        self.values, self.rows = values, dict(rows)
        self.sizes = {**sizes, **{axis: len(entries) for axis, entries in rows.items()}}

    def clear(self) -> None:
        """Forgets everything, after a step."""
        self.values, self.sizes, self.rows = {}, {}, {}

    def over_ranks(self, states: States) -> None:
        """The same on every rank, merged from what each has gathered."""
        distributed = torch.distributed
        if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
            return
        parts: list[Any] = [None] * distributed.get_world_size()
        own = ({name: value.cpu() for name, value in held.items()} for held in (self.values, self.rows))
        distributed.all_gather_object(parts, (*own, self.sizes))
        self.clear()
        for values, rows, sizes in parts:
            if values:
                self.add(states, values, sizes, rows)


def _exact(value: Tensor) -> Tensor:
    return value.to(torch.float64) if value.is_floating_point() else value


class Outcome(NamedTuple):
    """A value after the calls of a step, the mask of its entries that exist, and the axes of the dimensions of both."""

    value: Tensor
    present: Tensor | None
    axes: tuple[str, ...]


def laid_out(outcome: Outcome, order: tuple[str, ...], like: Tensor) -> tuple[Tensor, Tensor | None]:
    """Value and mask over the dimensions `order`, with the extents, type and device of another tensor."""
    value = _over(outcome.value, outcome.axes, order).to(like).expand(like.shape)
    if outcome.present is None:
        return value, None
    return value, _over(outcome.present, outcome.axes, order).to(like.device).expand(like.shape)


class Renewal:
    """The values due after the calls of a step, ready to be computed in double precision."""

    def __init__(self, behind: Mapping[str, Behind]) -> None:
        simplifier = Simplifier()
        roots = {name: each.value for name, each in behind.items()}
        roots |= {present_of(name): each.present for name, each in behind.items() if each.present is not None}
        self.names = tuple(behind)
        self.executable = Executable(emit({name: simplifier(root) for name, root in roots.items()}))

    def run(
        self, pending: Pending, device: torch.device, parameter: Callable[[str], Tensor], sizes: Mapping[str, int]
    ) -> dict[str, Outcome]:
        """Each value."""
        like = torch.zeros((), dtype=torch.float64, device=device)
        known = {**sizes, **pending.sizes}
        bound: list[Tensor | int] = []
        for entry in self.executable.bound:
            if entry.kind == "tensor":
                bound.append(pending.values[entry.name].to(device))
            elif entry.kind == "param":
                value = rows_of(parameter(entry.name).detach(), entry.axes, pending.rows).to(like)
                bound.append(value.expand([known[axis] for axis in entry.axes]))
            else:
                bound.append(known[entry.name] if entry.kind == "size" else like)
        with torch.no_grad():
            found = self.executable.run(bound)
        return {name: self._one(name, found) for name in self.names}

    def _one(self, name: str, found: Mapping[str, Tensor]) -> Outcome:
        outputs = self.executable.procedure.outputs
        value, axes = found[name], outputs[name].axes
        mask = found.get(present_of(name))
        if mask is None:
            return Outcome(value, None, axes)
        every = tuple(dict.fromkeys((*axes, *outputs[present_of(name)].axes)))
        return Outcome(_over(value, axes, every), _over(mask, outputs[present_of(name)].axes, every), every)


def present_of(name: str) -> str:
    """The name of the mask of a value's entries that exist."""
    return f"{name} present"


def _over(tensor: Tensor, have: tuple[str, ...], want: tuple[str, ...]) -> Tensor:
    """The tensor with the dimensions `want`; those that it lacks get extent 1."""
    tensor = tensor.permute([have.index(axis) for axis in want if axis in have])
    for at, axis in enumerate(want):
        if axis not in have:
            tensor = tensor.unsqueeze(at)
    return tensor


def sorted_dims(axes: tuple[str, ...]) -> list[int]:
    """The dimensions in the order of the names of their axes."""
    return sorted(range(len(axes)), key=axes.__getitem__)


class States:
    """What all states of a program become after a step, and how far its constraints were violated."""

    def __init__(self, renewals: Renewals, orders: Mapping[str, tuple[str, ...]]) -> None:
        self.orders = orders
        self.coupled = renewals.coupled
        self.merging: dict[str, Merging] = {each.name: each.merging for each in renewals.gathered}
        self.nodes = {each.name: each.node for each in renewals.gathered}
        self.axes = {each.name: tuple(sorted(each.node.axes)) for each in renewals.gathered}
        violations = {f"multiplier of {name}": each for name, each in renewals.violations.items()}
        every = {**renewals.states, **violations}
        self.needed = bool(every)
        self.alone = Renewal({name: each for name, each in every.items() if not each.reads_calls})
        self.of_calls = Renewal({name: each for name, each in every.items() if each.reads_calls})

    def behind(
        self, pending: Pending, device: torch.device, parameter: Callable[[str], Tensor], sizes: Mapping[str, int]
    ) -> dict[str, Outcome]:
        """The new values by the names of their states; those that need calls are left out if there were none."""
        found = self.alone.run(pending, device, parameter, sizes)
        return found | (self.of_calls.run(pending, device, parameter, sizes) if pending.values else {})


def beginning(
    info: StateInfo, extents: list[int], sizes: Mapping[str, int], params: Mapping[str, Tensor]
) -> Tensor:  # fmt: skip
    """The initial value of a state."""
    renewal = Renewal({info.name: Behind(info.initial, None)})
    outcome = renewal.run(Pending(), torch.device("cpu"), params.__getitem__, sizes)[info.name]
    return laid_out(outcome, info.order, torch.empty(extents, dtype=torch.float64))[0].clone()


def follows_the_run(program: Program) -> str:
    """Which parts of an objective move only by `advance`, for a message; empty where there are none."""
    if program.constraints:
        return f"the multiplier of `{program.constraints[0].name}`"
    if program.states:
        return f"the state `{next(iter(program.states))}`"
    roots = [entry.value for entry in (*program.terms, *program.monitors)]
    run = any(isinstance(node, Param) and node.role == "run" for node in walk(*roots))
    return "what follows the step" if run else ""
