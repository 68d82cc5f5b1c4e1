"""The axes of every form: what is consumed, what is made, and what passes through."""

from __future__ import annotations

import pytest

from lossc.compiler.check import check_source
from lossc.compiler.core import Select
from lossc.compiler.program import LetInfo, Program
from lossc.grammar.source import Source

DECLARATIONS = """
axis b : batch
axis t
axis v
axis d
axis n
axis side = {left, right}
input z : logits[b, t, v]
input y : real[b, t]
input x : embedding[b, d]
input s : real[b, side]
input time : real[b]
input left : real[b]
data several : label[b, n] in v
data c : label[b, t] in v
data g : label[b] in group
data m : mask[b, t]
data o : mask[v]
param w : positive[v]
"""

AXES = {
    "z[v = c]": "b t",
    "z[t = 0]": "b v",
    "z[t = index[b]]": "b v",
    "z[v = several]": "b n t",
    "z[v = c][t = 0]": "b",
    "w[v = c]": "b t",
    "z * w": "b t v",
    "y * left": "b t",
    "s[side = left]": "b",
    "side{left: 1, right: -1} * s": "b side",
    "mean[t](z)": "b v",
    "mean[t where m](z)": "b v",
    "mean[v where o](z)": "b t",
    "mean[t where m](left)": "b",
    "sum[d](x * x[b -> j])": "b j",
    "dot[d](x, x[b -> j])": "b j",
    "norm[d](x)": "b",
    "logsumexp[j where time[b -> j] >= time](left[b -> j])": "b",
    "mean[b by g](y)": "group t",
    "mean[b by g](y)[group = g]": "b t",
    "count[b by g]": "group",
    "count[t where m]": "b",
    "softmax[v](z)": "b t v",
    "argmax[v](z)": "b t",
    "cumsum[t](y)": "b t",
    "shift[t by c](y, 1)": "b t",
    "sort[t -> r](y)": "b r",
    "topk[v -> k](z, 2)": "b k t",
    "y[t -> part = 0..2]": "b part",
    "y[t -> q]": "b q",
    "index[t]": "t",
    "size[t]": "",
    "normal(b, d)": "b d",
    "y if left > 0 else w": "b t v",
    "1 if left > 0 else 1": "b",
    "index[v] == c": "b t v",
    "cov[b, d -> e](x)": "d e",
    "logdet[d, e](cov[b, d -> e](x))": "",
    "grad[x](sum[b, d](x^2))": "b d",
}


def program(expression: str, term: str = "") -> Program:
    checked = check_source(Source("axes.loss", f"{DECLARATIONS}{term}\nlet probe = {expression}\nminimize\n  loss : 1\n"))
    assert checked.program is not None, [problem.message for problem in checked.problems.errors]
    return checked.program


def probe(expression: str) -> LetInfo:
    return program(expression).lets["probe"]


@pytest.mark.parametrize("expression", AXES)
def test_axes(expression: str) -> None:
    assert " ".join(sorted(probe(expression).node.axes)) == AXES[expression]


def test_named_positions_win_over_values() -> None:
    node = probe("s[side = left]").node
    assert isinstance(node, Select)
    assert node.at == 0
    assert probe("s[side = right]").node is probe("s[side = 1]").node


def test_named_positions_win_over_arguments_of_a_term() -> None:
    found = program("apart(s[side = right], s)", "term apart(left : real, u : real[side]) = left - u[side = left]")
    assert found.lets["probe"].node is probe("s[side = right] - s[side = left]").node


def test_the_order_of_a_declaration_is_that_of_the_tensor() -> None:
    found = program("1")
    assert found.tensors["z"].order == ("b", "t", "v")
    assert found.tensors["several"].order == ("b", "n")
    assert {name for name, axis in found.axes.items() if axis.batch} == {"b"}
    assert found.axes["side"].positions == ("left", "right")


def test_axes_need_no_declaration_unless_they_are_split_or_named() -> None:
    found = check_source(
        Source("axes.loss", "axis b : batch\ninput x : real[b, h, w]\nminimize\n  loss : mean[b, h, w](x)\n")
    )
    assert found.problems.found == []
    assert found.program is not None
    assert set(found.program.axes) == {"b", "h", "w"}


def test_a_literal_is_exact() -> None:
    for left, right in (("0.1 + 0.2", "0.3"), ("1e-3", "0.001"), ("1/3", "2/6"), ("1e2", "100")):
        assert (
            check_source(
                Source("a.loss", f"param p : real in [{right}, {right}] = {left}\nminimize\n  loss : p\n")
            ).problems.found
            == []
        )


def test_a_constant_along_an_axis_of_a_term() -> None:
    """Its positions are those of the axis that the term is called with."""
    found = program("signed(s)", "term signed(u : real[side]) = side{right: -1, left: 1} * u")
    assert found.lets["probe"].node is probe("side{left: 1, right: -1} * s").node
    signed = "term signed(u : real[side]) = side{right: -1, up: 1} * u"
    wrong = f"{DECLARATIONS}{signed}\nminimize\n  l : mean[b](signed(s)[side = left])\n"
    assert "E307" in {problem.code for problem in check_source(Source("axes.loss", wrong)).problems.errors}
