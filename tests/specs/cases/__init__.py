"""The table of library programs that the tests run: name, program text, batch, closed form."""

from __future__ import annotations

from tests.specs.cases import (
    ce,
    contrastive,
    dependence,
    divergence,
    policy,
    preference,
    regression,
    regularise,
    returns,
    settings,
)
from tests.specs.cases.model import Case

CASES: dict[str, Case] = {
    case.name: case
    for family in (ce, divergence, preference, policy, regression, contrastive, dependence, regularise, returns, settings)
    for case in family.CASES
}
