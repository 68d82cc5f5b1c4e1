"""The meaning of a core graph, entry by entry: the oracle of emission.

Nothing here is vectorised. `Meaning.at(node, place)` computes one entry of a node from the entries that it needs, and from
those only, so that what a mask excludes is never looked at. Each entry is a scalar tensor: autograd through them gives the
gradient that emission must have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import product

import torch
from torch import Tensor

from lossc.compiler import core
from lossc.compiler.core import Node

Place = Mapping[str, int]

ELEMENTWISE: dict[str, Callable[..., Tensor]] = {
    "div": torch.div, "pow": torch.pow, "exp": torch.exp, "expm1": torch.expm1, "log1p": torch.log1p,
    "log2": torch.log2, "sigmoid": torch.sigmoid, "logsigmoid": lambda x: torch.sigmoid(x).log(), "sqrt": torch.sqrt,
    "softplus": lambda x: x.exp().log1p(), "abs": torch.abs, "sign": torch.sign, "tanh": torch.tanh, "relu": torch.relu,
    "log1mexp": lambda x: (1 - x.exp()).log(), "logaddexp": lambda x, y: (x.exp() + y.exp()).log(), "floor": torch.floor,
    "round": torch.round, "ceil": torch.ceil, "erf": torch.erf, "sin": torch.sin, "cos": torch.cos, "atan2": torch.atan2,
    "mod": torch.remainder, "lgamma": torch.lgamma, "digamma": torch.digamma, "normcdf": torch.special.ndtr,
    "log_normcdf": lambda x: torch.special.ndtr(x).log(), "erfinv": torch.erfinv, "arctan": torch.arctan, "tan": torch.tan,
    "lt": torch.lt, "le": torch.le, "eq": torch.eq, "ne": torch.ne, "log": torch.log,
}  # fmt: skip


class Meaning:
    """Entries of nodes for given tensors, parameters and extents."""

    def __init__(self, tensors: Mapping[str, Tensor], params: Mapping[str, Tensor], sizes: Mapping[str, int]) -> None:
        self.tensors = tensors
        self.params = params
        self.sizes = dict(sizes)
        self._known: dict[tuple[Node, tuple[tuple[str, int], ...]], Tensor] = {}

    def tensor(self, node: Node, order: tuple[str, ...]) -> Tensor:
        """All entries, as a tensor of the given dimensions."""
        shape = [self.sizes[axis] for axis in order]
        entries = [self.at(node, place) for place in self.places(order)]
        if not entries:
            return torch.zeros(shape, dtype=torch.float64)
        return torch.stack([entry.to(torch.float64) for entry in entries]).reshape(shape)

    def places(self, axes: tuple[str, ...]) -> Iterator[dict[str, int]]:
        for indices in product(*(range(self.sizes[axis]) for axis in axes)):
            yield dict(zip(axes, indices, strict=True))

    def at(self, node: Node, place: Place) -> Tensor:
        own = tuple(sorted((axis, at) for axis, at in place.items() if axis in node.axes))
        key = (node, own)
        if key not in self._known:
            self._known[key] = self._at(node, dict(own))
        return self._known[key]

    def true(self, node: Node | None, place: Place) -> bool:
        return node is None or bool(self.at(node, place).detach())

    def _at(self, node: Node, place: dict[str, int]) -> Tensor:
        match node:
            case core.Const():
                return _number(float(node))
            case core.Input(name=name, order=order):
                return self._read(self.tensors[name], order, place)
            case core.Param(name=name, order=order):
                return self._read(self.params[name], order, place)
            case core.Index(axis=axis):
                return torch.tensor(place[axis])
            case core.Size(axis=axis):
                return _number(self.sizes[axis])
            case core.StopGrad(body=body):
                return self.at(body, place).detach()
            case core.Rename(body=body, old=old, new=new):
                return self.at(body, {**place, old: place[new]})
            case core.Slice(body=body, axis=axis, new=new, start=start):
                return self.at(body, {**place, axis: start + place[new]})
            case core.Select(body=body, axis=axis, at=at):
                index = at if isinstance(at, int) else max(int(self.at(at, place)), 0)
                return self.at(body, {**place, axis: index})
            case core.Map():
                return self._map(node, place)
            case core.Reduce():
                return self._reduce(node, place)
            case core.Along():
                return self._along(node, place)
            case core.Call(function="norm", arguments=(body,), consumed=over):
                entries = [_float(self.at(body, {**place, **inner})) for inner in self.places(over)]
                total = sum((entry**2 for entry in entries), _number(0))
                return total.sqrt() if total > 0 else total * 0
        raise AssertionError(type(node).__name__)

    @staticmethod
    def _read(tensor: Tensor, order: tuple[str, ...], place: Place) -> Tensor:
        return tensor[tuple(place[axis] for axis in order)] if tensor.dim() else tensor

    def _map(self, node: core.Map, place: Place) -> Tensor:
        if node.function == "where":
            condition, then, otherwise = node.arguments
            return self.at(then if self.true(condition, place) else otherwise, place)
        values = [self.at(argument, place) for argument in node.arguments]
        if node.function in ("and", "or"):
            both = (all if node.function == "and" else any)(bool(value) for value in values)
            return torch.tensor(both)
        if node.function == "not":
            return torch.tensor(not bool(values[0]))
        if node.function in ("lt", "le", "eq", "ne"):
            return ELEMENTWISE[node.function](*(_float(value).detach() for value in values))
        values = [_float(value) for value in values]
        if node.function == "mul":
            return _product(values)
        if node.function == "add":
            return sum(values[1:], values[0])
        if node.function in ("min", "max"):
            return _extreme(values, node.function)
        if node.function == "clip":
            x, low, high = values
            inside = low if x < low else high if x > high else x
            return high if low > high else inside
        if node.function == "xlogy":
            x, y = values
            return x * 0 if x == 0 and y == 0 else x * y.log()
        return ELEMENTWISE[node.function](*values)

    def _reduce(self, node: core.Reduce, place: dict[str, int]) -> Tensor:
        entries: list[Tensor] = []
        group = place.pop(node.groups[1]) if node.groups else None
        positions: list[int] = []
        for inner in self.places(node.over):
            there = {**place, **inner}
            if node.groups is not None and int(self.at(node.groups[0], there)) != group:
                continue
            if self.true(node.where, there):
                body = core.ONE if node.op == "count" else node.body
                entries.append(self.at(body, there))
                positions.append(inner[node.over[0]])
        return self._reduced(node, [_float(entry) for entry in entries], positions, place)

    def _reduced(self, node: core.Reduce, entries: list[Tensor], positions: list[int], place: Place) -> Tensor:
        number = len(entries)
        match node.op:
            case "sum":
                return sum(entries, _number(0))
            case "count":
                return _number(number)
            case "prod":
                return _product([_number(1), *entries])
            case "any" | "all":
                return torch.tensor((any if node.op == "any" else all)(bool(entry) for entry in entries))
            case "logsumexp":
                return torch.logsumexp(torch.stack(entries), 0) if entries else _number(-math.inf)
            case "argmax":
                return torch.tensor(positions[int(torch.stack(entries).detach().argmax())] if entries else -1)
        option = None if node.option is None else self.at(node.option, place)
        ddof = 0.0 if option is None else float(option.detach())
        if number == 0 or (node.op in ("var", "std") and number <= ddof):
            return _number(0)
        if node.op in ("min", "max"):
            return _extreme(entries, node.op)
        stacked = torch.stack(entries)
        match node.op:
            case "mean":
                return stacked.mean()
            case "median":
                return stacked.quantile(0.5)
            case "quantile":
                return stacked.quantile(float(option.detach()))  # type: ignore[arg-type]
        squares = ((stacked - stacked.mean()) ** 2).sum() / (number - ddof)
        if node.op == "var":
            return squares
        return squares.sqrt() if squares > 0 else squares * 0

    def _along(self, node: core.Along, place: dict[str, int]) -> Tensor:
        here = place.get(node.new or node.axis, 0)
        size = self.sizes[node.axis]

        def entry(part: Node, at: int) -> Tensor:
            return _float(self.at(part, {**place, node.axis: at}))

        seen = [at for at in range(size) if self.true(node.where, {**place, node.axis: at})]
        if node.op in ("sort", "topk"):
            key = node.option if node.op == "sort" and node.option is not None else node.body
            sign = 1 if node.op == "sort" else -1
            order = sorted(seen, key=lambda at: sign * float(entry(key, at).detach()))
            return entry(node.body, order[here]) if here < len(order) else _number(0)
        if here not in seen:
            return _number(0)
        if node.by is not None:
            label = int(self.at(node.by, {**place, node.axis: here}))
            seen = [at for at in seen if int(self.at(node.by, {**place, node.axis: at})) == label]
        own = seen.index(here)
        if node.op == "shift":
            source = own - int(self.at(node.option or core.ONE, place))
            fill = _number(0) if node.fill is None else _float(self.at(node.fill, place))
            return self.at(node.body, {**place, node.axis: seen[source]}) if 0 <= source < len(seen) else fill
        values = [entry(node.body, at) for at in seen]
        match node.op:
            case "softmax":
                return torch.softmax(torch.stack(values), 0)[own]
            case "log_softmax":
                return torch.log_softmax(torch.stack(values), 0)[own]
            case "rank":
                ranked = sorted(range(len(seen)), key=lambda at: float(values[at].detach()))
                return _number(ranked.index(own))
        before = values[: own + 1]
        match node.op:
            case "cumsum":
                return sum(before, _number(0))
            case "cumprod":
                return _product(before)
            case "cummax":
                return _extreme(before, "max")
            case "cumlogsumexp":
                return torch.logsumexp(torch.stack(before), 0)
            case "scan":
                total = _number(0)
                for at, value in zip(seen[: own + 1], before, strict=True):
                    total = entry(node.option, at) * total + value  # type: ignore[arg-type]
                return total
        raise AssertionError(node.op)


def _number(value: float) -> Tensor:
    return torch.tensor(float(value), dtype=torch.float64)


def _float(value: Tensor) -> Tensor:
    return value if value.dtype == torch.float64 else value.to(torch.float64)


def _product(values: list[Tensor]) -> Tensor:
    """The product, 0 * log 0 being 0."""
    if any(float(value.detach()) == 0 for value in values):
        values = [value for value in values if math.isfinite(float(value.detach()))]
    total = values[0]
    for value in values[1:]:
        total = total * value
    return total


def _extreme(values: list[Tensor], which: str) -> Tensor:
    """The largest or smallest; ties share the gradient evenly."""
    stacked = torch.stack(values)
    return stacked.amax(0) if which == "max" else stacked.amin(0)
