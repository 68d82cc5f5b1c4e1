"""Mathematical display: Unicode and LaTeX of expressions and of core graphs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from tests.compiler.instances import NAMES
from tests.compiler.test_simplify_random import GRAPHS

from lossc.compiler import core
from lossc.compiler.check import check_source
from lossc.compiler.core import Call, Draw, Input, Node, Reduce
from lossc.compiler.display import core_text, latex, unicode
from lossc.compiler.display.equation import latex_equation, plain_equation
from lossc.compiler.formula import formula, parsed
from lossc.compiler.simplify import Simplifier
from lossc.grammar.source import Source

CASES = [
    ("softplus(-beta * margin)", "softplus(−β·margin)", r"\log(1 + e^{-\beta \, \mathrm{margin}})"),
    ("logsumexp[v](z) - z[v = y]", "logsumexp_v(z) − z_y", r"\operatorname*{logsumexp}_{v}\left[z\right] - {z}_{y}"),
    ("(1 - p)^gamma * ce(z, y)", "(1 − p)^γ·ce(z, y)",
     r"{\left(1 - p\right)}^{\gamma} \, \operatorname{ce}\left(z, y\right)"),
    ("-sum[t where m](nll)", "−Σ_{t : m} nll", r"-\sum_{t \,:\, m} \mathrm{nll}"),
    ("sum[v](a + b)", "Σ_v (a + b)", r"\sum_{v} \left(a + b\right)"),
    ("-x^2", "−x²", "-{x}^{2}"),
    ("(-x)^2", "(−x)²", r"{\left(-x\right)}^{2}"),
    ("(x^2)^3", "(x²)³", r"{\left({x}^{2}\right)}^{3}"),
    ("x^-2", "x⁻²", "{x}^{-2}"),
    ("2^x^y", "2^(x^y)", "{2}^{{x}^{y}}"),
    ("a - (b - c)", "a − (b − c)", r"a - \left(b - c\right)"),
    ("a * (b + c)", "a·(b + c)", r"a \, \left(b + c\right)"),
    ("a / (b * c)", "a / (b·c)", r"\frac{a}{b \, c}"),
    ("a / b / c", "a / b / c", r"\frac{\frac{a}{b}}{c}"),
    ("a * (-b)", "a·(−b)", r"a \, \left(-b\right)"),
    ("2 * 3", "2·3", r"2 \cdot 3"),
    ("1e-4 * x", "10⁻⁴·x", r"10^{-4} \, x"),
    ("3e5", "3·10⁵", r"3 \cdot 10^{5}"),
    ("a if x < 0 <= y else b", "{a if x < 0 ≤ y, else b}",
     r"\begin{cases} a & \text{if } x < 0 \le y \\ b & \text{otherwise} \end{cases}"),
    ("not (a and b)", "¬(a ∧ b)", r"\neg \left(a \wedge b\right)"),
    ("norm[d](x)", "‖x‖_d", r"\left\lVert x \right\rVert_{d}"),
    ("dot[d](x, y[b -> j])", "⟨x, y_{b→j}⟩_d", r"\left\langle x, {y}_{b \to j} \right\rangle_{d}"),
    ("sum[v](q * f'(p / q))", "Σ_v q·f′(p / q)", r"\sum_{v} q \, f'\left(\frac{p}{q}\right)"),
    ("s[j = index[b]]", "s_{j = b}", "{s}_{j = b}"),
    ("ramp(0 -> 1, over = 1000)", "ramp(0→1, over = 1000)", r"\operatorname{ramp}\left(0 \to 1, \mathrm{over} = 1000\right)"),
    ("count[t where m]", "#{t : m}", r"\#\left\{t \,:\, m\right\}"),
    ("size[v]", "|v|", r"\lvert v \rvert"),
    ("sqrt(x + 1) + abs(x)", "√(x + 1) + |x|", r"\sqrt{x + 1} + \lvert x \rvert"),
    ("log(x + 1) * log(x)", "log(x + 1)·log(x)", r"\log \left(x + 1\right) \, \log x"),
    ("xlogy(a + b, c)", "(a + b)·log(c)", r"\left(a + b\right) \log c"),
    ("log_sigma + eps_low + z0", "log_sigma + ε_low + z₀",
     r"\mathrm{log\_sigma} + \varepsilon_{\mathrm{low}} + z_{0}"),
    ("mean[b](x, weight = w)", "mean_b(x, weight = w)", r"\operatorname{mean}_{b}\left(x, \mathrm{weight} = w\right)"),
    ("sum[b by g](x)", "Σ_{b by g} x", r"\sum_{b \text{ by } g} x"),
    ("side{chosen: 1, rejected: -1}", "(chosen: 1, rejected: −1)_side",
     r"{\left(\mathrm{chosen}\colon 1, \mathrm{rejected}\colon -1\right)}_{\mathrm{side}}"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "plain", "tex"), CASES, ids=[text for text, _, _ in CASES])
def test_expressions(text: str, plain: str, tex: str) -> None:
    assert unicode(parsed(text)) == plain
    assert latex(parsed(text)) == tex


def test_every_brace_is_closed() -> None:
    for text, _, _ in CASES:
        shown = latex(parsed(text)).replace(r"\{", "").replace(r"\}", "")
        assert shown.count("{") == shown.count("}")


@settings(max_examples=100, deadline=None, derandomize=True)
@given(GRAPHS)
def test_core_prints_as_the_language(graph: Node) -> None:
    """The text of a simplified graph reads back as a graph with the same normal form."""
    result = Simplifier()(graph)
    names = {**NAMES, "n": Input("n", ("v",), "mask")}
    assert Simplifier()(formula(core_text(result), names)) is result
    assert latex(result)
    assert unicode(result)


def test_positions_have_names() -> None:
    z = Input("z", ("b", "side"))
    assert core_text(core.Select(z, "side", 1), {"side": ("chosen", "rejected")}) == "z[side = rejected]"
    assert core_text(core.Select(z, "side", 1)) == "z[side = 1]"


def test_what_has_no_operator() -> None:
    label = Input("g", ("b",), "label")
    x = Input("x", ("b", "d"))
    assert core_text(Reduce("sum", ("b",), x, None, (label, "k"))) == "sum[b by g](x)"
    assert core_text(Call("svdvals", (x,), ("b", "d"), ("k",), order=("b", "d"))) == "svdvals[b, d -> k](x)"
    assert core_text(Draw("normal", ("b", "d"), 0)) == "normal(b, d)"


def test_a_shared_graph_is_cut() -> None:
    node: Node = Input("x", ("b",))
    for _ in range(40):
        node = core.apply("logaddexp", node, core.apply("exp", node))
    assert "…" in core_text(node)
    assert len(core_text(node)) < 100_000


TEXT = """
objective small
axis b : batch
axis side = {chosen, rejected}
input s : real[b, side]
param beta : positive = 0.1
let margin = s[side = chosen] - s[side = rejected]
minimize
  pref : mean[b](softplus(-beta * margin))
"""


def test_equation_named_and_expanded() -> None:
    program = check_source(Source("small.loss", TEXT)).program
    assert program is not None
    named = plain_equation(program)
    assert "pref   = mean_b(softplus(−β·margin))" in named
    assert "margin = s_chosen − s_rejected" in named
    expanded = plain_equation(program, expand=True)
    assert "margin" not in expanded
    assert "s_chosen" in expanded
    assert latex_equation(program).startswith(r"\begin{aligned}")
    assert r"{s}_{\mathrm{chosen}}" in latex_equation(program, expand=True)


def test_constraints_and_states_are_shown() -> None:
    text = """use std.settings.classes
axis example
data id : label[b] in example
state level : real = 1 then 0.9 * level + 0.1 * mean[b](nll)
minimize
  above : mean[b](relu(nll - level))
subject to fit per b by id : nll <= 2
monitor
  level : level
"""
    checked = check_source(Source("shown", text)).program
    assert checked is not None
    plain = plain_equation(checked).splitlines()
    assert plain[:5] == [
        "minimize   above    = mean_b(relu(nll − level))",
        "subject to fit      : nll ≤ 2 for each b",
        "monitor    level    = level",
        "state      level    = 1",
        "           level    ← 0.9·level + 0.1·mean_b(nll)",
    ]
    assert r"\colon \mathrm{nll} \le 2 \quad \forall\, b" in latex_equation(checked)
    assert r"&&\leftarrow 0.9" in latex_equation(checked)
