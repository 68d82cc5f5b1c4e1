"""The pages of the codes of a call: the wrong example raises that code alone, the right one runs."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
import torch

import lossc
from lossc.grammar.diagnostics.catalogue import codes, page

CODES = [code for code in codes() if code.startswith("E7")]
EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def run(text: str) -> None:
    names: dict[str, Any] = {"lossc": lossc, "torch": torch}
    cooper = sys.modules.get("cooper")
    try:
        exec(compile(text, "<page>", "exec"), names)
    finally:  # a page may do as if it were not installed
        sys.modules.pop("cooper", None)
        sys.modules.update({} if cooper is None else {"cooper": cooper})


@pytest.mark.parametrize("code", CODES)
def test_the_wrong_example_raises_the_code(code: str) -> None:
    wrong, _ = EXAMPLE.findall(page(code))
    with pytest.raises(lossc.LosscError) as raised:
        run(wrong)
    assert [problem.code for problem in raised.value.diagnostics] == [code]


@pytest.mark.parametrize("code", CODES)
def test_the_right_example_runs(code: str) -> None:
    _, right = EXAMPLE.findall(page(code))
    run(right)
