"""The one table of elementwise functions.

The checker, the simplifier, the differentiator, the emitters and the documentation all read it. To add a function, add an
entry here and, if torch has no function of that name with the same conventions, one function in `runtime/operations/`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lossc.compiler import intervals as iv
from lossc.compiler.intervals import INF, Interval

Trend = Literal["increasing", "decreasing", "none"]
Curvature = Literal["affine", "convex", "concave", "none"]



@dataclass(frozen=True)
class Primitive:
    """One elementwise function.

    - `arity`: the number of arguments; None for an associative function of two or more.
    - `image`: the interval of its values, given those of the arguments.
    - `derivatives`: the derivative by each argument, an expression of the language over `x`, `y`, `z`; `""` for 0. Functions
      with mask values, and those whose slope is 0 wherever it exists, have none.
    - `value`: the function on floats, for constants and for tests of soundness.
    - `torch`: what computes it: `torch.…`, or `operations.…` (a function of `lossc.runtime.operations`) where torch's own has
      other conventions or is not finite where the mathematics is.
    - `latex`, `summary`: for display and documentation.
    - `domain`: where each argument may lie (None: anywhere). Outside of it values are NaN or infinite.
    - `safe`: arguments at which value and slope are finite. They take the place of excluded entries. None: any will do.
    - `trend`, `curvature`: monotonicity by each argument, and convexity.
    - `mask`: whether its values are masks.
    - `callable_`: whether the language has a function of this name. The others are operators.
    - `c`: its C expression over operands `{0}`, `{1}`, `{2}` of either precision; functions are those of `kernels/prelude.h`.
    """

    name: str
    arity: int | None
    image: Callable[..., Interval]
    derivatives: tuple[str, ...]
    value: Callable[..., float]
    torch: str
    latex: str
    summary: str
    domain: tuple[Interval | None, ...] = ()
    safe: tuple[float, ...] | None = None
    trend: tuple[Trend, ...] = ()
    curvature: Curvature = "none"
    mask: bool = False
    callable_: bool = True
    c: str = ""


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _log1mexp(x: float) -> float:
    if x > 0:
        return math.nan
    if x == 0:
        return -INF
    return math.log(-math.expm1(x)) if x > -math.log(2) else math.log1p(-math.exp(x))


def _logaddexp(x: float, y: float) -> float:
    top = max(x, y)
    return top if math.isinf(top) else top + math.log1p(math.exp(-abs(x - y)))


def _log(x: float) -> float:
    return -INF if x == 0 else math.log(x) if x > 0 else math.nan


def _exp(x: float) -> float:
    return INF if x > 709.7 else math.exp(x)


def _normcdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _log_normcdf(x: float) -> float:
    if x > 0:
        return math.log1p(-_normcdf(-x))
    if x > -10:
        return math.log(_normcdf(x))
    tail = 1 - 1 / x**2 + 3 / x**4 - 15 / x**6 + 105 / x**8
    return -x * x / 2 - math.log(-x) - math.log(2 * math.pi) / 2 + math.log(tail)


def _erfinv(y: float) -> float:
    if abs(y) >= 1:
        return math.copysign(INF, y) if abs(y) == 1 else math.nan
    x = 0.0
    for _ in range(100):
        step = (math.erf(x) - y) * math.sqrt(math.pi) / 2 * math.exp(min(x * x, 700))
        x -= max(-0.5, min(0.5, step))
        if abs(step) < 1e-15:
            break
    return x


def _digamma(x: float) -> float:
    shift = 0.0
    while x < 8:
        shift, x = shift - 1 / x, x + 1
    inv = 1 / (x * x)
    return shift + math.log(x) - 0.5 / x - inv * (1 / 12 - inv * (1 / 120 - inv / 252))


def _round(x: float) -> float:
    return float(round(x))


def _sign(x: float) -> float:
    return float((x > 0) - (x < 0))


def _pow(x: float, y: float) -> float:
    try:
        result = x**y
    except (OverflowError, ZeroDivisionError):
        return INF
    return math.nan if isinstance(result, complex) else float(result)


def _div(x: float, y: float) -> float:
    if y == 0:
        return math.nan if x == 0 or math.isnan(x) else math.copysign(INF, x)
    return x / y


def _step(function: Callable[[float], float]) -> Callable[[Interval], Interval]:
    def image(x: Interval) -> Interval:
        lo = x.lo if math.isinf(x.lo) else function(x.lo)
        hi = x.hi if math.isinf(x.hi) else function(x.hi)
        return Interval(lo, hi, integer=True)

    return image


def _always(interval: Interval) -> Callable[..., Interval]:
    return lambda *_: interval


def _where_image(_: Interval, a: Interval, b: Interval) -> Interval:
    return a.hull(b)


def _logaddexp_image(x: Interval, y: Interval) -> Interval:
    lo = -INF if -INF in (x.lo, y.lo) and INF not in (x.lo, y.lo) else _logaddexp(x.lo, y.lo)
    return Interval(max(lo, x.lo, y.lo), INF if INF in (x.hi, y.hi) else _logaddexp(x.hi, y.hi))


def _xlogy_image(x: Interval, y: Interval) -> Interval:
    return iv.mul(x, iv.increasing(_log)(y)).hull(iv.point(0)) if 0.0 in x else iv.mul(x, iv.increasing(_log)(y))


def _mod_image(x: Interval, y: Interval) -> Interval:
    whole = x.integer and y.integer
    return Interval(0, y.hi, integer=whole) if y.positive else Interval(integer=whole)


_DERIVATIVE_OF_NORMCDF = "exp(-x^2 / 2) / sqrt(2 * pi)"

_TABLE = (
    # -------------------------------------------------------------------------------- operators
    Primitive("add", None, iv.add, ("1",), lambda *a: math.fsum(a) if all(map(math.isfinite, a)) else sum(a),
              "operations.add", "", "sum", curvature="affine", trend=("increasing",), callable_=False, c="{0} + {1}"),
    Primitive("mul", None, iv.mul, (), lambda *a: math.prod(a), "operations.mul", "", "product", callable_=False,
              c="{0} * {1}"),
    Primitive("div", 2, iv.div, ("1 / y", "-x / y^2"), _div, "torch.div", r"\frac{{{0}}}{{{1}}}", "quotient",
              domain=(None, None), safe=(0.0, 1.0), callable_=False, c="{0} / {1}"),
    Primitive("pow", 2, iv.power, ("y * x^(y - 1)", "xlogy(x^y, x)"), _pow, "operations.power", "{0}^{{{1}}}",
              "power; x^0 is 1", safe=(1.0, 1.0), callable_=False, c="power({0}, {1})"),
    Primitive("lt", 2, _always(iv.MASK), (), lambda x, y: float(x < y), "torch.lt", "{0} < {1}", "less than", mask=True,
              callable_=False, c="{0} < {1}"),
    Primitive("le", 2, _always(iv.MASK), (), lambda x, y: float(x <= y), "torch.le", r"{0} \le {1}", "at most", mask=True,
              callable_=False, c="{0} <= {1}"),
    Primitive("eq", 2, _always(iv.MASK), (), lambda x, y: float(x == y), "torch.eq", "{0} = {1}", "equal", mask=True,
              callable_=False, c="{0} == {1}"),
    Primitive("ne", 2, _always(iv.MASK), (), lambda x, y: float(x != y), "torch.ne", r"{0} \ne {1}", "not equal",
              mask=True, callable_=False, c="{0} != {1}"),
    Primitive("and", 2, _always(iv.MASK), (), lambda x, y: float(bool(x) and bool(y)), "torch.logical_and",
              r"{0} \wedge {1}", "both", mask=True, callable_=False, c="{0} & {1}"),
    Primitive("or", 2, _always(iv.MASK), (), lambda x, y: float(bool(x) or bool(y)), "torch.logical_or", r"{0} \vee {1}",
              "either", mask=True, callable_=False, c="{0} | {1}"),
    Primitive("not", 1, _always(iv.MASK), (), lambda x: float(not x), "torch.logical_not", r"\neg {0}", "negation",
              mask=True, callable_=False, c="!{0}"),
    Primitive("where", 3, _where_image, ("", "1 if x else 0", "0 if x else 1"), lambda c, a, b: a if c else b,
              "torch.where", r"{1} \text{{ if }} {0} \text{{ else }} {2}", "choice between two branches",
              callable_=False, c="{0} ? {1} : {2}"),
    # -------------------------------------------------------------------------------- exponentials and logarithms
    Primitive("exp", 1, iv.increasing(_exp), ("exp(x)",), _exp, "torch.exp", "e^{{{0}}}", "exponential", safe=(0.0,),
              trend=("increasing",), curvature="convex", c="exponential({0})"),
    Primitive("expm1", 1, iv.increasing(lambda x: _exp(x) - 1), ("exp(x)",), math.expm1, "torch.expm1", "e^{{{0}}} - 1",
              "exp(x) - 1, exact near 0", safe=(0.0,), trend=("increasing",), curvature="convex", c="exp_minus_1({0})"),
    Primitive("log", 1, iv.increasing(_log), ("1 / x",), _log, "torch.log", r"\log {0}", "natural logarithm (nats)",
              domain=(iv.NONNEG,), safe=(1.0,), trend=("increasing",), curvature="concave", c="logarithm({0})"),
    Primitive("log1p", 1, iv.increasing(lambda x: _log(1 + x)), ("1 / (1 + x)",), lambda x: math.log1p(x) if x > -1 else
              (-INF if x == -1 else math.nan), "torch.log1p", r"\log(1 + {0})", "log(1 + x), exact near 0",
              domain=(Interval(-1, INF),), safe=(0.0,), trend=("increasing",), curvature="concave", c="log_1_plus({0})"),
    Primitive("log2", 1, iv.increasing(lambda x: _log(x) / math.log(2)), ("1 / (x * log(2))",),
              lambda x: _log(x) / math.log(2), "torch.log2", r"\log_2 {0}", "logarithm to base 2 (bits)",
              domain=(iv.NONNEG,), safe=(1.0,), trend=("increasing",), curvature="concave", c="log_base_2({0})"),
    Primitive("log1mexp", 1, iv.decreasing(_log1mexp), ("-1 / expm1(-x)",), _log1mexp, "operations.log1mexp",
              r"\log(1 - e^{{{0}}})", "log(1 - exp(x)) for x < 0, exact near 0", domain=(Interval(-INF, 0),), safe=(-1.0,),
              trend=("decreasing",), curvature="concave", c="log_1_minus_exp({0})"),
    Primitive("logaddexp", 2, _logaddexp_image, ("sigmoid(x - y)", "sigmoid(y - x)"), _logaddexp, "operations.logaddexp",
              r"\log(e^{{{0}}} + e^{{{1}}})", "log(exp(x) + exp(y))", safe=(0.0, 0.0), trend=("increasing", "increasing"),
              curvature="convex", c="log_add_exp({0}, {1})"),
    Primitive("xlogy", 2, _xlogy_image, ("log(y)", "x / y"), lambda x, y: 0.0 if x == 0 and not math.isnan(y) else
              x * _log(y), "operations.xlogy", r"{0} \log {1}", "x * log(y), 0 where x is 0", domain=(None, iv.NONNEG),
              safe=(0.0, 1.0), c="x_log_y({0}, {1})"),
    Primitive("sigmoid", 1, lambda x: iv.increasing(_sigmoid)(x).intersect(Interval(0, 1, True, True)),
              ("sigmoid(x) * sigmoid(-x)",), _sigmoid, "torch.sigmoid", r"\sigma({0})", "1 / (1 + exp(-x))",
              trend=("increasing",), c="sigmoid({0})"),
    Primitive("logsigmoid", 1, iv.increasing(lambda x: -_softplus(-x)), ("sigmoid(-x)",), lambda x: -_softplus(-x),
              "operations.logsigmoid", r"\log \sigma({0})", "log(sigmoid(x)), exact", trend=("increasing",),
              curvature="concave", c="-softplus(-{0})"),
    Primitive("softplus", 1, iv.increasing(_softplus), ("sigmoid(x)",), _softplus, "operations.softplus",
              r"\log(1 + e^{{{0}}})", "log(1 + exp(x)), exact", trend=("increasing",), curvature="convex",
              c="softplus({0})"),
    # -------------------------------------------------------------------------------- powers and roots, pieces
    Primitive("sqrt", 1, iv.increasing(lambda x: math.sqrt(x)), ("1 / (2 * sqrt(x))",),
              lambda x: math.sqrt(x) if x >= 0 else math.nan, "torch.sqrt", r"\sqrt{{{0}}}", "square root",
              domain=(iv.NONNEG,), safe=(1.0,), trend=("increasing",), curvature="concave", c="square_root({0})"),
    Primitive("abs", 1, iv.absolute, ("sign(x)",), abs, "torch.abs", r"\lvert {0} \rvert", "absolute value; slope 0 at 0",
              curvature="convex", c="absolute({0})"),
    Primitive("sign", 1, _always(Interval(-1, 1, integer=True)), ("",), _sign, "operations.sign",
              r"\operatorname{{sign}} {0}", "-1, 0 or 1; slope 0", c="sign_of({0})"),
    Primitive("min", None, iv.minimum, ("1 if x < y else 0.5 if x == y else 0", "1 if y < x else 0.5 if x == y else 0"),
              min, "operations.minimum", r"\min({args})", "smallest; ties share the gradient",
              trend=("increasing",), curvature="concave", c="smaller({0}, {1})"),
    Primitive("max", None, iv.maximum, ("1 if x > y else 0.5 if x == y else 0", "1 if y > x else 0.5 if x == y else 0"),
              max, "operations.maximum", r"\max({args})", "largest; ties share the gradient",
              trend=("increasing",), curvature="convex", c="larger({0}, {1})"),
    Primitive("clip", 3, lambda x, lo, hi: iv.minimum(iv.maximum(x, lo), hi),
              ("1 if x >= y and x <= z else 0", "1 if x < y and y <= z else 0", "1 if x > z or y > z else 0"),
              lambda x, lo, hi: min(max(x, lo), hi), "operations.clip", r"\operatorname{{clip}}({0}, {1}, {2})",
              "x within [lo, hi]; the bounds pass the gradient", trend=("increasing", "increasing", "increasing"),
              c="clipped({0}, {1}, {2})"),
    Primitive("floor", 1, _step(math.floor), ("",), math.floor, "torch.floor", r"\lfloor {0} \rfloor",
              "largest integer at most x; slope 0", trend=("increasing",), c="round_down({0})"),
    Primitive("ceil", 1, _step(math.ceil), ("",), math.ceil, "torch.ceil", r"\lceil {0} \rceil",
              "smallest integer at least x; slope 0", trend=("increasing",), c="round_up({0})"),
    Primitive("round", 1, _step(_round), ("",), _round, "torch.round", r"\operatorname{{round}} {0}",
              "nearest integer, ties to even; slope 0", trend=("increasing",), c="round_even({0})"),
    Primitive("mod", 2, _mod_image, ("1", "-floor(x / y)"), lambda x, y: math.nan if y == 0 else x - y * math.floor(x / y),
              "torch.remainder", r"{0} \bmod {1}", "x - y * floor(x / y)", safe=(0.0, 1.0),
              c="{0} - {1} * round_down({0} / {1})"),
    Primitive("relu", 1, lambda x: iv.maximum(x, iv.point(0)), ("1 if x > 0 else 0",), lambda x: max(x, 0.0),
              "torch.relu", r"\max({0}, 0)", "max(x, 0); slope 0 at 0", trend=("increasing",), curvature="convex",
              c="rectified({0})"),
    # -------------------------------------------------------------------------------- special and trigonometric
    Primitive("tanh", 1, lambda x: iv.increasing(math.tanh)(x).intersect(Interval(-1, 1, True, True)), ("1 - tanh(x)^2",),
              math.tanh, "torch.tanh", r"\tanh {0}", "hyperbolic tangent", trend=("increasing",),
              c="hyperbolic_tangent({0})"),
    Primitive("erf", 1, iv.increasing(math.erf), ("2 * exp(-x^2) / sqrt(pi)",), math.erf, "torch.erf",
              r"\operatorname{{erf}} {0}", "error function", trend=("increasing",), c="by_double(erf, {0})"),
    Primitive("erfinv", 1, iv.increasing(_erfinv), ("sqrt(pi) / 2 * exp(erfinv(x)^2)",), _erfinv, "torch.erfinv",
              r"\operatorname{{erf}}^{{-1}} {0}", "inverse of erf", domain=(Interval(-1, 1),), safe=(0.0,),
              trend=("increasing",), c="by_double(inverse_erf, {0})"),
    Primitive("normcdf", 1, iv.increasing(_normcdf), (_DERIVATIVE_OF_NORMCDF,), _normcdf, "torch.special.ndtr",
              r"\Phi({0})", "standard normal distribution function", trend=("increasing",),
              c="by_double(normal_distribution, {0})"),
    Primitive("log_normcdf", 1, iv.increasing(_log_normcdf),
              ("exp(-x^2 / 2 - log_normcdf(x)) / sqrt(2 * pi)",), _log_normcdf, "operations.log_normcdf",
              r"\log \Phi({0})", "log(normcdf(x)), exact in the lower tail", trend=("increasing",), curvature="concave",
              c="by_double(log_normcdf_of, {0})"),
    Primitive("lgamma", 1, _always(iv.REAL), ("digamma(x)",), lambda x: math.lgamma(x) if x > 0 or x % 1 else INF,
              "torch.lgamma", r"\log \Gamma({0})", "log of the absolute gamma function", domain=(iv.POSITIVE,),
              safe=(1.0,), c="by_double(lgamma, {0})"),
    Primitive("digamma", 1, _always(iv.REAL), ("trigamma(x)",), _digamma, "torch.digamma", r"\psi({0})",
              "slope of lgamma", domain=(iv.POSITIVE,), safe=(1.0,), c="by_double(digamma_of, {0})"),
    Primitive("trigamma", 1, _always(iv.REAL), (), lambda x: _trigamma(x), "operations.trigamma", r"\psi_1({0})",
              "slope of digamma", domain=(iv.POSITIVE,), safe=(1.0,), c="by_double(trigamma_of, {0})"),
    Primitive("sin", 1, _always(Interval(-1, 1)), ("cos(x)",), math.sin, "torch.sin", r"\sin {0}", "sine",
              c="by_double(sin, {0})"),
    Primitive("cos", 1, _always(Interval(-1, 1)), ("-sin(x)",), math.cos, "torch.cos", r"\cos {0}", "cosine",
              c="by_double(cos, {0})"),
    Primitive("tan", 1, _always(iv.REAL), ("1 + tan(x)^2",), math.tan, "torch.tan", r"\tan {0}", "tangent",
              safe=(0.0,), c="by_double(tan, {0})"),
    Primitive("arcsin", 1, iv.increasing(math.asin), ("1 / sqrt(1 - x^2)",), math.asin, "torch.asin", r"\arcsin {0}",
              "inverse sine", domain=(iv.SIGN,), safe=(0.0,), trend=("increasing",), c="by_double(asin, {0})"),
    Primitive("arccos", 1, iv.decreasing(math.acos), ("-1 / sqrt(1 - x^2)",), math.acos, "torch.acos", r"\arccos {0}",
              "inverse cosine", domain=(iv.SIGN,), safe=(0.0,), trend=("decreasing",), c="by_double(acos, {0})"),
    Primitive("arctan", 1, iv.increasing(math.atan), ("1 / (1 + x^2)",), math.atan, "torch.atan", r"\arctan {0}",
              "inverse tangent", trend=("increasing",), c="by_double(atan, {0})"),
    Primitive("atan2", 2, _always(Interval(-math.pi, math.pi)), ("y / (x^2 + y^2)", "-x / (x^2 + y^2)"), math.atan2,
              "torch.atan2", r"\operatorname{{atan2}}({0}, {1})", "angle of the point (y, x)", safe=(0.0, 1.0),
              c="by_double_2(atan2, {0}, {1})"),
)  # fmt: skip


def _trigamma(x: float) -> float:
    total = 0.0
    while x < 10:
        total, x = total + 1 / (x * x), x + 1
    inv = 1 / (x * x)
    return total + 1 / x + inv / 2 + inv / x * (1 / 6 - inv * (1 / 30 - inv / 42))


PRIMITIVES: dict[str, Primitive] = {entry.name: entry for entry in _TABLE}

COMPARISONS = ("lt", "le", "eq", "ne")

FUNCTIONS: dict[str, Primitive] = {name: entry for name, entry in PRIMITIVES.items() if entry.callable_}
"""The primitives that the language has as functions of that name."""
