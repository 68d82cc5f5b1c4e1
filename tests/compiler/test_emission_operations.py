"""How few operations a program takes: what is emitted, and which guards are not."""

from __future__ import annotations

import pytest

from lossc.compiler import intervals as iv
from lossc.compiler.core import Input, Node, Param, where
from lossc.compiler.emission import Slot, emit
from lossc.compiler.formula import formula
from lossc.compiler.steep import is_steep

NODES: dict[str, Node] = {
    "x": Input("x", ("b", "t")),
    "y": Input("y", ("b", "t")),
    "row": Input("row", ("b",)),
    "other": Input("other", ("b",)),
    "fixed": Input("fixed", ("b", "t"), detached=True),
    "unit": Input("unit", ("b", "t"), "unit", iv.UNIT),
    "low": Param("low", "learn"),
    "m": Input("m", ("b", "t"), "mask", detached=True),
}


def operations(text: str, *, masked: bool = False) -> list[str]:
    """What the program of a formula calls, without what only lays operands out."""
    node = formula(text, NODES)
    node = where(NODES["m"], node, formula("0", NODES)) if masked else node
    names = [instruction.operation for instruction in emit({"loss": node}).instructions]
    return [name for name in names if name not in ("operations.align", "operations.constant")]


SUMS = {
    "x - y": ["torch.sub"],
    "-x + y": ["torch.sub"],
    "x + 0.5 * y": ["torch.add"],
    "x + 1": ["operations.add"],
    "1 - x": ["torch.neg", "operations.add"],
    "-x - y": ["torch.neg", "torch.sub"],
    "2 * x - y": ["operations.mul", "torch.sub"],
    "x + x": ["operations.add"],
    "2 * x + 2 * x": ["operations.mul", "torch.add"],
    "-x": ["torch.neg"],
    "-(x * y)": ["torch.neg", "operations.mul"],
    "0.5 * x * y": ["operations.mul", "operations.mul"],
}


@pytest.mark.parametrize("text", SUMS)
def test_sums_and_products(text: str) -> None:
    assert operations(text) == SUMS[text]


def test_numbers_become_one() -> None:
    (instruction,) = emit({"loss": formula("1 + x + 2", NODES)}).instructions
    assert instruction.operation == "operations.add"
    assert [a for a in instruction.arguments if not isinstance(a, Slot)] == [3.0]


def test_a_number_multiplies_what_is_small() -> None:
    procedure = emit({"loss": formula("3 * x * row", NODES)})
    first, *_ = [i for i in procedure.instructions if i.operation == "operations.mul"]
    slots = {bound.name: Slot(bound.slot) for bound in procedure.bound}
    assert first.arguments == (3.0, slots["row"])


def test_rows_are_divided_before_entries_are_multiplied() -> None:
    procedure = emit({"loss": formula("row * x / (abs(other) + 1)", NODES)})
    (quotient,) = [i for i in procedure.instructions if i.operation == "torch.div"]
    names = {bound.slot: bound.name for bound in procedure.bound}
    assert names[quotient.arguments[0].index] == "row"  # type: ignore[union-attr]
    assert operations("x * y / row")[-1] == "torch.div"


def test_bounds_that_are_numbers_are_no_tensors() -> None:
    (instruction,) = emit({"loss": formula("clip(x, 0.8, 1.25)", NODES)}).instructions
    assert instruction.arguments[1:] == (0.8, 1.25)
    assert "operations.constant" in [i.operation for i in emit({"loss": formula("clip(x, low, 1)", NODES)}).instructions]


# ------------------------------------------------------------------------------------------------ guards

AWAY = {
    "1 / (abs(x) + 1e-8)": True,
    "log(x ^ 2 + 1e-6)": True,
    "sqrt(abs(x) + 0.1)": True,
    "1 / x": False,
    "log(abs(x))": False,
    "1 / (abs(x) + 1e-20)": False,
    "log(1.0000001 - unit)": False,
    "log(1.5 - unit)": True,
}
"""Functions that are singular at 0, and whether what they are of keeps away from it; what cancels may be rounded to 0."""


@pytest.mark.parametrize("text", AWAY)
def test_what_keeps_away_from_zero_is_not_guarded(text: str) -> None:
    assert is_steep(formula(text, NODES)) is not AWAY[text]
    leaves = operations(text, masked=True).count("torch.where")
    assert leaves == (2 if AWAY[text] else 3)


ATTACHED = {
    "min(exp(x), 2)": 1,
    "min(exp(x) * y, 2)": 2,
    "min(exp(x) * fixed, 2)": 1,
    "min(exp(fixed) * x, 2)": 1,
    "min(exp(fixed), 2)": 0,
    "min(-3 * exp(x), 2)": 1,
    "max(log(abs(x) + 0.01), y)": 0,
    "max(x / (abs(y) + 0.01), 0)": 0,
    "max(x * y + x ^ 2, 0)": 0,
    "clip(x / y, 0, 1)": 1,
    "min(exp(x) * fixed / (abs(row) + 1), clip(exp(x), 0.8, 1.2) * fixed)": 2,
    "min(exp(x) * fixed / (abs(fixed) + 1), clip(exp(x), 0.8, 1.2) * fixed)": 1,
    "exp(x) / y": 0,
}
"""How many functions have their slopes attached to them: those whose slope by what has a gradient may be infinite."""


@pytest.mark.parametrize("text", ATTACHED)
def test_only_what_may_be_steep_has_its_slopes_attached(text: str) -> None:
    assert operations(text).count("operations.attached") == ATTACHED[text]
