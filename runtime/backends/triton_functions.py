"""Functions that generated Triton kernels call, under the kernel names in the table of primitives.

All are elementwise, propagate NaN, and are exact where the name promises it: `log_1_plus` and `exp_minus_1` near 0,
`softplus` and the like everywhere.
"""

from __future__ import annotations

import triton
import triton.language as tl

# mypy: disable-error-code="no-untyped-def, untyped-decorator"


@triton.jit
def both(x, y):
    """The conjunction; also of a row mask and a class mask, which Triton's interpreter cannot broadcast as bits."""
    return x.to(tl.int32) * y.to(tl.int32) != 0


@triton.jit
def finite_or_zero(x):
    return tl.where((x == x) & (tl.abs(x) < float("inf")), x, 0.0)


@triton.jit
def largest_of(top, odd, some):
    return tl.where(odd != 0, float("nan"), tl.where(some != 0, top, 0.0))


@triton.jit
def place_of(place, top, classes):
    none = (top == float("-inf")) | (place >= classes)
    return tl.where(none, -1, place).to(tl.int64)


@triton.jit
def exponential(x):
    return tl.exp(x)


@triton.jit
def logarithm(x):
    return tl.log(x)


@triton.jit
def square_root(x):
    return tl.sqrt(x)


@triton.jit
def absolute(x):
    return tl.abs(x)


@triton.jit
def round_down(x):
    return tl.floor(x)


@triton.jit
def round_up(x):
    return tl.ceil(x)


@triton.jit
def round_even(x):
    low = tl.floor(x)
    part = x - low
    even = low - 2.0 * tl.floor(low * 0.5)
    up = (part > 0.5) | ((part == 0.5) & (even == 1.0))
    return tl.where(up, low + 1.0, low)


@triton.jit
def log_1_plus(x):
    """log(1 + x), corrected by the rounding error of 1 + x."""
    u = 1.0 + x
    near = tl.where(u == 1.0, 1.0, u - 1.0)
    exact = tl.log(u) * (x / near)
    return tl.where(u == 1.0, x, tl.where(u == float("inf"), u, exact))


@triton.jit
def exp_minus_1(x):
    """exp(x) - 1; near 0 by its series, of which eight terms suffice for double precision."""
    series = x * (1 + x / 2 * (1 + x / 3 * (1 + x / 4 * (1 + x / 5 * (1 + x / 6 * (1 + x / 7 * (1 + x / 8 * (1 + x / 9))))))))
    return tl.where(tl.abs(x) < 0.05, series, tl.exp(x) - 1.0)


@triton.jit
def sigmoid(x):
    small = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0, small) / (1.0 + small)


@triton.jit
def softplus(x):
    return tl.where(x > 0, x, tl.where(x == x, 0.0, x)) + log_1_plus(tl.exp(-tl.abs(x)))


@triton.jit
def log_base_2(x):
    return tl.log2(x)


@triton.jit
def log_1_minus_exp(x):
    near = x > -0.6931471805599453
    return tl.where(near, tl.log(-exp_minus_1(tl.where(near, x, -1.0))), log_1_plus(-tl.exp(tl.where(near, -1.0, x))))


@triton.jit
def log_add_exp(x, y):
    top = larger(x, y)
    low = smaller(x, y)
    gap = tl.where(top == low, 0.0, low - top)
    return tl.where(tl.abs(top) == float("inf"), top, top + log_1_plus(tl.exp(gap)))


@triton.jit
def x_log_y(x, y):
    return tl.where(both(x == 0.0, y == y), 0.0, x * tl.log(y))


@triton.jit
def weigh(weight, log):
    return tl.where(both(weight == 0.0, log == log), 0.0, weight * log)


@triton.jit
def sign_of(x):
    return tl.where(x > 0, 1.0, tl.where(x < 0, -1.0, x))


@triton.jit
def larger(x, y):
    return tl.where((x > y).to(tl.int32) + (x != x).to(tl.int32) != 0, x, y)


@triton.jit
def smaller(x, y):
    return tl.where((x < y).to(tl.int32) + (x != x).to(tl.int32) != 0, x, y)


@triton.jit
def clipped(x, low, high):
    return smaller(larger(x, low), high)


@triton.jit
def rectified(x):
    return tl.where((x > 0) | (x != x), x, 0.0)


@triton.jit
def hyperbolic_tangent(x):
    twice = exp_minus_1(-2.0 * tl.abs(x))
    size = -twice / (twice + 2.0)
    return tl.where(x < 0, -size, size)


@triton.jit
def power(x, y):
    """x^y; x^0 is 1, and a negative x may only be raised to whole numbers."""
    size = tl.exp(y * tl.log(tl.abs(x)))
    whole = tl.floor(y) == y
    odd = (y - 2.0 * tl.floor(y * 0.5)) == 1.0
    signed = tl.where(x < 0, tl.where(whole, tl.where(odd, -size, size), float("nan")), size)
    at_zero = tl.where(y > 0, 0.0, float("inf"))
    return tl.where(y == 0.0, 1.0, tl.where(x == 0.0, at_zero, signed))


@triton.jit
def normal_distribution(x):
    return 0.5 * (1.0 + tl.erf(x * 0.7071067811865476))
