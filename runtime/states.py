"""The states of an objective: what each call of a step gathers, and their renewal behind the last one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lossc.compiler.core import Param, walk
from lossc.compiler.emission import emit
from lossc.compiler.program import Program, StateInfo
from lossc.compiler.renewal import Behind, Merging, Renewals
from lossc.compiler.simplify import Simplifier
from lossc.runtime.backends.reference import Executable

MERGERS: dict[Merging, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add, "any": torch.logical_or, "all": torch.logical_and, "max": torch.maximum, "min": torch.minimum,
    "logaddexp": torch.logaddexp, "first": lambda first, _: first,
}  # fmt: skip
"""How the values of two calls, or of two ranks, become one."""


class Held(nn.Module):
    """Tensors by name, saved with the objective and moved with it, always in double precision."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(_key(name), tensor.to(torch.float64))

    def __getitem__(self, name: str) -> Tensor:
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
        """The names, each with its tensor, which may be written into under `torch.no_grad()`."""
        return [(name, self[name]) for name in self]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Held:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, tensor in self._buffers.items():
            self._buffers[name] = None if tensor is None else tensor.to(torch.float64)
        return self


def _key(name: str) -> str:
    return name.replace(".", "/")


@dataclass
class Pending:
    """What the calls of the step in hand have gathered, merged call by call; extents are those of the last call."""

    values: dict[str, Tensor] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def add(self, merging: Mapping[str, Merging], outputs: Mapping[str, Tensor], sizes: Mapping[str, int]) -> None:
        """What one more call has gathered."""
        for name, how in merging.items():
            value = outputs[name].detach()
            value = value.to(torch.float64) if value.is_floating_point() else value
            held = self.values.get(name)
            self.values[name] = value if held is None else MERGERS[how](held, value)
        self.sizes = dict(sizes)

    def clear(self) -> None:
        """Behind a step."""
        self.values, self.sizes = {}, {}

    def over_ranks(self, merging: Mapping[str, Merging]) -> None:
        """The same on every rank, from what each has gathered."""
        distributed = torch.distributed
        if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
            return
        parts: list[Any] = [None] * distributed.get_world_size()
        own = {name: value.cpu() for name, value in self.values.items()}
        distributed.all_gather_object(parts, (own, self.sizes))
        self.clear()
        for values, sizes in parts:
            if values:
                self.add(merging, values, sizes)


class Renewal:
    """Values behind the calls of a step, ready to be worked out in double precision."""

    def __init__(self, behind: Mapping[str, Behind]) -> None:
        simplifier = Simplifier()
        roots = {name: each.value for name, each in behind.items()}
        roots |= {_present(name): each.present for name, each in behind.items() if each.present is not None}
        self.names = tuple(behind)
        self.executable = Executable(emit({name: simplifier(root) for name, root in roots.items()}))

    def run(
        self, pending: Pending, device: torch.device, parameter: Callable[[str], Tensor], sizes: Mapping[str, int]
    ) -> dict[str, tuple[Tensor, Tensor | None, tuple[str, ...]]]:
        """Each value, the mask of its entries that exist, and the axes of both, in the order of its dimensions."""
        like = torch.zeros((), dtype=torch.float64, device=device)
        known = {**sizes, **pending.sizes}
        bound: list[Tensor | int] = []
        for entry in self.executable.bound:
            if entry.kind == "tensor":
                bound.append(pending.values[entry.name].to(device))
            elif entry.kind == "param":
                value = parameter(entry.name).detach().to(like)
                bound.append(value.expand([known[axis] for axis in entry.axes]))
            else:
                bound.append(known[entry.name] if entry.kind == "size" else like)
        with torch.no_grad():
            found = self.executable.run(bound)
        return {name: self._one(name, found) for name in self.names}

    def _one(self, name: str, found: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None, tuple[str, ...]]:
        outputs = self.executable.procedure.outputs
        value, axes = found[name], outputs[name].axes
        mask = found.get(_present(name))
        if mask is None:
            return value, None, axes
        every = tuple(dict.fromkeys((*axes, *outputs[_present(name)].axes)))
        return _over(value, axes, every), _over(mask, outputs[_present(name)].axes, every), every


def _present(name: str) -> str:
    return f"{name} present"


def _over(tensor: Tensor, have: tuple[str, ...], want: tuple[str, ...]) -> Tensor:
    """The tensor with the dimensions `want`; those that it lacks have extent 1."""
    tensor = tensor.permute([have.index(axis) for axis in want if axis in have])
    for at, axis in enumerate(want):
        if axis not in have:
            tensor = tensor.unsqueeze(at)
    return tensor


class States:
    """The renewal of all states of a program."""

    def __init__(self, renewals: Renewals, orders: Mapping[str, tuple[str, ...]]) -> None:
        self.orders = orders
        self.coupled = renewals.coupled
        self.merging: dict[str, Merging] = {each.name: each.merging for each in renewals.gathered}
        self.nodes = {each.name: each.node for each in renewals.gathered}
        self._alone = Renewal({n: b for n, b in renewals.states.items() if not b.reads_calls})
        self._behind = Renewal({n: b for n, b in renewals.states.items() if b.reads_calls})

    def renew(
        self, held: Held, pending: Pending, device: torch.device, parameter: Callable[[str], Tensor],
        sizes: Mapping[str, int],
    ) -> None:  # fmt: skip
        """Writes the new values; what is absent, or reads of calls where there were none, keeps its value."""
        found = self._alone.run(pending, device, parameter, sizes)
        if pending.values:
            found |= self._behind.run(pending, device, parameter, sizes)
        with torch.no_grad():
            for name, (value, mask, axes) in found.items():
                old, order = held[name], self.orders[name]
                new = _over(value, axes, order).expand(old.shape).to(old)
                kept = None if mask is None else _over(mask, axes, order).to(old.device)
                old.copy_(new if kept is None else torch.where(kept, new, old))


def beginning(
    info: StateInfo, extents: list[int], sizes: Mapping[str, int], params: Mapping[str, Tensor]
) -> Tensor:  # fmt: skip
    """The value with which a state begins."""
    renewal = Renewal({info.name: Behind(info.initial, None)})
    value, _, axes = renewal.run(Pending(), torch.device("cpu"), params.__getitem__, sizes)[info.name]
    return _over(value, axes, info.order).expand(extents).clone()


def follows_the_run(program: Program) -> str:
    """What of an objective moves only by `advance`, for a message; empty where nothing does."""
    if program.states:
        return f"the state `{next(iter(program.states))}`"
    roots = [entry.value for entry in (*program.terms, *program.monitors)]
    run = any(isinstance(node, Param) and node.role == "run" for node in walk(*roots))
    return "what follows the step" if run else ""
