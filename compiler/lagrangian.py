"""Constraints as terms: what each adds to the loss, with its multiplier as a value of the run.

For a violation g <= 0 (or g = 0), a multiplier m and a penalty p:

| formulation | for g <= 0 | for g = 0 |
|---|---|---|
| `lagrangian` | m g | m g |
| `augmented` | (max(m + p g, 0)^2 - m^2) / (2 p) | m g + p g^2 / 2 |

A constraint for each entry of an axis has one multiplier for each, or one for each label that entries carry, and adds the sum
over them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from lossc.compiler import core
from lossc.compiler import intervals as iv
from lossc.compiler.core import Node
from lossc.compiler.normalise import Normaliser
from lossc.compiler.program import ConstraintInfo, Part, Program, TermInfo

Formulation = Literal["lagrangian", "augmented"]

VIOLATION = "violation of "
"""What the names of violations among the monitors begin with; no name that is declared does."""


def multiplier(name: str, relation: str, order: tuple[str, ...]) -> core.Param:
    """The leaf for the multiplier of a constraint."""
    return core.Param(f"multiplier of {name}", "state", order, iv.NONNEG if relation == "<=" else iv.REAL)


def penalty(constraint: ConstraintInfo) -> core.Param:
    """The leaf for the penalty of a constraint."""
    return core.Param(f"penalty of {constraint.name}", "state", (), iv.POSITIVE)


def with_constraints(program: Program, formulations: Mapping[str, Formulation] | None = None) -> Program:
    """The program with a term for each constraint, under the constraint's name, and its violation as a monitor."""
    if not program.constraints:
        return program
    normaliser = Normaliser(program.batch_axes)
    chosen = formulations or {}
    terms = [_term(each, chosen.get(each.name, "lagrangian"), normaliser) for each in program.constraints]
    violations = [_violation(each, normaliser) for each in program.constraints]
    return replace(
        program, terms=(*program.terms, *terms), monitors=(*program.monitors, *violations), constraints=()
    )  # fmt: skip


def _term(constraint: ConstraintInfo, formulation: Formulation, normaliser: Normaliser) -> TermInfo:
    value = _added(constraint, formulation)
    if constraint.per is not None:
        value = core.Reduce("sum", (constraint.per,), value, admitted(constraint))
    parts = normaliser.parts(value, constraint.present if constraint.per is None else None)
    return TermInfo(constraint.name, 1, parts, value, constraint.span, constraint.span.text)


def _added(constraint: ConstraintInfo, formulation: Formulation) -> Node:
    g, m = constraint.value, _own(constraint)
    if formulation == "lagrangian":
        summands = g.arguments if isinstance(g, core.Map) and g.function == "add" else (g,)
        return core.add(*(core.mul(m, each) for each in summands))
    p = penalty(constraint)
    if constraint.relation == "==":
        return core.add(core.mul(m, g), core.mul(core.HALF, p, core.power(g, core.const(2))))
    reached = core.apply("max", core.ZERO, core.add(m, core.mul(p, g)))
    squares = core.sub(core.power(reached, core.const(2)), core.power(m, core.const(2)))
    return core.div(core.mul(core.HALF, squares), p)


def _own(constraint: ConstraintInfo) -> Node:
    """The multiplier of each entry."""
    if constraint.by is None:
        return constraint.multiplier
    return core.Select(constraint.multiplier, constraint.multiplier.order[0], constraint.by)


def admitted(constraint: ConstraintInfo) -> Node | None:
    """The entries that are constrained: those that exist and, with labels, whose label is not *none*."""
    labelled = None if constraint.by is None else core.apply("le", core.ZERO, constraint.by)
    return core.all_of(constraint.present, labelled)


def _violation(constraint: ConstraintInfo, normaliser: Normaliser) -> TermInfo:
    """The violation of one constraint, or of each entry; above 0 where it is violated."""
    name, value = f"{VIOLATION}{constraint.name}", constraint.value
    if constraint.by is not None:
        value = core.where(admitted(constraint), value, core.ZERO)
        return TermInfo(name, 1, (Part("sum", core.ONE, value),), value, constraint.span, constraint.span.text)
    parts = normaliser.parts(value, constraint.present)
    return TermInfo(name, 1, parts, value, constraint.span, constraint.span.text)


def whole_violation(constraint: ConstraintInfo) -> tuple[Node, Node | None]:
    """The violation that moves each multiplier, and where it exists: for entries with the same label, their sum."""
    if constraint.by is None:
        return constraint.value, constraint.present
    assert constraint.per is not None
    groups = (constraint.by, constraint.multiplier.order[0])
    exists = admitted(constraint)
    assert exists is not None
    over = (constraint.per,)
    return core.Reduce("sum", over, constraint.value, exists, groups), core.Reduce("any", over, exists, None, groups)
