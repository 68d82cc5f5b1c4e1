"""The seam of a table against autograd through the whole objective: coefficients of statistics, gradients on rows."""

from __future__ import annotations

import pytest
import torch

from lossc.compiler.check import check_source
from lossc.compiler.simplify import simplify
from lossc.compiler.table import program_roots, statistic_table
from lossc.grammar.source import Source
from lossc.runtime.backends.environment import Environment
from lossc.runtime.backends.seam import Seam
from lossc.runtime.table_interpreter import sweep

HEAD = "objective o\nuse std.settings.distill\nuse std.divergence (js)\nlearn heat : positive\n"
TERMS = {
    "one sweep": "mean[b, t where mask](ce(logits / heat, labels))",
    "two sweeps": "mean[b, t where mask](js(teacher, logits / heat)) + mean[b, t where mask](nll)",
}


@pytest.mark.parametrize("term", TERMS.values(), ids=TERMS.keys())
def test_coefficients_and_row_gradients(term: str) -> None:
    use = "use std.ce (ce)\n" if "ce(" in term else ""
    checked = check_source(Source("o.loss", f"{HEAD}{use}minimize\n  a : {term}\n"))
    checked.problems.raise_errors()
    assert checked.program is not None
    roots = {name: root for name, root in program_roots(simplify(checked.program).program).items() if root.axes <= {""}}
    table = statistic_table(roots, "v")
    generator = torch.Generator().manual_seed(4)
    draw = {"logits": torch.randn(2, 3, 5, generator=generator, dtype=torch.float64) * 2,
            "teacher": torch.randn(2, 3, 5, generator=generator, dtype=torch.float64) * 2,
            "labels": torch.tensor([[0, 4, -1], [2, 2, 1]]), "heat": torch.tensor(1.7, dtype=torch.float64),
            "mask": torch.tensor([[True, True, True], [False, True, True]])}  # fmt: skip
    evaluated = sweep(table, draw)
    upstream = {root.name: torch.tensor(1.0, dtype=torch.float64) for root in table.seam if " " not in root.name}
    total = sum(evaluated.root(name) for name in upstream)
    assert isinstance(total, torch.Tensor)
    expected = evaluated.backward(total)
    statistics = {f"@{s.name}": evaluated.values[f"@{s.name}"][0] for s in table.statistics}
    environment = Environment({**draw, **statistics}, {"heat": draw["heat"]}, evaluated.sizes, evaluated.like)
    seam = Seam(table)
    found = seam.gradients(environment, upstream, params=("heat",))
    torch.testing.assert_close(found.params["heat"], expected["heat"])
    for statistic in seam.leaves:
        leaf = evaluated.rows[f"@{statistic.name}"][0].grad
        if leaf is not None:
            torch.testing.assert_close(found.statistics[statistic.name], leaf)
    values = seam.values(environment)
    torch.testing.assert_close(sum(values[name] for name in upstream), total.detach())
