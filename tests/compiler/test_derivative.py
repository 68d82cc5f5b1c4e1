"""Symbolic derivatives against finite differences, for every primitive of the table and for compositions."""

from __future__ import annotations

import math

import pytest

from lossc.compiler.core import ONE, ZERO, Const, Input, Map, Node, Reduce, StopGrad, add, apply, const, mul, walk
from lossc.compiler.derivative import cancelled, derivative
from lossc.compiler.faults import InternalError
from lossc.compiler.formula import formula
from lossc.compiler.primitives import PRIMITIVES

X, Y, Z = (Input(name, ()) for name in "xyz")
POINT = {X: 0.37, Y: 1.3, Z: 2.1}
STEP = 1e-6
LESS_THAN_ZERO = {"log1mexp"}


def value(node: Node, at: dict[Node, float]) -> float:
    done: dict[Node, float] = dict(at)
    for part in walk(node):
        if part in done:
            continue
        if isinstance(part, Const):
            done[part] = float(part)
        elif isinstance(part, StopGrad):
            done[part] = done[part.body]
        else:
            assert isinstance(part, Map)
            done[part] = PRIMITIVES[part.function].value(*(done[argument] for argument in part.arguments))
    return done[node]


def slope(node: Node, wrt: Node, at: dict[Node, float]) -> float:
    above, below = ({**at, wrt: at[wrt] + sign * STEP} for sign in (1, -1))
    return (value(node, above) - value(node, below)) / (2 * STEP)


def smooth_functions() -> list[str]:
    return [name for name, entry in PRIMITIVES.items() if not entry.mask and name not in ("trigamma", "where")]


@pytest.mark.parametrize("name", smooth_functions())
def test_every_primitive(name: str) -> None:
    entry = PRIMITIVES[name]
    at = {X: -0.37, Y: 1.3, Z: 2.1} if name in LESS_THAN_ZERO else POINT
    arguments = (X, Y, Z)[: entry.arity or 3]
    node = apply(name, *arguments)
    for argument in arguments:
        found = value(derivative(node, argument), at)
        assert found == pytest.approx(slope(node, argument, at), rel=1e-5, abs=1e-7), argument


@pytest.mark.parametrize(
    "text",
    [
        "x * log(2 * x / (1 + x)) + log(2 / (1 + x))",
        "(x^z - 1) / (z - 1)",
        "softplus(-y * x) * exp(-x^2)",
        "x^2 if x < y else y^2 + 2 * y * (x - y)",
        "max(x, x^2, y) * min(x, y)",
        "abs(x - y) + clip(x, 0.2, 0.5)",
        "xlogy(x, x) + sqrt(x) / (1 + x)",
    ],
)
def test_compositions(text: str) -> None:
    node = formula(text, {"x": X, "y": Y, "z": Z})
    for wrt in (X, Y, Z):
        assert value(derivative(node, wrt), POINT) == pytest.approx(slope(node, wrt, POINT), rel=1e-5, abs=1e-8)


def test_second_derivative() -> None:
    node = formula("x^3 * exp(y * x)", {"x": X, "y": Y})
    first = derivative(node, X)
    assert value(derivative(first, X), POINT) == pytest.approx(slope(first, X, POINT), rel=1e-5)


def test_what_cancels_in_a_slope() -> None:
    """The slope of a generator of Jensen and Shannon's divergence is one log, however it is written."""
    for text in ("x * log(2 * x / (1 + x)) + log(2 / (1 + x))", "x * log(x) - (x + 1) * log((x + 1) / 2)"):
        node = cancelled(derivative(formula(text, {"x": X}), X))
        assert value(node, POINT) == pytest.approx(math.log(2 * POINT[X] / (1 + POINT[X])))
        assert sum(isinstance(part, Map) and part.function == "div" for part in walk(node)) <= 1


def test_stop_gradient_is_a_constant() -> None:
    assert derivative(StopGrad(X), X) is ZERO
    assert value(derivative(mul(StopGrad(X), X), X), POINT) == POINT[X]


def test_ties_share_the_slope() -> None:
    node = apply("max", X, X, Y)
    assert value(derivative(node, X), {X: 2.0, Y: 1.0}) == 1
    assert value(derivative(apply("max", X, Y, Z), X), {X: 1.0, Y: 1.0, Z: 0.0}) == 0.5


def test_constants_are_folded() -> None:
    assert derivative(formula("x^2", {"x": X}), X) is mul(const(2), X)
    assert derivative(add(X, Y), X) is ONE
    assert derivative(formula("3 * y", {"y": Y}), X) is ZERO


def test_a_branch_not_taken_is_not_read() -> None:
    node = formula("log(x) if x > 0 else 0", {"x": X})
    found = derivative(node, X)
    assert value(derivative(node, X), {X: 2.0}) == 0.5
    assert isinstance(found, Map)
    assert found.function == "where"


def test_a_reduction_is_refused() -> None:
    z = Input("z", ("v",))
    with pytest.raises(InternalError):
        derivative(Reduce("sum", ("v",), z), z)
    assert math.isfinite(value(derivative(add(X, Y), X), POINT))
