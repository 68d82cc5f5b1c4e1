"""Functions of exact numbers: computed where the result is rational, otherwise left alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

from lossc.compiler import core
from lossc.compiler.core import Const, Map, Node
from lossc.compiler.simplify.arithmetic import exact_power
from lossc.compiler.simplify.views import number

Exact = Callable[..., Fraction | None]
_HALF = Fraction(1, 2)


def _at_zero(value: int | Fraction) -> Exact:
    return lambda x: Fraction(value) if x == 0 else None


_EXACT: dict[str, Exact] = {
    "exp": _at_zero(1),
    "expm1": _at_zero(0),
    "log": lambda x: Fraction(0) if x == 1 else None,
    "log2": lambda x: Fraction(0) if x == 1 else None,
    "log1p": _at_zero(0),
    "sigmoid": _at_zero(_HALF),
    "tanh": _at_zero(0),
    "erf": _at_zero(0),
    "erfinv": _at_zero(0),
    "normcdf": _at_zero(_HALF),
    "sin": _at_zero(0),
    "cos": _at_zero(1),
    "tan": _at_zero(0),
    "arcsin": _at_zero(0),
    "arctan": _at_zero(0),
    "sqrt": lambda x: exact_power(x, _HALF),
    "abs": abs,
    "sign": lambda x: Fraction((x > 0) - (x < 0)),
    "relu": lambda x: max(x, Fraction(0)),
    "min": min,
    "max": max,
    "clip": lambda x, lo, hi: min(max(x, lo), hi),
    "floor": lambda x: Fraction(math.floor(x)),
    "ceil": lambda x: Fraction(math.ceil(x)),
    "round": lambda x: Fraction(round(x)),
    "mod": lambda x, y: x - y * math.floor(x / y) if y else None,
}

_FOLDED = frozenset((*_EXACT, "softplus"))


def folded(node: Map) -> Node:
    """A function of rationals, as a rational where it is one; the log of a number below 1 is minus the log of its inverse."""
    values = [number(argument) for argument in node.arguments]
    if node.function not in _FOLDED or any(value is None for value in values):
        return node
    exact = _EXACT[node.function](*values) if node.function in _EXACT else None
    if exact is not None:
        return Const(exact)
    (value,) = values if len(values) == 1 else (None,)
    if node.function == "log" and value is not None and 0 < value < 1:
        return core.neg(core.apply("log", Const(1 / value)))
    return core.apply("log", core.const(2)) if node.function == "softplus" and value == 0 else node


def smallest_or_largest(node: Map) -> Node:
    """`min` and `max`, flat, without duplicates, numbers decided, in one order."""
    flat: dict[Node, None] = {}
    stack = list(node.arguments)
    while stack:
        part = stack.pop()
        if isinstance(part, Map) and part.function == node.function:
            stack.extend(part.arguments)
        else:
            flat[part] = None
    values = [value for value in map(number, flat) if value is not None]
    parts = [part for part in flat if number(part) is None]
    if values:
        parts.append(Const(min(values) if node.function == "min" else max(values)))
    parts.sort(key=lambda part: part.digest)
    return parts[0] if len(parts) == 1 else Map(node.function, tuple(parts))
