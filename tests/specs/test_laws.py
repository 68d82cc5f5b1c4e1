"""The laws of the library hold at random points: each is made an objective that measures how far it is from true."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import lossc
from lossc.compiler.mentions import syntax_nodes
from lossc.grammar import parse
from lossc.grammar.diagnostics import Diagnostics
from lossc.grammar.printer import print_expr, print_text, print_type
from lossc.grammar.source import Source
from lossc.grammar.syntax import Bracket, Call, Compare, Expr, File, Law, Name, Term, Type, Use

SPECS = Path(__file__).parents[2] / "specs" / "std"
SIZES = {"row": 4, "v": 5, "d": 3, "b": 4, "side": 2}
NOT_NUMERIC = {"limit", "grad", "l1", "l2", "ewc"}
"""Laws that use these are claims about limits, gradients or parameters of a model."""


def module(path: Path) -> File:
    return parse(Source(str(path), path.read_text(encoding="utf-8")), Diagnostics())


def laws() -> Iterator[tuple[str, Law]]:
    for path in sorted(SPECS.glob("*.loss")):
        for item in module(path).items:
            if isinstance(item, Law) and not NOT_NUMERIC & set(called(item.claim)):
                yield path.stem, item


def called(expr: Expr) -> Iterator[str]:
    for node in syntax_nodes(expr):
        if isinstance(node, Call):
            head = node.function.head if isinstance(node.function, Bracket) else node.function
            if isinstance(head, Name):
                yield head.id


def type_of(name: str, law: Law, terms: dict[str, Term]) -> Type:
    """The kind of a name: as written, or that of the argument in whose place it stands."""
    written = next((formal.type for formal in law.formals if formal.name == name and formal.type), None)
    if written is not None:
        return written
    for node in syntax_nodes(law.claim):
        if isinstance(node, Call) and isinstance(node.function, Name) and node.function.id in terms:
            formals = terms[node.function.id].formals
            for place, argument in enumerate(node.arguments):
                formal = next((f for f in formals if f.name == argument.name), formals[min(place, len(formals) - 1)])
                if isinstance(argument.value, Name) and argument.value.id == name and formal.type is not None:
                    return formal.type
    return Type("real")


def over_rows(type_: Type, rows: str) -> str:
    """The type with one more axis, so that one evaluation tries several points; scores of all pairs have theirs."""
    axes = type_.axes or ()
    return print_type(type_ if rows in axes else Type(type_.kind, (rows, *axes), type_.within))


def gap(claim: Compare) -> str:
    """How far a chain of comparisons is from true: 0 where it holds."""
    sides = [f"({print_expr(side)})" for side in claim.operands]
    gaps = {"==": "abs({0} - {1})", "<=": "relu({0} - {1})", ">=": "relu({1} - {0})"}
    return " + ".join(gaps[op].format(*sides[at : at + 2]) for at, op in enumerate(claim.ops))


def measured(stem: str, law: Law) -> str:
    """The text of an objective whose loss is 0 where the law holds."""
    file = module(SPECS / f"{stem}.loss")
    terms = {item.name: item for item in file.items if isinstance(item, Term)}
    types = {formal.name: type_of(formal.name, law, terms) for formal in law.formals}
    rows = "b" if any(type_.axes == ("b", "j") for type_ in types.values()) else "row"
    assert isinstance(law.claim, Compare)
    return "\n".join(
        [
            f"use std.{stem}",
            *(use_text(item) for item in file.items if isinstance(item, Use)),
            f"axis {rows} : batch",
            *(f"data {name} : {over_rows(type_, rows)}" for name, type_ in types.items()),
            "minimize",
            f"  gap : mean[{rows}]({gap(law.claim)})" if types else f"  gap : {gap(law.claim)}",
        ]
    )


def use_text(use: Use) -> str:
    return print_text(File((use,))).strip()


LAWS = list(laws())


@pytest.mark.parametrize(("stem", "law"), LAWS, ids=[f"{stem}: {law.title}" for stem, law in LAWS])
def test_law_holds_at_random_points(stem: str, law: Law) -> None:
    objective = lossc.loads(measured(stem, law))
    for seed in (0, 1):
        inputs = lossc.example_inputs(objective, SIZES, seed=seed)
        doubled = {name: x.double() if x.is_floating_point() else x for name, x in inputs.items()}
        assert float(objective(**doubled).loss) == pytest.approx(0.0, abs=1e-9)
