"""Formulas: the language as core, without kinds."""

from __future__ import annotations

from fractions import Fraction

import pytest

from lossc.compiler import core
from lossc.compiler.core import (
    ONE,
    Along,
    Const,
    Index,
    Input,
    Map,
    Node,
    Reduce,
    Rename,
    Select,
    Size,
    Slice,
    StopGrad,
)
from lossc.compiler.faults import InternalError
from lossc.compiler.formula import formula
from lossc.compiler.primitives import PRIMITIVES

X, Y, M, G = Input("x", ("b", "v")), Input("y", ("b",), "label"), Input("m", ("b", "v"), "mask"), Input("g", ("v",))
NAMES: dict[str, Node] = {"x": X, "y": Y, "m": M, "g": G}

CASES: list[tuple[str, Node]] = [
    ("0.1", Const(Fraction(1, 10))),
    ("1e-4", Const(Fraction(1, 10000))),
    ("-2", Const(Fraction(-2))),
    ("pi", core.PI),
    ("-inf", core.neg(core.INFINITY)),
    ("x - y", core.add(X, core.neg(Y))),
    ("-x^2", core.neg(core.power(X, core.const(2)))),
    ("x * y / 2", core.div(core.mul(X, Y), core.const(2))),
    ("x > y", Map("lt", (Y, X))),
    ("0 <= x < y", Map("and", (Map("le", (core.ZERO, X)), Map("lt", (X, Y))))),
    ("x == y or x != y", Map("or", (Map("eq", (X, Y)), Map("ne", (X, Y))))),
    ("not m", Map("not", (M,))),
    ("x if m else y", Map("where", (M, X, Y))),
    ("clip(x, 0, 1)", Map("clip", (X, core.ZERO, ONE))),
    ("max(x, y, 1)", Map("max", (X, Y, ONE))),
    ("sg(x)", StopGrad(X)),
    ("sum[v where m](x)", Reduce("sum", ("v",), X, M)),
    ("mean[b, v](x)", Reduce("mean", ("b", "v"), X)),
    ("count[v where m]", Reduce("count", ("v",), ONE, M)),
    ("quantile[v](x, 0.5)", Reduce("quantile", ("v",), X, None, None, core.HALF)),
    ("std[v](x, ddof = 1)", Reduce("std", ("v",), X, None, None, ONE)),
    ("log_softmax[v where m](x)", Along("log_softmax", "v", X, M)),
    ("cumsum[v by g](x)", Along("cumsum", "v", X, None, G)),
    ("sort[v -> r](x, by = g)", Along("sort", "v", X, option=G, new="r")),
    ("shift[v](x, 1, fill = 0)", Along("shift", "v", X, option=ONE, fill=core.ZERO)),
    ("x[v = y]", Select(X, "v", Y)),
    ("x[v = 2]", Select(X, "v", 2)),
    ("x[v -> w]", Rename(X, "v", "w")),
    ("x[v -> w = 0..2]", Slice(X, "v", "w", 0, 2)),
    ("index[v] + size[v]", core.add(Index("v"), Size("v"))),
]


@pytest.mark.parametrize(("text", "node"), CASES, ids=[text for text, _ in CASES])
def test_reads(text: str, node: Node) -> None:
    assert formula(text, NAMES) is node


def test_axes_take_the_names_given() -> None:
    assert formula("sum[a](x)", NAMES, {"a": "v"}) is Reduce("sum", ("v",), X)


def test_derivatives_of_the_table_can_be_read() -> None:
    names: dict[str, Node] = {name: Input(name, ()) for name in "xyz"}
    for entry in PRIMITIVES.values():
        for text in filter(None, entry.derivatives):
            formula(text, names)


@pytest.mark.parametrize("text", ["x +", "unknown", "f(x)", "exp(x, y)", "softmax(x)", "exp(x = y)", "x[v = y..y]"])
def test_a_wrong_formula_is_a_fault(text: str) -> None:
    with pytest.raises(InternalError, match="formula"):
        formula(text, NAMES)
