"""The verifier: every statement of the table is broken by some node, and only by a wrong one."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from lossc.compiler import core
from lossc.compiler.check import check_source
from lossc.compiler.core import (
    ONE,
    Along,
    Call,
    Const,
    Draw,
    Index,
    Input,
    Local,
    Map,
    Node,
    Param,
    Reduce,
    Rename,
    Select,
    Size,
    Slice,
    StopGrad,
)
from lossc.compiler.faults import InternalError
from lossc.compiler.formula import formula
from lossc.compiler.simplify import roots, simplify
from lossc.compiler.verify import SPECIFICATION, verified, verify, violation
from lossc.grammar.source import Source

Z = Input("z", ("b", "v"))
Y = Input("y", ("b",), "label")
M = Input("m", ("b", "v"), "mask")
G = Input("g", ("b",), "label")


def _raw(kind: type[Node], **values: Any) -> Node:
    """A node whose derived fields are not computed, as a faulty pass might make it."""
    node = object.__new__(kind)
    for name, value in {"axes": core.NO_AXES, **values}.items():
        object.__setattr__(node, name, value)
    return node


GOOD = [
    formula("logsumexp[v where m](z) - z[v = y]", {"z": Z, "y": Y, "m": M}),
    Reduce("sum", ("b",), Z, None, (G, "group")),
    Reduce("quantile", ("v",), Z, None, None, core.HALF),
    Reduce("std", ("v",), Z, None, None, ONE),
    Reduce("all", ("v",), M),
    Along("sort", "v", Z, option=Z, new="r"),
    Along("shift", "v", Z, option=ONE, fill=core.ZERO),
    Call("cov", (Z,), consumed=("b",), produced=("e",)),
    Slice(Z, "v", "k", 0, 2),
    Rename(Z, "v", "w"),
    StopGrad(Draw("normal", ("b",), 0)),
    core.add(Size("v"), Index("v"), Const("inf"), Param("w", "learn", ("v",))),
]

BAD: list[tuple[str, Node]] = [
    ("distinct axis names", _raw(Input, name="z", order=("b", "b"))),
    ("a name", _raw(Input, name="", order=("b",))),
    ("a rational", _raw(Const, value=0.1)),
    ("distinct axis names", _raw(Param, name="p", role="param", order=("b", "b"))),
    ("role", _raw(Param, name="p", role="weight", order=())),
    ("axis is a name", _raw(Index, axis=1)),
    ("axis is a name", _raw(Size, axis=1)),
    ("distinct axis names", _raw(Draw, distribution="normal", order=("b", "b"))),
    ("distribution", _raw(Draw, distribution="cauchy", order=("b",))),
    ("table of primitives", _raw(Map, function="cross_entropy", arguments=(Z,))),
    ("every argument is a node", _raw(Map, function="exp", arguments=(1,))),
    ("as many arguments", _raw(Map, function="exp", arguments=(Z, Z))),
    ("as many arguments", _raw(Map, function="add", arguments=(Z,))),
    ("over masks", Map("and", (M, Z))),
    ("over masks", Map("where", (Z, Z, Z))),
    ("flat", Map("add", (Map("add", (Z, Z)), Z))),
    ("operation is known", Reduce("median_of_means", ("v",), Z)),  # type: ignore[arg-type]
    ("distinct named axes", Reduce("sum", (), Z)),
    ("has each reduced axis", Reduce("sum", ("t",), Z)),
    ("`where` is a mask", Reduce("sum", ("v",), Z, Z)),
    ("`any` and `all`", Reduce("any", ("v",), Z)),
    ("groups are labels", Reduce("sum", ("v",), Z, None, (G, "group"))),
    ("groups are labels", Reduce("sum", ("b",), Z, None, (G, "v"))),
    ("a quantile has a level", Reduce("quantile", ("v",), Z)),
    ("only quantile, std and var", Reduce("sum", ("v",), Z, None, None, ONE)),
    ("selected axis", Select(Z, "t", Y)),
    ("never a mask", Select(Z, "v", M)),
    ("never a mask", Select(Z, "v", -1)),
    ("never a mask", Select(Z, "v", True)),
    ("sliced axis", Slice(Z, "t", "k", 0, 2)),
    ("new axis is not", Slice(Z, "v", "b", 0, 2)),
    ("start < stop", Slice(Z, "v", "k", 2, 2)),
    ("renamed axis", Rename(Z, "t", "w")),
    ("new name is not", Rename(Z, "v", "b")),
    ("operation is known", Along("cummin", "v", Z)),  # type: ignore[arg-type]
    ("has the axis", Along("softmax", "t", Z)),
    ("`where` is a mask", Along("softmax", "v", Z, Z)),
    ("`by` is a label", Along("cumsum", "v", Z, None, M)),
    ("only sort and topk", Along("sort", "v", Z)),
    ("only sort and topk", Along("softmax", "v", Z, new="w")),
    ("take an option", Along("softmax", "v", Z, option=ONE)),
    ("have their option", Along("scan", "v", Z)),
    ("only shift", Along("cumsum", "v", Z, fill=ONE)),
    ("holds a node", _raw(StopGrad, body=1)),
    ("consumed axes", _raw(Call, function="f", arguments=(Z,), consumed=("b", "b"), produced=())),
    ("produced axes", _raw(Call, function="f", arguments=(Z,), consumed=(), produced=("e", "e"))),
    ("some argument has", Call("logdet", (Z,), consumed=("e",))),
    ("names are those", Call("sinkhorn", (Z, ONE), names=("eps",))),
    ("distinct axis names", Local("delta", 0, ("b", "b"))),
    ("it has a name", Local("", 0)),
]


@pytest.mark.parametrize("node", GOOD, ids=range(len(GOOD)))
def test_well_formed(node: Node) -> None:
    verify(node)


@pytest.mark.parametrize(("part", "node"), BAD, ids=range(len(BAD)))
def test_violations_are_named(part: str, node: Node) -> None:
    assert part in (violation(node) or "")


def test_every_statement_can_be_broken() -> None:
    broken = {(type(node), violation(node)) for _, node in BAD}
    assert broken == {(kind, statement.text) for kind, statements in SPECIFICATION.items() for statement in statements}


def test_a_fault_says_whose_it_is() -> None:
    with pytest.raises(InternalError, match="fault of lossc"):
        verify(core.add(ONE, Select(Z, "t", Y)))


def test_off_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Select(Z, "t", Y)
    monkeypatch.setenv("LOSSC_VERIFY", "0")
    verified("a pass", [wrong])
    monkeypatch.setenv("LOSSC_VERIFY", "1")
    with pytest.raises(InternalError, match="after the pass `a pass`"):
        verified("a pass", [wrong])


def test_a_rational_is_exact() -> None:
    assert violation(Const(Fraction(1, 3))) is None


ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = sorted([*ROOT.glob("specs/examples/*.loss"), *ROOT.glob("tests/golden/good/*.loss")])


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_whole_programs_before_and_after_simplification(path: Path) -> None:
    checked = check_source(Source(str(path), path.read_text(encoding="utf-8")))
    assert checked.program is not None
    verify(*roots(checked.program))
    simplified = simplify(checked.program).program
    verify(*roots(simplified))
    assert list(roots(simplify(simplified).program)) == list(roots(simplified))
