"""Instances of the rewrite rules, made from the table: nodes for each variable that its conditions accept."""

from __future__ import annotations

import random
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossc.compiler import core
from lossc.compiler import intervals as iv
from lossc.compiler.core import Along, Const, Input, Map, Node, Param, Reduce, Select
from lossc.compiler.formula import formula
from lossc.compiler.simplify.conditions import PREDICATES
from lossc.compiler.simplify.patterns import Axes, Binding, instantiate, variable, variables
from lossc.compiler.simplify.rules import Rule

SIZES = {"b": 2, "v": 2, "w": 2, "u": 2}

LABEL = Input("y", ("b",), "label", iv.INTEGER)
OTHER_LABEL = Input("y2", ("b",), "label", iv.INTEGER)
MASK = Input("m", ("b", "v"), "mask")
OTHER_MASK = Input("n", ("v",), "mask")
NAMES: dict[str, Node] = {
    "x": Input("x", ("b", "v")), "z": Input("z", ("b", "v")), "t": Input("t", ("b", "v")), "r": Input("r", ("b",)),
    "q": Input("q", ("b", "v"), "prob", iv.UNIT), "u": Input("u", ("b", "v"), "unit", iv.UNIT),
    "pos": Input("pos", ("b", "v"), "nonneg", iv.NONNEG), "neg": Input("neg", ("b", "v"), "logprob", iv.LOGPROB),
    "tau": Param("tau", "param", (), iv.POSITIVE), "gamma": Param("gamma", "param", (), iv.NONNEG), "y": LABEL, "m": MASK,
}  # fmt: skip


def _nodes(*texts: str) -> list[Node]:
    return [formula(text, NAMES) for text in texts]


_EXPONENTIAL = _nodes("exp(x)", "softmax[v](z)", "sigmoid(x)", "softmax[v](z)[v = y]", "exp(r)")
_LOGGABLE = [*_EXPONENTIAL, *_nodes("exp(x) + exp(z)", "-expm1(neg)", "tau * exp(x)", "sum[v](exp(z))")]
_SAMPLES: dict[str, list[Node]] = {
    "exponential": _EXPONENTIAL,
    "normaliser": [*_EXPONENTIAL, *_nodes("exp(x) + exp(z)", "sum[v](exp(z))", "1 + exp(x)")],
    "loggable": _LOGGABLE,
    "logarithmic": _nodes("log_softmax[v](z)"),
    "may_vanish": [NAMES["q"], NAMES["pos"]],
    "mask": [MASK, OTHER_MASK],
    "rational": [Const(Fraction(3)), Const(Fraction(-1, 2))],
    "steady": [NAMES["tau"], Const(Fraction(2))],
    "unit": [NAMES["q"], NAMES["u"]],
    "nonneg": [NAMES["pos"], NAMES["gamma"]],
    "nonpos": [NAMES["neg"]],
    "positive": [NAMES["tau"], *_nodes("exp(x)"), Const(Fraction(2))],
    "above_minus_one": [NAMES["pos"]],
    "even": [Const(Fraction(2))],
    "free": [NAMES["r"], NAMES["tau"]],
}
_ANY = [NAMES["x"], NAMES["z"], NAMES["pos"]]
_REMAINING = [core.ONE, NAMES["t"], NAMES["tau"], NAMES["pos"], Const(Fraction(-2))]


def instances(rule: Rule, limit: int = 12) -> Iterator[tuple[Binding, Node]]:
    """Some bindings that satisfy the conditions of a rule, with the pattern that they make."""
    names = sorted(variables(rule.left))
    axes = {name: Axes(("w",) if name == "[w]" and _renames(rule) else ("v",)) for name in names if name[0] == "["}
    values = [name for name in names if name[0] != "["]
    choices = [_candidates(rule, name) for name in values]
    combinations = list(product(*choices))
    random.Random(rule.name).shuffle(combinations)
    found = 0
    for combination in combinations:
        binding: dict[str, Any] = {**axes, **dict(zip(values, combination, strict=True))}
        if found < limit and _accepted(rule, binding):
            try:
                node = instantiate(rule.left, binding, lambda made: made)
            except KeyError:
                continue
            if _sensible(node):
                found += 1
                yield binding, node


def _renames(rule: Rule) -> bool:
    return "->" in rule.pattern


def _candidates(rule: Rule, name: str) -> list[Any]:
    place = _place(rule.left, name)
    if place == "where":
        return [None, MASK]
    if place == "mask":
        return [MASK, OTHER_MASK]
    if place == "at":
        return [LABEL, OTHER_LABEL] if name == "y" else [OTHER_LABEL]
    asked = [predicate for predicate, arguments in rule.tests if arguments[0] == name and predicate in _SAMPLES]
    if asked:
        return [node for predicate in asked for node in _SAMPLES[predicate]]
    return [*_REMAINING, *_ANY] if name in ("k", "j", "rest") else [*_ANY, NAMES["tau"]]


def _place(pattern: Node, name: str) -> str:
    for node in core.walk(pattern):
        match node:
            case Reduce(where=where) | Along(where=where) if where is not None and variable(where) == name:
                return "where"
            case Map(function="where", arguments=(condition, *_)) if variable(condition) == name:
                return "mask"
            case Map(function="not" | "and" | "or", arguments=arguments) if name in map(variable, arguments):
                return "mask"
            case Select(at=at) if variable(at) == name:
                return "at"
    return "value"


def _accepted(rule: Rule, binding: Binding) -> bool:
    return all(PREDICATES[name](*(binding[argument] for argument in arguments)) for name, arguments in rule.tests)


def _sensible(node: Node) -> bool:
    from lossc.compiler.verify import violation

    return all(violation(part) in (None, "sums and products are flat") for part in core.walk(node))


def environment(kind: str, seed: int) -> dict[str, NDArray[Any]]:
    """Values for every name: random, extreme, tied or tiny, with masks that admit some, all or none."""
    generator = np.random.default_rng(seed)
    shape = (SIZES["b"], SIZES["v"])
    scores = {
        "random": lambda size: generator.normal(size=size) * 2,
        "extreme": lambda size: generator.choice([-715.0, 0.0, 715.0, 1.5], size=size),
        "ties": lambda size: np.full(size, 0.75),
        "tiny": lambda size: generator.choice([1e-8, -1e-8, 0.0], size=size),
    }[kind]
    masks = {"random": generator.random(shape) < 0.6, "extreme": np.ones(shape, bool), "tiny": np.zeros(shape, bool)}
    unit = np.clip(np.abs(scores(shape)) / 4, 0, 1)
    return {
        **{name: scores(shape) for name in ("x", "z", "t")}, "r": scores(shape[:1]), "q": unit,
        "u": np.clip(np.abs(scores(shape)) / 3, 0, 1), "pos": np.abs(scores(shape)), "neg": -np.abs(scores(shape)),
        "tau": np.array(0.7), "gamma": np.array(1.5), "y": generator.integers(0, 2, size=2),
        "y2": generator.integers(0, 2, size=2), "m": masks.get(kind, masks["random"]), "n": generator.random(2) < 0.7,
    }  # fmt: skip
