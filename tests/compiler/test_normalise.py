"""Every term as sums of `c * N / D` and `f`: which form, that the parts add up, and that micro-batches do.

A part `once` is free of the batch; one that is `coupled` depends on how the batch is split.
"""

from __future__ import annotations

import pytest
import torch

import lossc
from lossc.compiler.check import check_source
from lossc.compiler.program import Program
from lossc.grammar.source import Source

DECLARATIONS = """
axis b : batch
axis t
axis v
axis k
input z : logits[b, t, v]
input x : real[b]
input y : real[b, t]
input r : real[b, k]
data m : mask[b, t]
data c : label[b, t] in v
data g : label[b] in group
data w : nonneg[b]
data h : real[k]
data o : mask[k]
param p : positive = 2
learn s : real = 0.5
learn q : real[k] = 0.25
"""

FORMS = {
    "mean[b](x)": "ratio",
    "mean[b, t where m](y)": "ratio",
    "mean[b](mean[t where m](y))": "ratio",
    "mean[b, t](z[v = c])": "ratio",
    "sum[b](x)": "sum",
    "count[b, t where m]": "sum",
    "0.5 * mean[b](x)": "ratio",
    "-mean[b](x) / 3": "ratio",
    "mean[b](x) / (1 + s^2)": "ratio",
    "mean[b](x, weight = w)": "ratio",
    "sum[b](x) / sum[b](w)": "ratio",
    "sum[b](x) / size[b]": "ratio",
    "sum[b, t where m](y) / count[b, t where m]": "ratio",
    "mean[b](cumsum[t](y)[t = 0])": "ratio",
    "mean[b](x) + p": "ratio once",
    "p * mean[b](x) - sum[b](w) + s^2": "ratio sum once",
    "(mean[b](x) + mean[b](x^2)) / p": "ratio ratio",
    "mean[b](x) if p > 1 else sum[b](x)": "ratio sum",
    "exp(s) + 3": "once",
    # over other axes, of sums over the batch
    "mean[k](mean[b](r))": "ratio",
    "sum[k](mean[b](r))": "ratio",
    "sum[k](sum[b](r))": "sum",
    "mean[k](sum[b where w > 0](r))": "sum",
    "sum[k](q * mean[b](r))": "ratio",
    "sum[k](mean[b](r) / (2 * q^2) + log(abs(q)))": "ratio once",
    "sum[k where o](h * mean[b](r))": "ratio",
    "mean[k](h * mean[b where w > 0](r))": "ratio",
    # what depends on how the batch is split
    "log(mean[b](x))": "coupled",
    "mean[b](x)^2": "coupled",
    "std[b](x)": "coupled",
    "max[b](x)": "coupled",
    "logsumexp[b](x)": "coupled",
    "quantile[b](x, 0.5)": "coupled",
    "mean[b](x) * mean[b](x^2)": "coupled",
    "mean[b](x) / mean[b](x^2)": "coupled",
    "mean[b](mean[b](x) - x)": "coupled",
    "mean[b, j](x * x[b -> j])": "coupled",
    "mean[b](mean[b by g](x)[group = g])": "coupled",
    "mean[b](cumsum[b](x))": "coupled",
    "sg(mean[b](x))": "coupled",
    "mean[t](mean[b where m](y))": "coupled",
    "fill(mean[b where x > 0](x), 0)": "coupled",
    "log(mean[b](x)) + mean[b](x)": "coupled ratio",
}


def program(expression: str, role: str = "minimize") -> Program:
    checked = check_source(Source("forms.loss", f"{DECLARATIONS}{role}\n  loss : {expression}\n"))
    assert checked.program is not None, checked.problems.errors
    return checked.program


@pytest.mark.parametrize("expression", FORMS)
def test_form(expression: str) -> None:
    assert " ".join(part.form for part in program(expression).terms[0].parts) == FORMS[expression]


@pytest.mark.parametrize("expression", FORMS)
def test_what_a_part_may_depend_on(expression: str) -> None:
    found = program(expression)
    batch = {name for name, axis in found.axes.items() if axis.batch}
    for part in found.terms[0].parts:
        assert part.coefficient.axes == part.numerator.axes == frozenset()
        if part.form in ("ratio", "sum"):
            assert batch & set(part.over)
            assert part.body is not None
        assert (part.denominator is not None) == (part.form == "ratio")


def test_maximize_is_minimize_of_the_negative() -> None:
    assert [term.sign for term in program("mean[b](x)", "maximize").terms] == [-1]
    text = f"{DECLARATIONS}maximize\n  loss : mean[b](x)\n"
    assert float(lossc.loads(text, sizes={"k": 2})(x=torch.tensor([1.0, 5.0])).loss) == -3


ADDITIVE = [expression for expression, form in FORMS.items() if "coupled" not in form and form != "once"]


@pytest.mark.parametrize("expression", ADDITIVE)
def test_micro_batches_with_global_denominators_are_one_batch(expression: str) -> None:
    text = f"{DECLARATIONS}minimize\n  loss : {expression}\n"
    objective = lossc.loads(text, sizes={"k": 2}, check_labels=False)
    sizes = {"b": 6, "t": 3, "v": 4, "k": 2, "group": 2}
    batch = {name: tensor.double() if tensor.is_floating_point() else tensor
             for name, tensor in lossc.example_inputs(objective, sizes).items()}  # fmt: skip
    rows = {name for name in batch if name not in ("h", "o")}
    halves = [{name: tensor[part] if name in rows else tensor for name, tensor in batch.items()}
              for part in (slice(0, 2), slice(2, 6))]  # fmt: skip
    whole = objective(batch).loss
    denominators = objective.denominators(halves[0]) + objective.denominators(halves[1])
    parts = [objective(half, denominators=denominators).loss.item() for half in halves]
    assert sum(parts) == pytest.approx(whole.item(), rel=1e-12, abs=1e-12)
