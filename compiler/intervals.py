"""Domains: the interval of the reals in which a value is known to lie."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

INF = math.inf


@dataclass(frozen=True)
class Interval:
    """The reals from `lo` to `hi`. An open end does not belong to it; an infinite end is always open or unknown.

    An interval describes the mathematics, not the floating-point value: `softmax` lies in (0, 1) although it may
    underflow to 0.
    """

    lo: float = -INF
    hi: float = INF
    lo_open: bool = False
    hi_open: bool = False
    integer: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.lo or (value == self.lo and not self.lo_open)
        below = value < self.hi or (value == self.hi and not self.hi_open)
        return above and below and (not self.integer or math.isinf(value) or value == math.floor(value))

    def __str__(self) -> str:
        left = "(" if self.lo_open or self.lo == -INF else "["
        right = ")" if self.hi_open or self.hi == INF else "]"
        return f"{left}{_number(self.lo)}, {_number(self.hi)}{right}"

    def within(self, other: Interval) -> bool:
        """Whether every value of this interval lies in `other` (apart from integrality)."""
        above = self.lo > other.lo or (self.lo == other.lo and (self.lo_open or not other.lo_open))
        below = self.hi < other.hi or (self.hi == other.hi and (self.hi_open or not other.hi_open))
        return above and below

    def meets(self, other: Interval) -> bool:
        """Whether the two have a value in common."""
        both = self.intersect(other)
        return both.lo < both.hi or (both.lo == both.hi and not both.lo_open and not both.hi_open)

    def hull(self, other: Interval) -> Interval:
        """The smallest interval that contains both."""
        lo, lo_open = min((self.lo, self.lo_open), (other.lo, other.lo_open))
        hi, hi_closed = max((self.hi, not self.hi_open), (other.hi, not other.hi_open))
        return Interval(lo, hi, lo_open, not hi_closed, self.integer and other.integer)

    def intersect(self, other: Interval) -> Interval:
        lo, lo_open = max((self.lo, self.lo_open), (other.lo, other.lo_open))
        hi, hi_closed = min((self.hi, not self.hi_open), (other.hi, not other.hi_open))
        return Interval(lo, hi, lo_open, not hi_closed, self.integer or other.integer)

    @property
    def nonneg(self) -> bool:
        return self.lo >= 0

    @property
    def positive(self) -> bool:
        return self.lo > 0 or (self.lo == 0 and self.lo_open)

    @property
    def nonpos(self) -> bool:
        return self.hi <= 0

    @property
    def negative(self) -> bool:
        return self.hi < 0 or (self.hi == 0 and self.hi_open)

    @property
    def nonzero(self) -> bool:
        return 0.0 not in self

    @property
    def finite(self) -> bool:
        return self.lo > -INF and self.hi < INF


def _number(value: float) -> str:
    return "inf" if value == INF else "-inf" if value == -INF else f"{value:g}"


REAL = Interval()
POSITIVE = Interval(0, INF, lo_open=True)
NONNEG = Interval(0, INF)
UNIT = Interval(0, 1)
SIGN = Interval(-1, 1)
INTEGER = Interval(integer=True)
MASK = Interval(0, 1, integer=True)
LOGPROB = Interval(-INF, 0)


def point(value: float) -> Interval:
    """The interval that contains only `value`."""
    return Interval(value, value, integer=math.isfinite(value) and value == math.floor(value))


def hull(intervals: list[Interval]) -> Interval:
    result = intervals[0]
    for interval in intervals[1:]:
        result = result.hull(interval)
    return result


def increasing(function: Callable[[float], float]) -> Callable[[Interval], Interval]:
    """The image of an interval under a strictly increasing function."""

    def image(x: Interval) -> Interval:
        return Interval(_at(function, x.lo, -INF), _at(function, x.hi, INF), x.lo_open, x.hi_open)

    return image


def decreasing(function: Callable[[float], float]) -> Callable[[Interval], Interval]:
    """The image of an interval under a strictly decreasing function."""

    def image(x: Interval) -> Interval:
        return Interval(_at(function, x.hi, -INF), _at(function, x.lo, INF), x.hi_open, x.lo_open)

    return image


def _at(function: Callable[[float], float], value: float, fallback: float) -> float:
    try:
        result = function(value)
    except (ValueError, OverflowError, ZeroDivisionError):
        return fallback
    return fallback if math.isnan(result) else result


def add(*terms: Interval) -> Interval:
    lo, hi = _sum([t.lo for t in terms], -INF), _sum([t.hi for t in terms], INF)
    return Interval(
        lo, hi, any(t.lo_open for t in terms), any(t.hi_open for t in terms), all(t.integer for t in terms)
    )


def _sum(ends: list[float], undefined: float) -> float:
    total = sum(ends)
    return undefined if math.isnan(total) else total


def mul(*factors: Interval) -> Interval:
    result = factors[0]
    for factor in factors[1:]:
        result = _mul(result, factor)
    return result


def _mul(a: Interval, b: Interval) -> Interval:
    corners = [
        (_times(x, y), _open(x, x_open, y, y_open))
        for x, x_open in ((a.lo, a.lo_open), (a.hi, a.hi_open))
        for y, y_open in ((b.lo, b.lo_open), (b.hi, b.hi_open))
    ]
    lo, lo_open = min(corners)
    hi, hi_closed = max((value, not is_open) for value, is_open in corners)
    return Interval(lo, hi, lo_open, not hi_closed, a.integer and b.integer)


def _times(x: float, y: float) -> float:
    return 0.0 if x == 0 or y == 0 else x * y


def _open(x: float, x_open: bool, y: float, y_open: bool) -> bool:
    if (x == 0 and not x_open) or (y == 0 and not y_open):
        return False
    return x_open or y_open


def scale(x: Interval, factor: float) -> Interval:
    return mul(point(factor), x)


def reciprocal(x: Interval) -> Interval:
    if x.lo < 0 < x.hi or x.lo == x.hi == 0:
        return REAL
    lo = -INF if x.hi == 0 else 1 / x.hi
    hi = INF if x.lo == 0 else 1 / x.lo
    return Interval(lo, hi, x.hi_open or math.isinf(x.hi), x.lo_open or math.isinf(x.lo))


def div(x: Interval, y: Interval) -> Interval:
    return mul(x, reciprocal(y))


def power(x: Interval, y: Interval) -> Interval:
    """x^y; narrow for constant exponents and for bases that are not negative."""
    if y.lo == y.hi and y.integer and not math.isinf(y.lo):
        return _integer_power(x, int(y.lo))
    if x.nonneg:
        corners = [_at(lambda base, e=e: base**e, base, INF) for base in (x.lo, x.hi) for e in (y.lo, y.hi)]  # type: ignore[misc]
        within_unit = x.hi <= 1 and y.nonneg
        lo = 0.0 if y.lo == -INF or y.hi == INF else min(corners)
        hi = 1.0 if within_unit else max(corners)
        below_one = within_unit and y.positive and 1 not in x
        return Interval(lo, hi, lo_open=lo == 0 and x.positive, hi_open=below_one)
    return REAL


def _integer_power(x: Interval, n: int) -> Interval:
    if n == 0:
        return point(1)
    if n < 0:
        return reciprocal(_integer_power(x, -n))
    ends = [(_at(lambda b: b**n, x.lo, -INF if n % 2 else INF), x.lo_open), (_at(lambda b: b**n, x.hi, INF), x.hi_open)]
    if n % 2 or x.nonneg:
        return Interval(ends[0][0], ends[1][0], ends[0][1], ends[1][1], x.integer)
    if x.nonpos:
        return Interval(ends[1][0], ends[0][0], ends[1][1], ends[0][1], x.integer)
    hi, hi_closed = max((value, not is_open) for value, is_open in ends)
    return Interval(0, hi, False, not hi_closed, x.integer)


def absolute(x: Interval) -> Interval:
    if x.nonneg:
        return x
    if x.nonpos:
        return scale(x, -1)
    return Interval(0, max(-x.lo, x.hi), integer=x.integer)


def minimum(*args: Interval) -> Interval:
    lo, lo_open = min((a.lo, a.lo_open) for a in args)
    hi, hi_closed = min((a.hi, not a.hi_open) for a in args)
    return Interval(lo, hi, lo_open, not hi_closed, all(a.integer for a in args))


def maximum(*args: Interval) -> Interval:
    lo, lo_open = max((a.lo, a.lo_open) for a in args)
    hi, hi_closed = max((a.hi, not a.hi_open) for a in args)
    return Interval(lo, hi, lo_open, not hi_closed, all(a.integer for a in args))
