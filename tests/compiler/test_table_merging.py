"""Statistics of two blocks of classes, brought to one shift, are the statistics of all classes."""

from __future__ import annotations

import pytest
import torch
from tests.compiler.class_objectives import NAMES, OBJECTIVES, Batch, V, batch

from lossc.compiler.core import Input, Param
from lossc.compiler.table import Table, statistic_table
from lossc.runtime.table_interpreter import sweep

CUT = 3
GLOBAL = ("expected cost", "sum of margins", "exponential margin")
"""Their bodies read the position of a class or the entry at the label, which a block alone does not know."""
ONE_SWEEP = [name for name, objective in OBJECTIVES.items() if objective.levels == 1 and name not in GLOBAL]


def block(values: Batch, start: int, stop: int) -> Batch:
    """The classes from `start` to `stop`, labels counted from there."""
    found = {}
    for name, value in values.items():
        node = NAMES[name]
        assert isinstance(node, Input | Param)
        if "v" in node.order:
            found[name] = value[..., start:stop]
        else:
            found[name] = value - start if name in ("y", "ys") else value
    return found


def comparable(table: Table) -> list[str]:
    """Ties and positions are merged by other rules than values."""
    return [s.name for s in table.statistics if s.op not in ("ties", "argmax") and s.merge.kind != "rescan"]


@pytest.mark.parametrize("name", ONE_SWEEP)
def test_two_blocks_are_one(name: str) -> None:
    values = batch(seed=4)
    table = statistic_table({"loss": OBJECTIVES[name].root}, "v")
    whole = sweep(table, values)
    first, second = (sweep(table, block(values, *ends)) for ends in ((0, CUT), (CUT, V)))
    merged = first.merged(second)
    for statistic in comparable(table):
        wanted = whole.values[f"@{statistic}"][0]
        labelled = values["y"] >= 0 if wanted.dim() else ...
        assert torch.allclose(merged[statistic][labelled], wanted[labelled], rtol=1e-12, atol=1e-12), statistic


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_statistic_of_the_first_sweep_merges(name: str) -> None:
    table = statistic_table({"loss": OBJECTIVES[name].root}, "v")
    assert all(statistic.merge.kind != "rescan" for statistic in table.statistics if statistic.level <= 1)
