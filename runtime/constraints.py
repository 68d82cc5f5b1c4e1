"""`Constraint`: how a `subject to` is enforced; and the ascent of multipliers, by the package cooper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossc.compiler.lagrangian import Formulation
from lossc.compiler.program import ConstraintInfo, Program
from lossc.grammar.suggest import did_you_mean
from lossc.runtime.arguments import a_number, an_instance, brief, by_name
from lossc.runtime.messages import fail

FORMULATIONS: tuple[Formulation, ...] = ("lagrangian", "augmented")

RATE = 0.01
"""The default rate at which a multiplier ascends."""


@dataclass(frozen=True)
class Constraint:
    """How a constraint g <= 0 is enforced, where g is the left side of a `subject to` less the right.

        lossc.load("safe.loss", constraints={"drift": lossc.Constraint("augmented", penalty=10)})

    The loss gains `m g` (`lagrangian`) or `(max(m + p g, 0)^2 - m^2) / (2 p)` (`augmented`), with a multiplier m and a
    penalty p. After each step m becomes `max(m + rate g, 0)`; for an equality g = 0 it becomes `m + rate g`.

    Arguments:
        formulation: `lagrangian` or `augmented`.
        multiplier_lr: the rate; None means 0.01, or the penalty of an augmented constraint.
        initial: the first value of m.
        penalty: the first value of p, above 0.
        growth: p is multiplied by this after a step in which |g| exceeds `tolerance`; at least 1.
        tolerance: see `growth`.

    Raises:
        LosscError: E733 for a value out of range.
    """

    formulation: Formulation = "lagrangian"
    multiplier_lr: float | None = None
    initial: float = 0.0
    penalty: float = 1.0
    growth: float = 1.0
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        if not isinstance(self.formulation, str) or self.formulation not in FORMULATIONS:
            raise fail("E733", f"there is no formulation {brief(self.formulation)}",
                       help=f"one of {', '.join(FORMULATIONS)}")  # fmt: skip
        for name in ("multiplier_lr", "initial", "penalty", "growth", "tolerance"):
            value = getattr(self, name)
            if value is not None or name != "multiplier_lr":
                object.__setattr__(self, name, a_number(name, value, code="E733"))
        for name, value, least in (("multiplier_lr", self.multiplier_lr, 0.0), ("growth", self.growth, 1.0)):
            if value is not None and value < least:
                raise fail("E733", f"`{name}` must be at least {least:g}", found=repr(value))
        if self.penalty <= 0:
            raise fail("E733", "`penalty` must be positive", found=repr(self.penalty))


def chosen(
    program: Program, given: Mapping[str, Constraint] | None, formulation: str | None, multiplier_lr: float | None
) -> dict[str, Constraint]:
    """How each constraint of a program is enforced: as given by name, and all others alike."""
    names = [each.name for each in program.constraints]
    given = by_name("constraints", given, "a mapping from constraints to how they are enforced", code="E733")
    for name, how in given.items():
        an_instance(f"constraints[{name!r}]", how, Constraint, "a `lossc.Constraint`", code="E733")
        if name not in names:
            hint = did_you_mean(name, names) or f"it has {', '.join(names) or 'none'}"
            raise fail("E733", f"this objective has no constraint `{name}`", help=hint)
    if (formulation is not None or multiplier_lr is not None) and not names:
        raise fail("E733", "this objective has no constraint", help="write `subject to name : u <= bound`")
    usual = Constraint("lagrangian" if formulation is None else formulation, multiplier_lr)  # type: ignore[arg-type]
    return {each.name: _begun(each, given.get(each.name, usual)) for each in program.constraints}


def _begun(info: ConstraintInfo, how: Constraint) -> Constraint:
    if info.relation == "<=" and how.initial < 0:
        raise fail("E733", f"the multiplier of `{info.name}` is never negative", found=repr(how.initial), declared=info.span)
    return how


def required() -> Any:
    """The package cooper, which moves the multipliers; E734 where it is not installed."""
    try:
        import cooper
    except ImportError:
        help_ = 'install it: `pip install "lossc[constraints]"`'
        raise fail("E734", "constraints need the package `cooper-optim`", help=help_) from None
    return cooper


def ascend(
    info: ConstraintInfo, how: Constraint, multiplier: Tensor, penalty: Tensor, violation: Tensor, present: Tensor | None
) -> None:
    """Updates multipliers and penalty, in place, after a step with these violations.

    `violation` has the dimensions of `multiplier`. A multiplier stays as it is where `present` is false.
    """
    cooper = required()
    seen = None if present is None or bool(present.all()) else present.reshape(-1).nonzero().flatten()
    if seen is not None and not len(seen):
        return
    augmented = how.formulation == "augmented"
    module = _module(cooper, multiplier, seen)
    constraint = cooper.Constraint(
        constraint_type=cooper.ConstraintType.INEQUALITY if info.relation == "<=" else cooper.ConstraintType.EQUALITY,
        formulation_type=cooper.formulations.AugmentedLagrangian if augmented else cooper.formulations.Lagrangian,
        multiplier=module,
        penalty_coefficient=cooper.penalty_coefficients.DensePenaltyCoefficient(penalty.clone()) if augmented else None,
    )
    flat = violation.detach().to(multiplier).reshape(-1)
    state = cooper.ConstraintState(violation=flat if seen is None else flat[seen], constraint_features=seen)
    rate = how.multiplier_lr if how.multiplier_lr is not None else float(penalty) if augmented else RATE
    optimiser = torch.optim.SGD(module.parameters(), lr=rate, maximize=True)
    with torch.enable_grad():
        constraint.compute_contribution_to_lagrangian(state, "dual").lagrangian_contribution.backward()
    optimiser.step()
    module.post_step_()
    with torch.no_grad():
        multiplier.copy_(module.weight.reshape(multiplier.shape))
        if augmented and how.growth != 1:
            penalty.copy_(_grown(cooper, constraint, state, how))


def _module(cooper: Any, multiplier: Tensor, seen: Tensor | None) -> Any:
    kind = cooper.multipliers.DenseMultiplier if seen is None else cooper.multipliers.IndexedMultiplier
    return kind(init=multiplier.detach().reshape(-1).clone(), dtype=multiplier.dtype)


def _grown(cooper: Any, constraint: Any, state: Any, how: Constraint) -> Tensor:
    """The penalty after a step: larger where the violation exceeds the tolerance."""
    updater = cooper.penalty_coefficients.MultiplicativePenaltyCoefficientUpdater(
        growth_factor=how.growth, violation_tolerance=how.tolerance, has_restart=False
    )
    updater.step({constraint: state})
    grown: Tensor = constraint.penalty_coefficient.value
    return grown
