"""Every rewrite rule, from the table: what it replaces and what it puts there are equal, exactly and in floating point."""

from __future__ import annotations

import math

import pytest
from mpmath import mp
from tests.compiler.evaluate import Array, Values, evaluate
from tests.compiler.instances import SIZES, environment, instances

from lossc.compiler.core import Node, Reduce, walk
from lossc.compiler.simplify import RULES, Rule, Simplifier
from lossc.compiler.simplify.conditions import PREDICATES
from lossc.compiler.simplify.patterns import Unfit, instantiate, variables

KINDS = ("random", "extreme", "ties", "tiny")
DIGITS = 720
"""Enough for 1 - exp(-720) to be told from 1."""


ROUNDS_TO_ONE = ("log of a complement", "log1p of -exp")
"""Where p is 1 in double precision, log(1 - p) is -inf although it is a finite number below -36."""

OVERFLOWS = ("1 - exponential",)
"""The value itself is beyond double precision before it is multiplied by 0."""


@pytest.fixture(autouse=True)
def _precision() -> object:
    with mp.workdps(DIGITS):
        yield


def test_names_are_unique() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_conditions_ask_of_the_pattern(rule: Rule) -> None:
    for name, arguments in rule.tests:
        assert name in PREDICATES
        assert set(arguments) <= variables(rule.left)
    assert variables(rule.right) <= variables(rule.left)
    assert rule.why


def _pairs(left: Array, right: Array) -> list[tuple[object, object]]:
    axes = tuple(sorted({*left.axes, *right.axes}))
    return list(zip(left.spread(axes, SIZES).ravel(), right.spread(axes, SIZES).ravel(), strict=True))


def _equal(exact: object, other: object) -> bool:
    if mp.isinf(exact) or mp.isinf(other):
        return exact == other
    return bool(abs(exact - other) <= mp.mpf(10) ** -20 * (1 + abs(exact)))  # type: ignore[operator]


def _close(exact: object, value: float) -> bool:
    """Equal in double precision; finite wherever the exact value is."""
    if mp.isinf(exact) or abs(exact) > 1e300:  # type: ignore[arg-type]
        return math.isinf(value)
    return math.isfinite(value) and abs(float(exact) - value) <= 1e-9 * (abs(float(exact)) + 1e-3)  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_sound(rule: Rule) -> None:
    seen = 0
    for index, (binding, before) in enumerate(instances(rule, limit=3)):
        try:
            after = instantiate(rule.right, binding, lambda made: made)
        except Unfit:
            continue
        simplified = Simplifier()(before)
        for kind in KINDS:
            if kind == "tiny" and any(isinstance(n, Reduce) and n.op == "mean" and n.where for n in walk(before)):
                continue  # the mean of nothing is absent, and masked by the graph around it
            values = environment(kind, index)
            expected = evaluate(before, values, SIZES, exact=True)
            seen += _check_exact(expected, after, values)
            if not (kind == "extreme" and rule.name in OVERFLOWS):
                _check_double(expected, simplified, values, least=-36.0 if rule.name in ROUNDS_TO_ONE else -math.inf)
    assert seen > 0


def _check_exact(expected: Array, after: Node, values: Values) -> int:
    """The number of entries that were compared."""
    compared = 0
    for exact, other in _pairs(expected, evaluate(after, values, SIZES, exact=True)):
        if not mp.isnan(exact):
            assert _equal(exact, other), (mp.nstr(exact, 15), mp.nstr(other, 15))
            compared += 1
    return compared


def _check_double(expected: Array, simplified: Node, values: Values, least: float) -> None:
    for exact, value in _pairs(expected, evaluate(simplified, values, SIZES)):
        if not mp.isnan(exact) and exact > least:  # type: ignore[operator]
            assert _close(exact, value), (mp.nstr(exact, 15), value)  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_fires(rule: Rule) -> None:
    """No rule is dead: it fires on one of its own instances, and the result is a fixed point."""
    for index, (_, node) in enumerate(instances(rule, limit=40)):
        simplifier = Simplifier()
        result = simplifier(node)
        assert not simplifier.record.exhausted
        assert Simplifier()(result) is result
        if index >= 3 and rule in simplifier.record.fired:
            return
    assert any(_fires(rule, node) for _, node in instances(rule, limit=4))


def _fires(rule: Rule, node: Node) -> bool:
    simplifier = Simplifier()
    simplifier(node)
    return rule in simplifier.record.fired
