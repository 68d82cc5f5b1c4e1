"""Choices are made before compiling: what is not chosen leaves the graph, and terms are normalised without it."""

from __future__ import annotations

from lossc.compiler.check import check_source
from lossc.compiler.core import Map, Param, walk
from lossc.compiler.program import Program
from lossc.compiler.settle import choices, settle
from lossc.compiler.simplify import roots
from lossc.grammar.source import Source

SPEC = """objective settled
axis b : batch
input x : real[b]
param mode : {rows, spread, other} = rows
param w    : real = 1
let reach = abs(x) if mode == rows else x if mode != other else x^2

minimize
  loss : mean[b](reach) if mode == rows else w * std[b](reach)
"""


def checked() -> Program:
    program = check_source(Source("settled.loss", SPEC)).program
    assert program is not None
    return program


def forms(program: Program) -> list[str]:
    return [part.form for part in program.terms[0].parts]


def names(program: Program) -> set[str]:
    nodes = list(walk(*roots(program)))
    assert not any(isinstance(node, Param) and node.name == "mode" for node in nodes)
    return {node.function for node in nodes if isinstance(node, Map)}


def test_the_default_is_what_is_planned() -> None:
    assert forms(checked()) == ["ratio", "coupled"]
    settled = settle(checked())
    assert forms(settled) == ["ratio"]
    assert "abs" in names(settled)
    assert "pow" not in names(settled)


def test_another_choice() -> None:
    settled = settle(checked(), {"mode": 2})
    assert forms(settled) == ["coupled"]
    assert "abs" not in names(settled)
    assert "pow" in names(settled)
    assert "pow" not in names(settle(checked(), {"mode": 1}))


def test_numbers_are_not_settled() -> None:
    assert set(choices(checked())) == {"mode"}
    assert any(isinstance(node, Param) and node.name == "w" for node in walk(*roots(settle(checked(), {"mode": 1}))))
