"""Logarithms of what is positive for finite arguments draw no warning; those that may be of 0 do."""

from __future__ import annotations

import pytest

from lossc.compiler.check import check_source
from lossc.grammar.source import Source

HEAD = """objective finite
axis b : batch
axis t
data logp : logprob[b, t]
data x    : real[b]
data w    : nonneg[b]
param n   : positive = 2
let p = exp(sum[t](logp))

minimize
  loss : mean[b]({})
"""


def warned(expression: str) -> bool:
    found = check_source(Source("finite.loss", HEAD.format(expression))).problems.found
    return any(problem.code == "W201" for problem in found)


@pytest.mark.parametrize(
    "expression",
    ["log(p)", "log(exp(x))", "log(1 - (1 - p)^n)", "log(1 - (1 - p)^2)", "log(mean[b](exp(x)))", "log(sum[t](exp(logp)))",
     "log(sum[t](softmax[t](logp)^2))", "xlogy(w, w)", "xlogy(w, 2 * w)", "w * log(w / n)", "w * log(n * w)",
     "x * w * log(w / n)", "w * (log(w) - log(n))", "(log(w) - log(n)) * w", "x * log(w) * w", "w * ((log(w) - n) / n)",
     "w^2 * log(w)", "w / n * log(w)", "w * sg(log(w))", "w * (x * (1 - log(w)) + 1)", "w * (log(w) if x > 0 else 0)"],
)  # fmt: skip
def test_positive_for_finite_arguments(expression: str) -> None:
    assert not warned(expression)


@pytest.mark.parametrize("expression", ["log(w)", "log(1 - p)", "log(x)", "log(exp(x) - 1)", "log(sum[b](exp(x)))",
                                        "log(sum[t](w * exp(logp)))", "log(sum[t where logp > -1](exp(logp)))",
                                        "xlogy(x, x)", "xlogy(w, w - n)", "n * log(w / n)",
                                        "w * log(w / (1 - p))", "x * log(x / n)", "w * (log(w) - log(1 - p))",
                                        "w * abs(log(w))", "w * log(w)^2", "w * (1 / log(w))", "w * sum[t](logp * log(w))",
                                        "w^0 * log(w)", "w + log(w)", "w / log(w)"])  # fmt: skip
def test_zero_for_some_finite_arguments(expression: str) -> None:
    assert warned(expression)
