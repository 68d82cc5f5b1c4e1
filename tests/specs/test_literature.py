"""Published objectives, written from the language and library pages alone: they check, print, and equal closed forms."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.oracles.literature import LITERATURE
from tests.specs.compare import assert_equal, evaluate

import lossc
from lossc.compiler.check import check_source
from lossc.compiler.program import Program
from lossc.grammar import parse
from lossc.grammar.diagnostics import Diagnostics
from lossc.grammar.printer import print_text
from lossc.grammar.source import Source
from lossc.grammar.syntax import File
from lossc.grammar.yaml_printer import print_yaml

GOOD = Path(__file__).parents[1] / "golden" / "good"
NAMES = sorted(path.stem for path in GOOD.glob("*.loss"))
OTHERS = sorted(set(NAMES) - LITERATURE.keys())
"""Those whose closed forms stand elsewhere: in the zoo, and in the tests of states, constraints, models and searches."""


def source(name: str) -> Source:
    path = GOOD / f"{name}.loss"
    return Source(str(path), path.read_text(encoding="utf-8"))


def program(name: str) -> Program:
    found = check_source(source(name))
    assert not found.problems.errors, [problem.message for problem in found.problems.errors]
    assert found.program is not None
    return found.program


def parsed(text: Source) -> File:
    problems = Diagnostics()
    file = parse(text, problems)
    assert not problems.found
    return file


def test_there_are_enough() -> None:
    assert len(LITERATURE) >= 16
    assert len(OTHERS) >= 8


@pytest.mark.parametrize("name", NAMES)
def test_checks(name: str) -> None:
    assert not program(name).uncompiled


@pytest.mark.parametrize("name", NAMES)
def test_formats_and_round_trips(name: str) -> None:
    file = parsed(source(name))
    text = print_text(file)
    assert print_text(parsed(Source("again.loss", text))) == text
    assert parsed(Source("again.loss", text)) == file
    assert parsed(Source("again.yaml", print_yaml(file))) == file


@pytest.mark.parametrize("seed", [3, 8])
@pytest.mark.parametrize("name", sorted(LITERATURE))
def test_equals_closed_form(name: str, seed: int) -> None:
    closed_form, maker, inputs = LITERATURE[name]
    objective = lossc.load(GOOD / f"{name}.loss")
    batch = maker(seed)
    found = evaluate(lambda tensors: objective(**tensors).loss, batch, inputs)
    assert_equal(found, evaluate(closed_form, batch, inputs))
