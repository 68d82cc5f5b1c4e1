"""Every written form and the tree that it stands for."""

from __future__ import annotations

from typing import Any

import pytest
from tests.grammar.reading import expr, only, read

from lossc.grammar import syntax as s
from lossc.grammar.syntax import Argument, Binary, Bracket, Call, Compare, IfElse, Name, Number, Selector, Type, Unary
from lossc.grammar.tokens import DECLARATIONS, RESERVED

A, B, C, X = Name("a"), Name("b"), Name("c"), Name("x")
ONE, TWO = Number("1"), Number("2")


def call(name: str, *arguments: Argument) -> Call:
    return Call(Name(name), arguments)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("0.10", Number("0.10")),
        ("1e-4", Number("1e-4")),
        ("forget.logits", Name("forget.logits")),
        ("f''", Name("f", 2)),
        ("-x^2", Unary("-", Binary("^", X, TWO))),
        ("2^-x", Binary("^", TWO, Unary("-", X))),
        ("a^b^c", Binary("^", A, Binary("^", B, C))),
        ("a - b - c", Binary("-", Binary("-", A, B), C)),
        ("a - (b - c)", Binary("-", A, Binary("-", B, C))),
        ("a / b * c", Binary("*", Binary("/", A, B), C)),
        ("a + b * c", Binary("+", A, Binary("*", B, C))),
        ("-a * b", Binary("*", Unary("-", A), B)),
        ("a - -b", Binary("-", A, Unary("-", B))),
        ("not a and b or c", Binary("or", Binary("and", Unary("not", A), B), C)),
        ("not a < b", Unary("not", Compare(("<",), (A, B)))),
        ("a < b + c <= x", Compare(("<", "<="), (A, Binary("+", B, C), X))),
        ("a if b else c if x else 1", IfElse(A, B, IfElse(C, X, ONE))),
        ("a or b if c else x", IfElse(Binary("or", A, B), C, X)),
        ("f()", Call(Name("f"), ())),
        ("f(a, b = c,)", call("f", Argument(A), Argument(C, "b"))),
        ("ramp(1 -> 2, over = x)", call("ramp", Argument(ONE, to=TWO), Argument(X, "over"))),
        ("sort[b -> c](x, by = a)", Call(
            Bracket(Name("sort"), (Selector("rename", "b", new="c"),)), (Argument(X), Argument(A, "by")))),
        ("mean[b, t where a](x)", Call(
            Bracket(Name("mean"), (Selector("axis", "b"), Selector("axis", "t")), A), (Argument(X),))),
        ("x[a = b]", Bracket(X, (Selector("at", "a", B),))),
        ("x[a = 1..2]", Bracket(X, (Selector("slice", "a", ONE, TWO),))),
        ("x[a -> b]", Bracket(X, (Selector("rename", "a", new="b"),))),
        ("x[a -> b = c]", Bracket(X, (Selector("rename", "a", C, new="b"),))),
        ("x[a -> b = 1..2]", Bracket(X, (Selector("rename", "a", ONE, TWO, "b"),))),
        ("x[a by b]", Bracket(X, (Selector("by", "a", B),))),
        ("x[a : real[b]]", Bracket(X, (Selector("typed", "a", type=Type("real", ("b",))),))),
        ("x[a in 1..2]", Bracket(X, (Selector("range", "a", ONE, TWO),))),
        ("x[forget.t]", Bracket(X, (Selector("axis", "forget.t"),))),
        ("side{b: 1, c: -1,}", s.AxisConstant("side", (("b", ONE), ("c", Unary("-", ONE))))),
        ("x[a = 1][b = 2]", Bracket(Bracket(X, (Selector("at", "a", ONE),)), (Selector("at", "b", TWO),))),
        ("softmax[b](x)[b = a]", Bracket(
            Call(Bracket(Name("softmax"), (Selector("axis", "b"),)), (Argument(X),)), (Selector("at", "b", A),))),
    ],
)  # fmt: skip
def test_expression(text: str, tree: Any) -> None:
    assert expr(text) == tree


REAL = Type("real")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ('"""\n  Two\n    lines.\n"""', s.Meta("about", "Two\n  lines.")),
        ("objective dpo", s.Meta("objective", "dpo")),
        ('title "a \\"b\\" \\u03b1"', s.Meta("title", 'a "b" α')),
        ('cite "c"', s.Meta("cite", "c")),
        ("certainty checked", s.Meta("certainty", "checked")),
        ("id 012", s.Meta("id", "012")),
        ("use std.divergence (kl, js,)", s.Use("std.divergence", names=("kl", "js"))),
        ('use "my.loss" as mine', s.Use("my.loss", True, alias="mine")),
        ("use std.settings.tokens as forget sharing (v)", s.Use("std.settings.tokens", alias="forget", sharing=("v",))),
        ("axis t", s.Axis("t")),
        ("axis batch : batch", s.Axis("batch", True)),
        ("axis side = {a, b}", s.Axis("side", positions=("a", "b"))),
        ("input logits : logits[b, v]", s.Tensor("input", "logits", Type("logits", ("b", "v")))),
        ("data y : label[b] in v", s.Tensor("data", "y", Type("label", ("b",), "v"))),
        ("data u : real in [1, 2]", s.Tensor("data", "u", Type("real", within=(ONE, TWO)))),
        ('input w : weights in "encoder.*"', s.Tensor("input", "w", Type("weights", within=s.Pattern("encoder.*")))),
        ("input w : weights", s.Tensor("input", "w", Type("weights"))),
        ("input f : model(real[b]) -> logits[v]", s.Tensor("input", "f", Type(
            "model", parameters=(Type("real", ("b",)),), result=Type("logits", ("v",))))),
        ("param beta : positive = 0.1", s.Param("param", "beta", Type("positive"), Number("0.1"))),
        ("param mode : {a, b} = a", s.Param("param", "mode", Type("choice", choices=("a", "b")), A)),
        ("param w : positive[v]", s.Param("param", "w", Type("positive", ("v",)))),
        ("learn c : real[a] = 1", s.Param("learn", "c", Type("real", ("a",)), ONE)),
        ("state c : real = 1 then a", s.State("c", REAL, ONE, A)),
        ("let x = a", s.Let("x", A)),
        ("term f(x : real) = x", s.Term("f", (s.Formal("x", REAL),), X)),
        ("term f(x : real = from a, b : real = 2) -> real = x", s.Term(
            "f", (s.Formal("x", REAL, s.From("a")), s.Formal("b", REAL, TWO)), X, result=REAL)),
        ("term f()\n  let a = 1\n  x", s.Term("f", (), X, (s.Let("a", ONE),))),
        ("term f()\n  x", s.Term("f", (), X)),
        ("term f()\n  = x", s.Term("f", (), X)),
        ("reduce mean[b]", s.Reduce(Bracket(Name("mean"), (Selector("axis", "b"),)))),
        ("setting z\n  axis b : batch\n  reduce x", s.Setting("z", (s.Axis("b", True), s.Reduce(X)))),
        ("minimize\n  data : a\n  state : b", s.Block("minimize", (s.Entry("data", A), s.Entry("state", B)))),
        ("subject to d : a <= b", s.Constraint("d", Compare(("<=",), (A, B)))),
        ("subject to fit per b by id : a <= b", s.Constraint("fit", Compare(("<=",), (A, B)), "b", "id")),
        ('law "t" : a == b', s.Law("t", Compare(("==",), (A, B)))),
        ('law "t" : a == b for c : real, x with a = 1, b = 2', s.Law(
            "t", Compare(("==",), (A, B)), (s.Formal("c", REAL), s.Formal("x")), (s.Let("a", ONE), s.Let("b", TWO)))),
        ('extern f(x : real) -> real from "p.m:f"', s.Extern("f", (s.Formal("x", REAL),), REAL, "p.m:f")),
    ],
)  # fmt: skip
def test_declaration(text: str, tree: Any) -> None:
    assert only(text) == tree


def test_the_version_may_be_stated() -> None:
    assert read("lossc 1\nobjective a") == read("objective a")


KEYWORDS = sorted(
    {*DECLARATIONS, "batch", "then", "from", "as", "sharing", "to", "per", "with", "model", "choice"} - RESERVED
)


@pytest.mark.parametrize("word", [*KEYWORDS, "lambda", "exp", "mean", "None", "import"])
def test_any_other_keyword_may_be_a_name(word: str) -> None:
    text = f"""
input {word} : real[b]
param p : {word} = {word}
let q = {word} + f({word} = {word}, {word}) - {word}[{word} = {word}]
term g({word} : real = {word}, y : real = from {word}) = {word}
state s : {word} = {word} then {word}
minimize
  {word} : {word}
monitor
  {word} : -{word}
"""
    assert len(read(text).items) == 7
    assert only(f"term {word}({word} : real)\n  let {word} = 1\n  {word}").body == Name(word)


def test_names_are_normalised_and_may_be_greek() -> None:
    assert expr("γ_1") == Name("γ_1")
    assert expr("e\u0301") == expr("\u00e9") == Name("\u00e9")


def test_spans_cover_what_was_written() -> None:
    tree = expr("(a + b) * f(x)[t = 1]")
    assert isinstance(tree, Binary)
    assert tree.span.text == "(a + b) * f(x)[t = 1]"
    assert tree.left.span.text == "(a + b)"
    assert tree.right.span.text == "f(x)[t = 1]"
    term = only("term f(x : real)\n  let a = 1\n  a")
    assert term.span.text == "term f(x : real)\n  let a = 1\n  a"
    assert term.name_span.text == "f"
    assert term.formals[0].span.text == "x : real"
    assert term.lets[0].name_span.text == "a"


def test_equality_ignores_spans_comments_and_the_order_of_sections() -> None:
    one = read("param a : real\nminimize\n  x : 1\nlet b = 2\nminimize\n  y : 2")
    two = read("let b = 2\nminimize # c\n  x : (1)\n  y : 2\n\nparam a : real  # d")
    assert one == two
    assert hash(one) == hash(two)
    assert one != read("param a : real")
