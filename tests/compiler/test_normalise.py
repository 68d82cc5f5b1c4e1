"""The normal form of terms: what adds up over micro-batches and ranks, and what does not."""

from __future__ import annotations

import pytest
from lossc.compiler.check import check_source
from lossc.grammar.source import Source

PREAMBLE = """
axis b : batch
input x : real[b, t]
data m : mask[b, t]
data w : nonneg[b]
learn s : real = 0
param c : real = 2
minimize
  a : {}
"""

FORMS = [
    ("mean[b, t where m](x)", ["ratio"]),
    ("sum[b, t](x)", ["sum"]),
    ("c * mean[b](mean[t where m](x)) + c * s^2", ["ratio", "once"]),
    ("exp(-s) * mean[b, t](x) + s", ["ratio", "once"]),
    ("mean[b](mean[t](x), weight = w)", ["ratio"]),
    ("sum[b, t where m](x) / max(count[b, t where m], 1)", ["ratio"]),
    ("sum[b, t](m * x) / max(sum[b, t](m), 1)", ["ratio"]),
    ("sum[b, t](x) / max(sum[b, t](m), 1)", ["coupled"]),
    ("sum[b, t](x) / size[b]", ["ratio"]),
    ("log(mean[b, t](exp(x)))", ["coupled"]),
    ("std[b](mean[t](x))", ["coupled"]),
    ("mean[b, t](x - mean[b](x))", ["coupled"]),
    ("mean[b, j](abs(mean[t](x) - mean[t](x)[b -> j]))", ["coupled"]),
    ("mean[b, t](x) * mean[b, t](x)", ["coupled"]),
]


@pytest.mark.parametrize(("expression", "forms"), FORMS, ids=[expression for expression, _ in FORMS])
def test_form(expression: str, forms: list[str]) -> None:
    checked = check_source(Source("form.loss", PREAMBLE.format(expression)))
    assert checked.program is not None, checked.problems.errors
    (term,) = checked.program.terms
    assert [part.form for part in term.parts] == forms
    assert term.additive == ("coupled" not in forms)
