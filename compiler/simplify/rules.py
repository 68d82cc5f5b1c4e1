"""The rewrite rules, as data.

A rule says that `pattern`, under its conditions, equals `result`; results use the more stable primitives. Both are
formulas of the language (`patterns.py` defines what their names match). Tests check every rule of this table for
soundness at random points and at extremes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from lossc.compiler.core import Node
from lossc.compiler.simplify.patterns import pattern


@dataclass(frozen=True)
class Rule:
    """`pattern` equals `result` under all `conditions`; `why` says what is gained."""

    name: str
    pattern: str
    result: str
    conditions: tuple[str, ...] = ()
    why: str = ""

    @cached_property
    def left(self) -> Node:
        return pattern(self.pattern)

    @cached_property
    def right(self) -> Node:
        return pattern(self.result)

    @cached_property
    def tests(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The conditions, each as a predicate and the variables that it takes; `[v]` is what an axis is bound to."""
        return tuple(_condition(text) for text in self.conditions)


def _condition(text: str) -> tuple[str, tuple[str, ...]]:
    name, _, arguments = text.removesuffix(")").partition("(")
    return name, tuple(argument.strip() for argument in arguments.split(","))


_OVERFLOW = "the exponential overflows, its log does not"
_CANCELS = "near 1 the difference loses its digits"

LOGARITHMS = (
    Rule("log of exp", "log(exp(x))", "x", (), _OVERFLOW),
    Rule("log of softmax", "log(softmax[v](z))", "log_softmax[v](z)", (), "softmax underflows to 0"),
    Rule("log of masked softmax", "log(softmax[v where m](z))", "log_softmax[v where m](z) if m else -inf",
         ("given(m)",), "softmax underflows to 0"),
    Rule("log of sigmoid", "log(sigmoid(x))", "-softplus(-x)", (), "sigmoid underflows to 0"),
    Rule("log of normcdf", "log(normcdf(x))", "log_normcdf(x)", (), "normcdf underflows to 0"),
    Rule("log of a selection", "log(p[v = y])", "log(p)[v = y]", ("loggable(p)",), "the log is stable before reading"),
    Rule("log of a renamed axis", "log(p[v -> w])", "log(p)[v -> w]", ("loggable(p)",), "one form"),
    Rule("log of a constant copy", "log(sg(p))", "sg(log(p))", ("loggable(p)",), "one form"),
    Rule("log of 1 - exp", "log(-expm1(x))", "log1mexp(x)", (), _CANCELS),
    Rule("log of a product with 1 - exp", "log(-rest * expm1(x))", "log(rest) + log1mexp(x)",
         ("positive(rest)", "nontrivial(rest)"), _CANCELS),
    Rule("log of the odds", "log(-rest / expm1(x))", "log(rest) - log1mexp(x)", ("positive(rest)",),
         "at 1 the sign of the divisor is lost"),
    Rule("log of exp - 1", "log(expm1(x))", "x + log1mexp(-x)", (), _OVERFLOW),
    Rule("log of a product", "log(rest * p)", "log(rest) + log(p)",
         ("normaliser(p)", "nontrivial(rest)", "not_negative(rest)"), _OVERFLOW),
    Rule("log of a ratio of probabilities", "log(rest / p)", "log(rest) - log(p)", ("unit(rest)", "unit(p)"),
         "0/0 of two empty classes"),
    Rule("log of a product of probabilities", "log(rest * p)", "log(rest) + log(p)",
         ("unit(rest)", "unit(p)", "nontrivial(rest)"), "the product underflows"),
    Rule("log of a power", "log(p ^ g)", "g * log(p)", ("loggable(p)", "positive(g)"), _OVERFLOW),
    Rule("log of a square root", "log(sqrt(x))", "0.5 * log(x)", (), "one form"),
    Rule("log of 1 + exp", "log(1 + rest)", "softplus(log(rest))", ("loggable(rest)",), _OVERFLOW),
    Rule("log of a complement", "log(1 - rest)", "log1mexp(log(rest))", ("loggable(rest)",), _CANCELS),
    Rule("log of a sum of exps", "log(p + rest)", "logaddexp(log(p), log(rest))", ("loggable(p)", "loggable(rest)"),
         _OVERFLOW),
    Rule("log of a sum with a number", "log(p + rest)", "logaddexp(log(p), log(rest))",
         ("positive(p)", "steady(p)", "loggable(rest)"), _OVERFLOW),
    Rule("log(1 + x)", "log(1 + rest)", "log1p(rest)", ("above_minus_one(rest)",), "exact where x is small"),
    Rule("log1p of expm1", "log1p(expm1(x))", "x", (), _OVERFLOW),
    Rule("log1p of exp", "log1p(p)", "softplus(log(p))", ("loggable(p)",), _OVERFLOW),
    Rule("log1p of -exp", "log1p(-rest)", "log1mexp(log(rest))", ("loggable(rest)",), _CANCELS),
    Rule("log of a sum over exps", "log(sum[v where m](p))", "logsumexp[v where m](log(p))", ("loggable(p)",), _OVERFLOW),
    Rule("log of a mean over exps", "log(mean[v where m](p))",
         "logsumexp[v where m](log(p)) - log(count[v where m](p))", ("loggable(p)",), _OVERFLOW),
    Rule("log of a product over exps", "log(prod[v where m](p))", "sum[v where m](log(p))", ("loggable(p)",), _OVERFLOW),
    Rule("log of a running sum of exps", "log(cumsum[v where m](p))", "cumlogsumexp[v where m](log(p))",
         ("loggable(p)",), _OVERFLOW),
    Rule("log of a running product of exps", "log(cumprod[v where m](p))", "cumsum[v where m](log(p))",
         ("loggable(p)",), _OVERFLOW),
    Rule("log of a choice", "log(p if c else q)", "log(p) if c else log(q)", ("loggable(p)", "loggable(q)"), "one form"),
    Rule("log of the other classes", "log1mexp(log_softmax[v](z)[v = y])",
         "-softplus(z[v = y] - logsumexp[v where index[v] != y](z))", (), "exact for p near 0 and near 1"),
    Rule("log1mexp of log1mexp", "log1mexp(log1mexp(x))", "x", (), _CANCELS),
    Rule("log2", "log2(p)", "log(p) / log(2)", ("loggable(p)",), "towards the natural log"),
    Rule("logsigmoid", "logsigmoid(x)", "-softplus(-x)", (), "one form: softplus"),
)  # fmt: skip

EXPONENTIALS = (
    Rule("exp of log", "exp(rest + k * log(y))", "y ^ k * exp(rest)", ("rational(k)", "nonpos(rest)"),
         "the log of 0 has no slope"),
    Rule("exp of a scaled log", "exp(k * log(y))", "y ^ k", ("nonneg(k)",), "the log of 0 has no slope"),
    Rule("exp of log1p", "exp(log1p(x))", "1 + x", (), "one form"),
    Rule("exp of log_softmax", "exp(log_softmax[v where m](z))", "softmax[v where m](z)", (), "one form"),
    Rule("exp of a read log-probability", "exp(x[v = y])", "exp(x)[v = y]", ("logarithmic(x)",), "one form"),
    Rule("exp of a renamed log-probability", "exp(x[v -> w])", "exp(x)[v -> w]", ("logarithmic(x)",), "one form"),
    Rule("exp of a constant log-probability", "exp(sg(x))", "sg(exp(x))", ("logarithmic(x)",), "one form"),
    Rule("exp of -softplus", "exp(-softplus(x))", "sigmoid(-x)", (), "one form"),
    Rule("exp of log_normcdf", "exp(log_normcdf(x))", "normcdf(x)", (), "one form"),
    Rule("exp of log1mexp", "exp(rest + log1mexp(x))", "-expm1(x) * exp(rest)", ("nonpos(rest)",),
         "log1mexp has no slope at 0"),
    Rule("expm1 of log", "expm1(log(x))", "x - 1", (), "one form"),
    Rule("expm1 of log1p", "expm1(log1p(x))", "x", (), "one form"),
    Rule("expm1 of -softplus", "expm1(-softplus(x))", "-sigmoid(x)", (), _CANCELS),
    Rule("exp of a masked score", "exp(rest + k * (x if c else -inf))", "exp(rest + k * x) if c else 0",
         ("positive(k)",), "masks, not infinities"),
    Rule("masked softmax outside of its mask", "softmax[v where m](z) if m else 0", "softmax[v where m](z)",
         ("given(m)",), "one form"),
    Rule("product of exponentials", "p * q", "exp(log(p) + log(q))", ("exponential(p)", "exponential(q)"), _OVERFLOW),
    Rule("division by exponentials", "1 / p", "exp(-log(p))", ("normaliser(p)",), "the divisor underflows or overflows"),
    Rule("power of an exponential", "p ^ g", "exp(g * log(p))", ("normaliser(p)",), _OVERFLOW),
    Rule("root of an exponential", "sqrt(p)", "exp(0.5 * log(p))", ("normaliser(p)",), _OVERFLOW),
)  # fmt: skip

PROBABILITIES = (
    Rule("x log y", "rest * log(y)", "xlogy(rest, y)", ("may_vanish(rest)", "may_vanish(y)", "unsteady(rest)"),
         "0 log 0 is 0"),
    Rule("x (log y + ...)", "rest * (k * log(y) + j)", "k * rest * log(y) + rest * j",
         ("may_vanish(rest)", "may_vanish(y)", "unsteady(rest)", "nonzero(j)"), "0 log 0 is 0"),
    Rule("x log(1 - exp)", "rest * log1mexp(x)", "xlogy(rest, -expm1(x))", ("may_vanish(rest)", "unsteady(rest)"),
         "0 log 0 is 0"),
    Rule("x times a masked log", "rest * (x if c else -inf)", "rest * x if c else xlogy(rest, 0)",
         ("may_vanish(rest)", "symbolic(rest)"), "0 log 0 is 0"),
    Rule("x times a sum with a masked log", "rest * (k * (x if c else -inf) + j)",
         "k * rest * (x if c else -inf) + rest * j", ("may_vanish(rest)", "symbolic(rest)", "nonzero(j)"), "0 log 0 is 0"),
    Rule("masked softmax before the log of 0", "x if m else k * xlogy(rest * softmax[v where m](z), 0)",
         "x if m else 0", ("given(m)",), "0 log 0 is 0"),
    Rule("xlogy of an exponential", "xlogy(x, p)", "x * log(p)", ("normaliser(p)",), "towards the stable log"),
    Rule("xlogy with a scalar", "xlogy(c * rest, y)", "c * xlogy(rest, y)", ("steady(c)", "nontrivial(rest)"), "one form"),
    Rule("xlogy of a scalar", "xlogy(c, y)", "c * log(y)", ("steady(c)", "positive(c)"), "one form"),
    Rule("1 - sigmoid", "-k * sigmoid(x) + k", "k * sigmoid(-x)", (), _CANCELS),
    Rule("1 - exponential", "-k * p + k", "-k * expm1(log(p))", ("exponential(p)",), _CANCELS),
    Rule("1 + expm1", "k * expm1(x) + k", "k * exp(x)", (), "one form"),
    Rule("1 - mask", "-k * m + k", "k * (not m)", ("mask(m)",), "one form"),
    Rule("product of masks", "m * n", "m and n", ("mask(m)", "mask(n)"), "one form"),
)  # fmt: skip

SCORES = (
    Rule("score less its logsumexp", "-k * logsumexp[v](z) + k * z", "k * log_softmax[v](z)", ("along(z, [v])",),
         "large offsets cancel"),
    Rule("read score less its logsumexp", "-k * logsumexp[v](z) + k * z[v = y]", "k * log_softmax[v](z)[v = y]", (),
         "large offsets cancel"),
    Rule("mean score less its logsumexp", "-k * logsumexp[v](z) + k * mean[v](z)", "k * mean[v](log_softmax[v](z))",
         ("along(z, [v])",), "large offsets cancel"),
    Rule("read score less its log-probability", "-k * log_softmax[v](z)[v = y] + k * z[v = y]", "k * logsumexp[v](z)", (),
         "one form"),
    Rule("difference of read log-probabilities", "k * log_softmax[v](z)[v = y] - k * log_softmax[v](z)[v = w]",
         "k * z[v = y] - k * z[v = w]", (), "the normaliser cancels"),
    Rule("shifted logsumexp", "k * logsumexp[v where m](c + rest) - k * c", "k * logsumexp[v where m](rest)",
         ("free(c, [v])", "nonzero(rest)"), "the shift cancels"),
    Rule("shifted softmax", "softmax[v where m](c + rest)", "softmax[v where m](rest)", ("free(c, [v])", "nonzero(rest)"),
         "the shift cancels"),
    Rule("shifted log_softmax", "log_softmax[v where m](c + rest)", "log_softmax[v where m](rest)",
         ("free(c, [v])", "nonzero(rest)"), "the shift cancels"),
    Rule("softmax of log_softmax", "softmax[v](log_softmax[v](z))", "softmax[v](z)", (), "the normaliser cancels"),
    Rule("log_softmax of log_softmax", "log_softmax[v](log_softmax[v](z))", "log_softmax[v](z)", (),
         "the normaliser cancels"),
    Rule("x - softplus(x)", "-k * softplus(x) + k * x", "-k * softplus(-x)", (), "large arguments cancel"),
    Rule("difference of softplus", "k * softplus(x) - k * softplus(-x)", "k * x", (), "large arguments cancel"),
    Rule("softplus of log odds", "softplus(x - log1mexp(x))", "-log1mexp(x)", (), "infinite odds have no slope"),
    Rule("softplus of less log odds", "softplus(log1mexp(x) - x)", "-x", (), "infinite odds have no slope"),
    Rule("x - logaddexp(x, y)", "-k * logaddexp(x, y) + k * x", "-k * softplus(y - x)", (), "large offsets cancel"),
    Rule("logaddexp with 0", "logaddexp(0, x)", "softplus(x)", (), "one form"),
    Rule("shifted logaddexp", "logaddexp(c + rest, c + k)", "c + logaddexp(rest, k)", (), "the shift is exact outside"),
    Rule("softplus of log", "softplus(log(x))", "log1p(x)", (), "the log of 0 has no slope"),
    Rule("logsumexp of logs", "logsumexp[v where m](log(x))", "log(sum[v where m](x))", (), "the log of 0 has no slope"),
    Rule("logsumexp of masked scores", "logsumexp[v where m](x if c else -inf)", "logsumexp[v where m and c](x)", (),
         "masks, not infinities"),
    Rule("softmax of masked scores", "softmax[v where m](x if c else -inf)", "softmax[v where m and c](x)", (),
         "masks, not infinities"),
    Rule("log_softmax of masked scores", "log_softmax[v where m](x if c else -inf)",
         "log_softmax[v where m and c](x) if c else -inf", (), "masks, not infinities"),
    Rule("scaled masked score", "k * (x if c else -inf)", "k * x if c else -inf", ("positive(k)", "nontrivial(k)"),
         "masks, not infinities"),
    Rule("shifted masked score", "rest + (x if c else -inf)", "(rest + x) if c else -inf", ("nonzero(rest)",),
         "masks, not infinities"),
    Rule("constant copy of a masked score", "sg(x if c else -inf)", "sg(x) if c else -inf", (), "masks, not infinities"),
    Rule("logaddexp of masked scores", "logaddexp(x if c else -inf, y if c else -inf)",
         "logaddexp(x, y) if c else -inf", (), "masks, not infinities"),
)  # fmt: skip

REDUCTIONS = (
    Rule("factor of a sum", "sum[v where m](c * rest)", "c * sum[v where m](rest)",
         ("free(c, [v])", "inside_or_steady(c, m)", "nontrivial(rest)"), "computed once a row"),
    Rule("divisor of a sum", "sum[v where m](rest / c)", "sum[v where m](rest) / c",
         ("free(c, [v])", "inside_or_steady(c, m)", "nontrivial(rest)"), "computed once a row"),
    Rule("factor of a mean", "mean[v where m](c * rest)", "c * mean[v where m](rest)",
         ("free(c, [v])", "inside_or_steady(c, m)", "nontrivial(rest)"), "computed once a row"),
    Rule("divisor of a mean", "mean[v where m](rest / c)", "mean[v where m](rest) / c",
         ("free(c, [v])", "inside_or_steady(c, m)", "nontrivial(rest)"), "computed once a row"),
    Rule("sums over the same entries", "k * sum[v where m](x) + j * sum[v where m](y)", "sum[v where m](k * x + j * y)",
         ("rational(k)", "rational(j)"), "one pass"),
    Rule("means over the same entries", "k * mean[v where m](x) + j * mean[v where m](y)",
         "mean[v where m](k * x + j * y)", ("rational(k)", "rational(j)"), "one pass"),
    Rule("sum over its size", "sum[v](x) / size[v]", "mean[v](x)", (), "one form"),
    Rule("sum of a masked value", "sum[v where m](x if c else 0)", "sum[v where m and c](x)", (), "excluded is unseen"),
)  # fmt: skip

PIECES = (
    Rule("root of a square", "sqrt(x ^ 2)", "abs(x)", (), "the square overflows"),
    Rule("power 1/2", "x ^ 0.5", "sqrt(x)", (), "one form"),
    Rule("square of a root", "sqrt(x) ^ 2", "x", (), "the root of 0 has no slope"),
    Rule("even power of abs", "abs(x) ^ g", "x ^ g", ("even(g)",), "one form"),
    Rule("abs of a number that is not negative", "abs(x)", "x", ("nonneg(x)",), "one form"),
    Rule("abs of a number that is not positive", "abs(x)", "-x", ("nonpos(x)",), "one form"),
    Rule("relu of a positive number", "relu(x)", "x", ("positive(x)",), "one form"),
    Rule("least of negatives", "min(-k, -j)", "-max(k, j)", ("unsigned(k)", "unsigned(j)"), "one form"),
    Rule("largest of negatives", "max(-k, -j)", "-min(k, j)", ("unsigned(k)", "unsigned(j)"), "one form"),
    Rule("negated condition", "x if not m else y", "y if m else x", (), "one form"),
    Rule(
        "sum of masked values",
        "k * (x if c else 0) + j * (y if c else 0)",
        "(k * x + j * y) if c else 0",
        (),
        "one form",
    ),
    Rule("constant copy of a copy", "sg(sg(x))", "sg(x)", (), "one form"),
    Rule("mask equal to 1", "m == 1", "m", ("mask(m)",), "one form"),
    Rule("mask equal to 0", "m == 0", "not m", ("mask(m)",), "one form"),
)

RULES: tuple[Rule, ...] = (*LOGARITHMS, *EXPONENTIALS, *PROBABILITIES, *SCORES, *REDUCTIONS, *PIECES)
"""Every rule, in the order in which they are tried on a node."""
