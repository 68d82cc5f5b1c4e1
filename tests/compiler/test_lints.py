"""When a warning is given, and when what it warns of is certainly meant."""

from __future__ import annotations

import pytest

from lossc.compiler.check import check_source
from lossc.grammar.source import Source


@pytest.mark.parametrize(("condition", "warned"), [
    ("mask", True),
    ("index[v] == y", True),
    ("z > 0", True),
    ("index[v] != y", False),
    ("y != index[v]", False),
    ("index[v] > 0", False),
    ("index[v] != index[b]", False),
])  # fmt: skip
def test_a_sum_over_nothing_in_a_mean(condition: str, warned: bool) -> None:
    """All classes but one is not nothing, nor is what positions alone decide."""
    head = "axis b : batch\naxis v\ninput z : logits[b, v]\ndata y : label[b] in v\ndata mask : mask[b, v]\n"
    text = f"{head}minimize\n  l : mean[b](sum[v where {condition}](z))\n"
    codes = [problem.code for problem in check_source(Source("lint.loss", text)).problems.found]
    assert ("W301" in codes) == warned
