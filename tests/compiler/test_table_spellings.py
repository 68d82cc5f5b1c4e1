"""One table for one objective, however it is written: the table comes from the mathematics."""

from __future__ import annotations

import pytest
from tests.compiler.class_objectives import NAMES

from lossc.compiler.core import Reduce
from lossc.compiler.formula import formula
from lossc.compiler.simplify import Simplifier
from lossc.compiler.table import Table, statistic_table

SPELLINGS = {
    "cross-entropy": (
        "logsumexp[v](z) - z[v = y]",
        "-log_softmax[v](z)[v = y]",
        "-log(softmax[v](z)[v = y])",
        "-log(softmax[v](z))[v = y]",
        "-log(exp(z[v = y]) / sum[v](exp(z)))",
        "log(sum[v](exp(z))) - z[v = y]",
        "log(sum[v](exp(z - z[v = y])))",
    ),
    "entropy": (
        "-sum[v](softmax[v](z) * log_softmax[v](z))",
        "-sum[v](softmax[v](z) * log(softmax[v](z)))",
        "logsumexp[v](z) - sum[v](softmax[v](z) * z)",
        "-sum[v](exp(z) / sum[v](exp(z)) * log(exp(z) / sum[v](exp(z))))",
        "log(sum[v](exp(z))) - sum[v](exp(z) * z) / sum[v](exp(z))",
    ),
    "KL": (
        "sum[v](softmax[v](t) * (log_softmax[v](t) - log_softmax[v](z)))",
        "sum[v](softmax[v](t) * log(softmax[v](t) / softmax[v](z)))",
        "sum[v](exp(log_softmax[v](t)) * (log_softmax[v](t) - log_softmax[v](z)))",
        "logsumexp[v](z) - logsumexp[v](t) + sum[v](softmax[v](t) * (t - z))",
    ),
    "z-loss": (
        "logsumexp[v](z)^2",
        "log(sum[v](exp(z)))^2",
        "(z[v = y] - log_softmax[v](z)[v = y])^2",
    ),
    "label smoothing": (
        "logsumexp[v](z) - 0.9 * z[v = y] - 0.1 * sum[v](z) / size[v]",
        "logsumexp[v](z) - 0.9 * z[v = y] - 0.1 * mean[v](z)",
        "-0.9 * log_softmax[v](z)[v = y] - 0.1 * mean[v](log_softmax[v](z))",
        "-0.9 * log(softmax[v](z)[v = y]) - 0.1 / size[v] * sum[v](log(softmax[v](z)))",
    ),
    "focal, squared": (
        "(1 - softmax[v](z)[v = y])^2 * -log_softmax[v](z)[v = y]",
        "(1 - exp(log_softmax[v](z)[v = y]))^2 * -log(softmax[v](z)[v = y])",
        "(1 - exp(z[v = y] - logsumexp[v](z)))^2 * (logsumexp[v](z) - z[v = y])",
        "-(1 - exp(z[v = y]) / sum[v](exp(z)))^2 * log(exp(z[v = y]) / sum[v](exp(z)))",
    ),
    "soft targets": (
        "-sum[v](q * log_softmax[v](z))",
        "-sum[v](q * log(softmax[v](z)))",
        "-sum[v](q * (z - logsumexp[v](z)))",
    ),
    "Hellinger": (
        "1 - sum[v](sqrt(softmax[v](z) * softmax[v](t)))",
        "1 - sum[v](sqrt(softmax[v](z)) * sqrt(softmax[v](t)))",
        "1 - sum[v](exp((log_softmax[v](z) + log_softmax[v](t)) / 2))",
    ),
    "temperature": (
        "logsumexp[v](z / tau) - z[v = y] / tau",
        "-log_softmax[v](z / tau)[v = y]",
        "-log(softmax[v](z / tau)[v = y])",
    ),
}


def table(text: str, simplified: bool) -> Table:
    row = Reduce("sum", ("b",), formula(text, NAMES))
    return statistic_table({"loss": Simplifier()(row) if simplified else row}, "v")


@pytest.mark.parametrize("simplified", [False, True], ids=["as written", "simplified"])
@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_has_one_table(name: str, simplified: bool) -> None:
    first, *rest = (table(text, simplified) for text in SPELLINGS[name])
    assert all(other == first for other in rest)


def test_a_sum_over_one_class_is_the_entry_there() -> None:
    texts = (
        "-log_softmax[v](z)[v = y]",
        "-sum[v where index[v] == y](log_softmax[v](z))",
        "-sum[v]((index[v] == y) * log_softmax[v](z))",
        "-sum[v](log_softmax[v](z) if y == index[v] else 0)",
    )
    labelled = formula("0 <= y", NAMES)
    rows = [Reduce("sum", ("b",), formula(text, NAMES), labelled) for text in texts]
    tables = [statistic_table({"loss": row}, "v") for row in rows]
    assert all(other == tables[0] for other in tables[1:])


def test_a_mask_as_a_factor_is_a_condition() -> None:
    texts = ("logsumexp[v](z) + sum[v where keep](z)", "logsumexp[v](z) + sum[v](keep * z)",
             "logsumexp[v](z) + sum[v](z if keep else 0)")  # fmt: skip
    found = [table(text, False) for text in texts]
    assert all(other.statistics == found[0].statistics for other in found[1:])
