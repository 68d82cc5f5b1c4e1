"""An evaluator of core graphs that shares nothing with the emitter: exact by mpmath, or in double precision.

Sizes are tiny and every operation is spelled out over named axes; it is slow and meant for tests only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
from mpmath import mp
from numpy.typing import NDArray

from lossc.compiler import core
from lossc.compiler.core import Node
from lossc.compiler.primitives import PRIMITIVES

Values = Mapping[str, NDArray[Any]]
"""What each input and parameter holds, dimensions in the order of its axes' names."""


@dataclass(frozen=True)
class Array:
    """Numbers over axes in the order of their names."""

    axes: tuple[str, ...]
    data: NDArray[Any]

    def spread(self, axes: tuple[str, ...], sizes: Mapping[str, int]) -> NDArray[Any]:
        """The data over more axes, in any order."""
        own = [axis for axis in axes if axis in self.axes]
        data = np.transpose(self.data, [self.axes.index(axis) for axis in own])
        shape = [self.data.shape[self.axes.index(axis)] if axis in self.axes else 1 for axis in axes]
        return np.broadcast_to(data.reshape(shape), [sizes[axis] for axis in axes])


def evaluate(node: Node, values: Values, sizes: Mapping[str, int], exact: bool = False) -> Array:
    """The value of a graph; exact values are mpmath numbers at the current precision."""
    return _Evaluator(values, sizes, _Exact() if exact else _Double()).value(node)


class _Double:
    """Double precision, through the primitives' own functions."""

    def number(self, value: Any) -> float:
        return float(value)

    def call(self, name: str, *arguments: Any) -> Any:
        try:
            return PRIMITIVES[name].value(*arguments)
        except OverflowError:
            return math.inf
        except (ValueError, ZeroDivisionError):
            return math.nan


class _Exact:
    """Arbitrary precision, every function from its definition."""

    def number(self, value: Any) -> Any:
        if isinstance(value, Fraction):
            return mp.mpf(value.numerator) / value.denominator
        return mp.pi if value == "pi" else mp.mpf(value)

    def call(self, name: str, *arguments: Any) -> Any:
        if any(mp.isnan(argument) for argument in arguments) and name != "where":
            return mp.nan
        try:
            result = _DEFINITIONS[name](*arguments)
        except (ValueError, ZeroDivisionError):
            return mp.nan
        return mp.nan if isinstance(result, mpmath.mpc) else mp.mpf(result)


def _product(*factors: Any) -> Any:
    result = mp.mpf(1)
    for factor in factors:
        result = result * factor
    return result


def _power(x: Any, y: Any) -> Any:
    if y == 0:
        return mp.mpf(1)
    return mp.inf if x == 0 and y < 0 else x**y


def _quotient(x: Any, y: Any) -> Any:
    return (mp.nan if x == 0 else mp.inf * mp.sign(x)) if y == 0 else x / y


def _log(x: Any) -> Any:
    return -mp.inf if x == 0 else mp.log(x)


_DEFINITIONS: dict[str, Callable[..., Any]] = {
    "add": lambda *terms: sum(terms, mp.mpf(0)),
    "mul": _product,
    "div": _quotient,
    "pow": _power,
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y,
    "eq": lambda x, y: x == y,
    "ne": lambda x, y: x != y,
    "and": lambda x, y: bool(x) and bool(y),
    "or": lambda x, y: bool(x) or bool(y),
    "not": lambda x: not x,
    "where": lambda c, x, y: x if c else y,
    "exp": mp.exp,
    "expm1": lambda x: mp.exp(x) - 1,
    "log": _log,
    "log1p": lambda x: _log(1 + x),
    "log2": lambda x: _log(x) / mp.log(2),
    "log1mexp": lambda x: _log(1 - mp.exp(x)),
    "logaddexp": lambda x, y: mp.log(mp.exp(x) + mp.exp(y)),
    "xlogy": lambda x, y: mp.mpf(0) if x == 0 else x * _log(y),
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "logsigmoid": lambda x: -mp.log(1 + mp.exp(-x)),
    "softplus": lambda x: mp.log(1 + mp.exp(x)),
    "sqrt": mp.sqrt,
    "abs": abs,
    "sign": mp.sign,
    "min": min,
    "max": max,
    "clip": lambda x, lo, hi: min(max(x, lo), hi),
    "relu": lambda x: max(x, mp.mpf(0)),
    "tanh": mp.tanh,
    "normcdf": lambda x: mp.erfc(-x / mp.sqrt(2)) / 2,
    "log_normcdf": lambda x: mp.log(mp.erfc(-x / mp.sqrt(2)) / 2),
}


class _Evaluator:
    def __init__(self, values: Values, sizes: Mapping[str, int], arithmetic: _Double | _Exact) -> None:
        self.values = values
        self.sizes = sizes
        self.arithmetic = arithmetic
        self.done: dict[Node, Array] = {}

    def value(self, node: Node) -> Array:
        if node not in self.done:
            self.done[node] = self._value(node)
        return self.done[node]

    def _value(self, node: Node) -> Array:
        match node:
            case core.Input(name=name, order=order) | core.Param(name=name, order=order):
                return self._tensor(self.values[name], order)
            case core.Const(value=value):
                return Array((), self._filled((), [self.arithmetic.number(value)]))
            case core.Size(axis=axis):
                return Array((), self._filled((), [self.arithmetic.number(self.sizes[axis])]))
            case core.Index(axis=axis):
                return Array((axis,), self._filled((axis,), map(self.arithmetic.number, range(self.sizes[axis]))))
            case core.StopGrad(body=body):
                return self.value(body)
            case core.Map(function=function, arguments=arguments):
                return self._map(function, [self.value(argument) for argument in arguments])
            case core.Select():
                return self._select(node)
            case core.Rename(body=body, old=old, new=new):
                inner = self.value(body)
                return self._tensor(inner.data, tuple(new if axis == old else axis for axis in inner.axes))
            case core.Reduce():
                return self._reduce(node)
            case core.Along():
                return self._along(node)
        raise TypeError(type(node).__name__)

    def _filled(self, axes: tuple[str, ...], numbers: Any) -> NDArray[Any]:
        data = np.empty([self.sizes[axis] for axis in axes], dtype=object)
        data.ravel()[:] = list(numbers)
        return data

    def _tensor(self, data: NDArray[Any], order: tuple[str, ...]) -> Array:
        numbers = np.asarray(data, dtype=object)
        converted = np.empty_like(numbers)
        for place in np.ndindex(numbers.shape):
            converted[place] = self.arithmetic.number(numbers[place])
        axes = tuple(sorted(order))
        return Array(axes, np.transpose(converted, [order.index(axis) for axis in axes]))

    def _map(self, function: str, arguments: list[Array]) -> Array:
        axes = tuple(sorted({axis for argument in arguments for axis in argument.axes}))
        parts = [argument.spread(axes, self.sizes) for argument in arguments]
        data = np.empty([self.sizes[axis] for axis in axes], dtype=object)
        for place in np.ndindex(data.shape):
            data[place] = self.arithmetic.call(function, *(part[place] for part in parts))
        return Array(axes, data)

    def _select(self, node: core.Select) -> Array:
        body = self.value(node.body)
        at = Array((), np.array(node.at, dtype=object)) if isinstance(node.at, int) else self.value(node.at)
        axes = tuple(sorted(node.axes))
        data = np.empty([self.sizes[axis] for axis in axes], dtype=object)
        for place in np.ndindex(data.shape):
            where = dict(zip(axes, place, strict=True))
            index = max(int(at.data[tuple(where[axis] for axis in at.axes)]), 0)
            data[place] = body.data[tuple(index if axis == node.axis else where[axis] for axis in body.axes)]
        return Array(axes, data)

    def _rows(self, node: core.Reduce | core.Along, over: tuple[str, ...]) -> tuple[tuple[str, ...], Array, Array]:
        """The axes that stay, and value and mask with the axes of the reduction last."""
        body = self.value(node.body)
        mask = self.value(node.where) if node.where is not None else Array((), np.array(True, dtype=object))
        kept = tuple(sorted((set(body.axes) | set(mask.axes)) - set(over)))
        axes = (*kept, *over)
        return kept, Array(axes, body.spread(axes, self.sizes)), Array(axes, mask.spread(axes, self.sizes))

    def _reduce(self, node: core.Reduce) -> Array:
        kept, body, mask = self._rows(node, node.over)
        data = np.empty([self.sizes[axis] for axis in kept], dtype=object)
        for place in np.ndindex(data.shape):
            entries = zip(np.ravel(body.data[place]), np.ravel(mask.data[place]), strict=True)
            data[place] = self._reduced(node.op, [entry for entry, admitted in entries if admitted])
        return Array(kept, data)

    def _reduced(self, op: str, entries: list[Any]) -> Any:
        call, number = self.arithmetic.call, self.arithmetic.number
        if op == "count":
            return number(len(entries))
        if op == "sum":
            return call("add", *entries) if entries else number(0)
        if op == "prod":
            return call("mul", *entries) if entries else number(1)
        if op == "any":
            return number(any(entries))
        if op == "all":
            return number(all(entries))
        if op == "logsumexp":
            return self._logsumexp(entries)
        if not entries:
            return number(0)
        if op == "mean":
            return call("div", call("add", *entries), number(len(entries)))
        return max(entries) if op == "max" else min(entries)

    def _logsumexp(self, entries: list[Any]) -> Any:
        call = self.arithmetic.call
        if not entries or max(entries) == -math.inf:
            return self.arithmetic.number(-math.inf)
        top = max(entries)
        shifted = [call("exp", call("add", entry, -top)) for entry in entries]
        return call("add", top, call("log", call("add", *shifted)))

    def _along(self, node: core.Along) -> Array:
        kept, body, mask = self._rows(node, (node.axis,))
        data = np.empty([self.sizes[axis] for axis in (*kept, node.axis)], dtype=object)
        for place in np.ndindex(data.shape[:-1]):
            data[place] = self._line(node.op, list(body.data[place]), list(mask.data[place]))
        return self._tensor(data, (*kept, node.axis))

    def _line(self, op: str, entries: list[Any], admitted: list[Any]) -> list[Any]:
        call, number = self.arithmetic.call, self.arithmetic.number
        inside = [entry for entry, seen in zip(entries, admitted, strict=True) if seen]
        if op in ("softmax", "log_softmax"):
            total = self._logsumexp(inside)
            logs = [call("add", entry, -total) if seen else None for entry, seen in zip(entries, admitted, strict=True)]
            if op == "log_softmax":  # what is absent can be anything, and nothing may depend on it
                return [number(math.nan) if log is None else log for log in logs]
            return [number(0) if log is None else call("exp", log) for log in logs]
        step = {"cumsum": "sum", "cumprod": "prod", "cumlogsumexp": "logsumexp"}[op]
        sofar = [[e for e, seen in zip(entries[: i + 1], admitted, strict=False) if seen] for i in range(len(entries))]
        return [self._reduced(step, part) for part in sofar]
