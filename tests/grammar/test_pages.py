"""The pages of the codes that reading reports: the wrong example has that problem alone, the right one none."""

from __future__ import annotations

import re

import pytest

from lossc.grammar import parse
from lossc.grammar.diagnostics import Diagnostics
from lossc.grammar.diagnostics.catalogue import codes, page
from lossc.grammar.source import Source

READING = [code for code in codes() if code.startswith("E0")]


def examples(code: str) -> list[tuple[str, str]]:
    """The fenced examples of a page, each with its language."""
    return re.findall(r"```(\w+)\n(.*?)```", page(code), re.DOTALL)


def found(fence: str, text: str) -> list[str]:
    problems = Diagnostics()
    parse(Source(f"example.{'yaml' if fence == 'yaml' else 'loss'}", text), problems)
    return [problem.code for problem in problems.found]


@pytest.mark.parametrize("code", READING)
def test_wrong_and_right(code: str) -> None:
    (wrong_fence, wrong), (fence, right) = examples(code)
    assert found(fence, right) == []
    if wrong_fence != "text":
        assert found(wrong_fence, wrong) == [code]


def test_every_code_of_reading_has_a_page() -> None:
    assert [f"E{number:03}" for number in range(1, 26)] == READING
