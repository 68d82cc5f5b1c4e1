"""The library from its statistic tables: value and gradient equal the closed forms, on every kind of batch."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import pytest
import torch
from tests.oracles.batches import Batch
from tests.specs.cases import CASES
from tests.specs.cases.model import Case
from tests.specs.compare import Evaluation, assert_equal, evaluate
from tests.specs.variants import VARIANTS, extreme, matters
from torch import Tensor

from lossc.compiler.check import check_source
from lossc.compiler.core import Const, Node
from lossc.compiler.emission import emit
from lossc.compiler.program import Program
from lossc.compiler.simplify import simplify
from lossc.compiler.table import Table, program_roots, tables
from lossc.grammar.source import Source
from lossc.runtime.backends.reference import Executable
from lossc.runtime.table_interpreter import Sweep, sweep

ONE_AXIS = ("symmetric_nce()",)
"""Normalised over both axes of one matrix: its table covers one of them, the other is computed."""


@cache
def program(name: str) -> Program:
    checked = check_source(Source("case.loss", CASES[name].program))
    assert checked.program is not None, [problem.message for problem in checked.problems.errors]
    return simplify(checked.program).program


@cache
def table(name: str) -> Table | None:
    """The table over the class axis, where there is one that every part of the loss fits."""
    found = tables(program(name))
    return found[0] if len(found) == 1 else None


WITH_TABLE = [name for name in CASES if table(name) is not None]


def parameters(name: str) -> Batch:
    found = {}
    for param in program(name).params.values():
        assert isinstance(param.default, Const)
        assert isinstance(param.default.value, Fraction)
        found[param.name] = torch.tensor(float(param.default.value), dtype=torch.float64)
    return found


def known(node: Node, state: Sweep) -> Tensor:
    """A denominator or coefficient: it reads masks, labels and parameters only."""
    procedure = emit({"value": node})
    bound: list[Tensor | int] = []
    for entry in procedure.bound:
        value = state.like if entry.kind == "like" else state.rows[entry.name][0] if entry.kind != "size" else None
        bound.append(state.sizes[entry.name] if value is None else value.detach())
    return Executable(procedure).run(bound)["value"].to(torch.float64)


def by_table(name: str, case: Case, batch: Batch) -> Evaluation:
    """The loss as the sum of coefficient * numerator / denominator, every numerator from the table."""
    found = table(name)
    assert found is not None
    state = sweep(found, {**batch, **parameters(name)}, given=program(name).tensors)
    roots, covered = program_roots(program(name)), {root.name for root in found.seam}
    total = torch.zeros((), dtype=torch.float64)
    for root in (root for root in roots if " " not in root):
        below = f"{root} denominator"
        under = known(roots[below], state) if below in roots else torch.ones(())
        value = state.root(root) if root in covered else known(roots[root], state)
        total = total + known(roots[f"{root} coefficient"], state) * value / torch.where(under == 0, 1.0, under)
    gradients = state.backward(total) if total.requires_grad else {}
    wanted = case.differentiable & batch.keys()
    zero = {of: torch.zeros_like(batch[of]) for of in wanted}
    return Evaluation(float(total.detach()), {of: gradients.get(of, zero[of]) for of in wanted})


def test_the_library_is_covered() -> None:
    assert len(WITH_TABLE) >= 60


RUNS = [(name, variant) for name in WITH_TABLE for variant in VARIANTS if matters(variant, CASES[name].batch(seed=3))]


@pytest.mark.parametrize(("name", "variant"), RUNS)
def test_equals_closed_form(name: str, variant: str) -> None:
    case = CASES[name]
    batch = VARIANTS[variant](case.batch(seed=3))
    assert_equal(by_table(name, case, batch), evaluate(case.oracle, batch, case.differentiable & batch.keys()))


@pytest.mark.parametrize("name", [name for name in WITH_TABLE if CASES[name].finite])
def test_is_finite_at_extremes(name: str) -> None:
    case = CASES[name]
    assert by_table(name, case, extreme(case.batch(seed=3))).finite
