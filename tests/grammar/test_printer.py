"""The one style of the formatter."""

from __future__ import annotations

import pytest
from tests.grammar.reading import expr, read

from lossc.grammar import format_source, print_file
from lossc.grammar import syntax as s
from lossc.grammar.diagnostics import LosscError
from lossc.grammar.printer import print_expr, print_text
from lossc.grammar.source import Source


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("((a))+(b*c)", "a + b * c"),
        ("(a+b)*c", "(a + b) * c"),
        ("a-(b+c)", "a - (b + c)"),
        ("(a-b)-c", "a - b - c"),
        ("(-x)^2", "(-x)^2"),
        ("-(x^2)", "-x^2"),
        ("2^(-x)", "2^-x"),
        ("(a^b)^c", "(a^b)^c"),
        ("a^(b^c)", "a^b^c"),
        ("not(a and b)", "not (a and b)"),
        ("(not a)and b", "not a and b"),
        ("(a<b)<c", "(a < b) < c"),
        ("(a if b else c)+1", "(a if b else c) + 1"),
        ("a if b else(c if x else y)", "a if b else c if x else y"),
        ("(a if b else c)if x else y", "(a if b else c) if x else y"),
        ("f( a,b=c,)", "f(a, b = c)"),
        ("mean[b,t  where m](x)", "mean[b, t where m](x)"),
        ("x[a=1 .. 2]", "x[a = 1..2]"),
        ("side{a:1,b:-1}", "side{a: 1, b: -1}"),
        ("(a+b)[t=1]", "(a + b)[t = 1]"),
    ],
)
def test_few_parentheses_and_even_spaces(text: str, printed: str) -> None:
    assert print_expr(expr(text)) == printed
    assert expr(printed) == expr(text)


STYLE = """\
# A header.

\"\"\"What it is.\"\"\"
objective style

use std.settings.pairs    # axes and inputs
use std.preference (dpo)  # terms

axis task = {depth, seg}
input logits : logits[b, v]
data  y      : label[b] in v

param beta   : positive = 0.1
param anchor : nonneg   = 0.2

let a      = 1
let longer = a

term focal(z : logits[v], y : label in v, gamma : nonneg = 2)  # Lin et al.
  let p = softmax[v](z)[v = y]
  (1 - p)^gamma * ce(z, y)

minimize  # the terms
  # the first
  pref : mean[pair](dpo(margin, beta = beta))

  tie  : anchor * sft

# the end
"""


def test_what_is_in_style_stays() -> None:
    assert format_source(Source("a.loss", STYLE)) == STYLE.replace("  tie  :", "  tie :")


def test_long_lines_are_broken_at_their_loosest_sign() -> None:
    long = " + ".join(f"weight_{index} * mean[b, t where mask](term_{index})" for index in range(3))
    assert print_file(read(f"let total = {long}"), "text") == (
        "let total =\n"
        "  weight_0 * mean[b, t where mask](term_0)\n"
        "    + weight_1 * mean[b, t where mask](term_1)\n"
        "    + weight_2 * mean[b, t where mask](term_2)\n"
    )
    call = f"mean[b]({', '.join(['argument_of_a_call'] * 6)})"
    lines = print_file(read(f"let total = {call}"), "text").splitlines()
    assert lines[:2] == ["let total = mean[b](", "  argument_of_a_call,"]
    assert lines[-1] == ")"


def test_no_line_of_code_is_longer_than_the_width() -> None:
    text = "term f(" + ", ".join(f"argument_{i} : real[b, d]" for i in range(9)) + ") -> real[b] = x\n"
    text += "law " + '"title" : ' + " + ".join(["value"] * 20) + " == 1 for " + ", ".join(["value"] * 20) + "\n"
    text += "state s : real = " + " * ".join(["value"] * 12) + " then " + " and ".join(["value"] * 20) + "\n"
    text += "axis a = {" + ", ".join(f"position_{i}" for i in range(20)) + "}\n"
    text += "use std.x (" + ", ".join(f"position_{i}" for i in range(20)) + ")\n"
    assert max(map(len, format_source(Source("a.loss", text)).splitlines())) <= 100


def test_a_tree_that_was_never_written_gets_empty_lines_between_its_sections() -> None:
    beta = s.Param("param", "b", s.Type("real"), s.Number("1"))
    entry = s.Entry("x", s.Name("b"))
    file = s.File((s.Meta("objective", "a"), beta, beta, s.Let("c", s.Name("b")), s.Block("minimize", (entry,))))
    assert print_text(file) == (
        "objective a\n\nparam b : real = 1\nparam b : real = 1\n\nlet c = b\n\nminimize\n  x : b\n"
    )


def test_formatting_converts_and_refuses() -> None:
    assert format_source(Source("a.loss", "let x=1"), "yaml") == "lossc: 1\nlet:\n  x: 1\n"
    assert format_source(Source("a.yaml", "let: {x: '1'}")) == "lossc: 1\nlet:\n  x: 1\n"
    assert format_source(Source("a.yaml", "let: {x: '1'}"), "text") == "let x = 1\n"
    with pytest.raises(LosscError, match="E001"):
        format_source(Source("a.loss", "let x ="))
    with pytest.raises(LosscError, match="E022"):
        format_source(Source("a.loss", "let x = 1\nlet x = 2"), "yaml")
