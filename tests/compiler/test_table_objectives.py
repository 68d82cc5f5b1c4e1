"""Values and gradients from the statistic table alone equal autograd of the equation, to every input."""

from __future__ import annotations

import time

import pytest
import torch
from tests.compiler.class_objectives import NAMES, OBJECTIVES, Batch, Objective, batch
from torch import Tensor

from lossc.compiler.core import Input, Node, Param, walk
from lossc.compiler.simplify import Simplifier
from lossc.compiler.table import Statistic, Stream, Table, statistic_table
from lossc.compiler.verify import verify
from lossc.runtime.table_interpreter import sweep

INPUTS = ("z", "t", "q", "w", "bias", "tau", "gamma", "weight")
SHIFT = 1e4


def table(objective: Objective, simplified: bool = False) -> Table:
    root = Simplifier()(objective.root) if simplified else objective.root
    return statistic_table({"loss": root}, "v")


def by_table(found: Table, values: Batch, dtype: torch.dtype = torch.float64) -> tuple[Tensor, dict[str, Tensor]]:
    state = sweep(found, values, dtype)
    loss = state.root("loss")
    return loss.detach(), state.backward(loss)


def by_autograd(objective: Objective, values: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    leaves = {n: x.double().clone().requires_grad_() if x.is_floating_point() else x for n, x in values.items()}
    loss = objective.loss(leaves)
    loss.backward()
    return loss.detach(), {n: x.grad for n, x in leaves.items() if x.is_floating_point() and x.grad is not None}


@pytest.mark.parametrize("simplified", [False, True], ids=["as written", "simplified"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_equals_autograd(name: str, simplified: bool) -> None:
    objective, values = OBJECTIVES[name], batch()
    loss, gradients = by_table(table(objective, simplified), values)
    expected, slopes = by_autograd(objective, values)
    assert torch.allclose(loss, expected, rtol=1e-10, atol=1e-10)
    for of in INPUTS:
        found = gradients.get(of, torch.zeros_like(values[of]))
        wanted = slopes.get(of, torch.zeros_like(values[of]))
        assert torch.allclose(found, wanted, rtol=1e-10, atol=1e-10), of


@pytest.mark.parametrize("simplified", [False, True], ids=["as written", "simplified"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_takes_the_fewest_sweeps(name: str, simplified: bool) -> None:
    assert table(OBJECTIVES[name], simplified).levels == OBJECTIVES[name].levels


@pytest.mark.parametrize("name", [name for name, objective in OBJECTIVES.items() if objective.invariant])
def test_an_offset_costs_no_accuracy(name: str) -> None:
    """fp32 statistics at logits near 1e4, against fp64 at the very same logits."""
    objective, values = OBJECTIVES[name], batch()
    for of in ("z", "t"):
        values[of] = (values[of] + SHIFT).float().double()
    reduced = {**values, **{of: values[of] - SHIFT for of in ("z", "t")}}
    _, gradients = by_table(table(objective, simplified=True), values, torch.float32)
    _, slopes = by_autograd(objective, reduced)
    for of in ("z", "t"):
        wanted = slopes.get(of, torch.zeros_like(values[of]))
        error = (gradients.get(of, torch.zeros_like(wanted)).double() - wanted).norm()
        assert error <= 4e-6 * wanted.norm() + 1e-9, of


@pytest.mark.parametrize("name", OBJECTIVES)
def test_is_quick(name: str) -> None:
    root = OBJECTIVES[name].root
    spent = []
    for _ in range(3):
        start = time.thread_time()
        statistic_table({"loss": root}, "v")
        spent.append(time.thread_time() - start)
    assert min(spent) <= 0.2


def test_there_are_enough() -> None:
    assert len(OBJECTIVES) >= 25
    assert all(isinstance(NAMES[of], Param) for of in ("tau", "gamma"))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_its_graphs_are_well_formed(name: str) -> None:
    found = table(OBJECTIVES[name])
    graphs = [root.value for root in found.seam] + [scalar.value for scalar in found.scalars]
    graphs += [stream.source for stream in found.streams]
    for statistic in found.statistics:
        graphs += [part for part in (statistic.body, statistic.mask, statistic.at) if isinstance(part, Node)]
        graphs += [slope.value for slope in (*statistic.gradients, *statistic.sensitivities)]
        graphs += [factor for factor, _ in statistic.merge.terms]
    verify(*graphs)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_is_evaluated_stands_after_what_it_needs(name: str) -> None:
    found = table(OBJECTIVES[name])
    known = {f"@{stream.name}" for stream in found.streams if stream.name not in found.order}
    entries = {entry.name: entry for entry in (*found.streams, *found.scalars, *found.statistics)}
    for step in found.order:
        entry = entries[step]
        needs = (entry.body, entry.mask, entry.at) if isinstance(entry, Statistic) else (
            (entry.source,) if isinstance(entry, Stream) else (entry.value,))  # fmt: skip
        leaves = {part.name for need in needs if isinstance(need, Node) for part in walk(need) if isinstance(part, Input)}
        assert {leaf for leaf in leaves if leaf.startswith("@")} <= known
        known.add(f"@{step}")
