"""Constant expressions: their exact value where it is rational, otherwise a float."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import cast

from lossc.compiler.core import Const, Map, Node, Param, substitute, walk
from lossc.compiler.primitives import PRIMITIVES

Number = Fraction | float

_EXACT_BITS = 8192
"""A longer numerator or denominator is rounded: values given by others must not grow without bound."""

_EXACT_POWER = 64
"""Integer powers up to this exponent are computed exactly; a larger one is rounded."""


def constant_value(node: Node, params: Mapping[str, Number] | None = None) -> Number | None:
    """The value of a scalar expression of constants (and of the given parameters); None where it has other parts."""
    if params:
        node = substitute(node, {leaf: _given(params[leaf.name]) for leaf in walk(node)
                                 if isinstance(leaf, Param) and leaf.name in params})  # fmt: skip
    return _constant(node)


def _given(value: Number) -> Const:
    return Const(Fraction(value)) if math.isfinite(value) else Const("inf")


def _constant(node: Node) -> Number | None:
    """Cached for each node, so that asking at every stage of a long chain costs as much as asking once."""
    stack = [node]
    while stack:
        part = stack[-1]
        unknown = [child for child in part.children if not (child.axes or _known(child))]
        if _known(part) or not unknown:
            stack.pop()
            if not _known(part):
                object.__setattr__(part, "_constant", _value(part))
        else:
            stack.extend(unknown)
    return cast("Number | None", node.__dict__["_constant"])


def _known(node: Node) -> bool:
    return "_constant" in node.__dict__


def _value(part: Node) -> Number | None:
    match part:
        case Const(value=Fraction() as exact):
            return exact
        case Const():
            return float(part)
        case Map(function=function, arguments=arguments):
            known = (None if argument.axes else argument.__dict__["_constant"] for argument in arguments)
            values = tuple(value for value in known if value is not None)
            return evaluate(function, values) if len(values) == len(arguments) else None
    return None


def exact_bits(node: Node) -> int:
    """About how many bits the exact numbers have that algebra would make from an expression.

    Products add them up: with `a * a` of a let that is `a * a` of a let, and so on, they double with each line.
    """
    stack = [node]
    while stack:
        part = stack[-1]
        unknown = [child for child in part.children if "_bits" not in child.__dict__]
        if "_bits" in part.__dict__ or not unknown:
            stack.pop()
            if "_bits" not in part.__dict__:
                object.__setattr__(part, "_bits", _bits(part))
        else:
            stack.extend(unknown)
    return cast(int, node.__dict__["_bits"])


def _bits(part: Node) -> int:
    if isinstance(part, Const):
        exact = part.value if isinstance(part.value, Fraction) else Fraction(1)
        return max(exact.numerator.bit_length(), exact.denominator.bit_length()) - 1
    below = [cast(int, child.__dict__["_bits"]) for child in part.children]
    match part:
        case Map(function="mul" | "div"):
            return sum(below)
        case Map(function="pow", arguments=(_, Const(value=Fraction() as exponent))):
            return below[0] * max(1, math.ceil(abs(exponent)))
    return max(below, default=0)


def evaluate(function: str, arguments: tuple[Number, ...]) -> Number | None:
    """A primitive on numbers: exact for arithmetic on rationals; None where the result is not a number."""
    if all(isinstance(argument, Fraction) for argument in arguments):
        exact = _exact(function, arguments)  # type: ignore[arg-type]
        if exact is not None:
            return exact if _small(exact) else as_float(exact)
    try:
        value = PRIMITIVES[function].value(*(as_float(argument) for argument in arguments))
    except (ValueError, OverflowError, ZeroDivisionError):
        return None
    return None if math.isnan(value) else value


def _small(value: Fraction) -> bool:
    return max(value.numerator.bit_length(), value.denominator.bit_length()) <= _EXACT_BITS


def _exact(function: str, arguments: tuple[Fraction, ...]) -> Fraction | None:
    if function == "add":
        return sum(arguments, Fraction(0))
    if function == "mul":
        return math.prod(arguments, start=Fraction(1))
    if function == "div":
        return arguments[0] / arguments[1] if arguments[1] else None
    if function == "pow":
        base, exponent = arguments
        small = exponent.denominator == 1 and abs(exponent) <= _EXACT_POWER and (base != 0 or exponent >= 0)
        return base ** int(exponent) if small else None
    if function in ("min", "max"):
        return min(arguments) if function == "min" else max(arguments)
    return abs(arguments[0]) if function == "abs" else None


def as_float(value: Number) -> float:
    """The nearest float; infinite where it is out of range."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
