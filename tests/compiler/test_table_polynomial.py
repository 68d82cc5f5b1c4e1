"""The arithmetic in which shifts cancel and bodies split."""

from __future__ import annotations

from fractions import Fraction

from lossc.compiler import intervals as iv
from lossc.compiler.core import Input, Node
from lossc.compiler.formula import formula
from lossc.compiler.table import polynomial as poly
from lossc.compiler.table.factor import factored
from lossc.compiler.table.polynomial import atom, number
from lossc.compiler.table.reading import Expanded, Reading
from lossc.compiler.table.rows import Abstraction

X, Y, S = Input("x", ("b", "v")), Input("y", ("b", "v")), Input("s", ("b",), bounds=iv.POSITIVE)
M = Input("m", ("b", "v"), "mask")
NAMES: dict[str, Node] = {"x": X, "y": Y, "s": S, "m": M}


def read(text: str) -> poly.Polynomial:
    return Reading().of(formula(text, NAMES))


def expanded(text: str) -> poly.Polynomial:
    return Expanded("v").of(formula(text, NAMES))


def test_equal_values_are_equal() -> None:
    assert read("x + y - x") == atom(Y)
    assert read("2 * x / 4") == atom(X).scaled(Fraction(1, 2))
    assert read("x * y / x") == atom(Y)
    assert read("x - x").constant == 0
    assert read("s^2 / s^0.5") == atom(S, Fraction(3, 2))


def test_exponentials_and_logarithms_cancel() -> None:
    assert read("exp(-log(s)) * s") == number(1)
    assert read("exp(x - y) * exp(y)") == read("exp(x)")
    assert read("log(exp(x) / s)") == read("x - log(s)")
    assert read("log(exp(x) * exp(y))") == read("x + y")
    assert read("sqrt(exp(2 * x))") == read("exp(x)")
    assert read("(exp(x) / s)^y") == read("exp(y * (x - log(s)))")


def test_a_logarithm_is_split_only_where_it_exists() -> None:
    assert read("log(x * exp(y))").single is not None, "x may be negative"
    assert len(read("log(s * exp(y))").terms) == 2


def test_masks_are_0_or_1() -> None:
    assert read("m * m * x") == read("m * x") == read("x if m else 0")
    assert expanded("(x if m else 0) * (y if not m else 0)") == number(0)
    assert read("m * x").node() is formula("x if m else 0", NAMES)


def test_sums_stay_together_until_they_are_expanded() -> None:
    assert len(read("x * (y + s)").terms) == 1
    assert len(expanded("x * (y + s)").terms) == 2
    assert len(expanded("(x - y)^2").terms) == 3
    assert len(expanded("s * (s + 1) * x").terms) == 1, "row factors are not multiplied out"


def test_powers_too_large_are_left_alone() -> None:
    assert len(expanded("(x + y)^9").terms) == 1
    assert read("2^1000000000").single is not None


def test_common_factors_stand_outside() -> None:
    e = formula("exp(x)", NAMES)
    assert factored(expanded("exp(x) * x - exp(x) * y"), "v") is formula("e * (x + -1 * y)", {**NAMES, "e": e}) or (
        factored(expanded("exp(x) * x - exp(x) * y"), "v") is formula("e * (-1 * y + x)", {**NAMES, "e": e})
    )


def test_row_values_are_gathered() -> None:
    rows = Abstraction("v")
    body = rows.of(formula("x * s / (s + 1) + 2 * s * x + s", NAMES))
    assert len(rows.values) == 2, "one factor of x, one summand"
    assert rows.back(body).axes == {"b", "v"}
