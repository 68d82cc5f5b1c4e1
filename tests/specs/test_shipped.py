"""Every shipped spec checks, is formatted, and is the same program in YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossc.compiler.check import Checked, check_source
from lossc.grammar import parse
from lossc.grammar.diagnostics import Diagnostics
from lossc.grammar.printer import print_text
from lossc.grammar.source import Source
from lossc.grammar.syntax import File, Law, Term
from lossc.grammar.yaml_printer import print_yaml

SPECS = Path(__file__).parents[2] / "specs"
KEPT = [path for folder in ("std", "examples") for path in (SPECS / folder).iterdir()]
FILES = sorted(path for path in KEPT if path.suffix in (".loss", ".yaml"))


def read(path: Path) -> Source:
    return Source(str(path), path.read_text(encoding="utf-8"))


def parsed(source: Source) -> File:
    problems = Diagnostics()
    file = parse(source, problems)
    assert not problems.found, [problem.message for problem in problems.found]
    return file


def checked(path: Path) -> Checked:
    found = check_source(read(path))
    assert not found.problems.errors, [problem.message for problem in found.problems.errors]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_checks(path: Path) -> None:
    found = checked(path)
    if path.parent.name == "examples":
        assert found.program is not None
        assert not found.problems.found, [problem.message for problem in found.problems.found]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_is_formatted(path: Path) -> None:
    source = read(path)
    printed = (print_yaml if path.suffix == ".yaml" else print_text)(parsed(source))
    assert printed == source.text


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_is_the_same_program_in_yaml(path: Path) -> None:
    file = parsed(read(path))
    yaml = print_yaml(file)
    assert parsed(Source("round.yaml", yaml)) == file
    text = print_text(file)
    assert parsed(Source("round.loss", text)) == file


@pytest.mark.parametrize("path", sorted((SPECS / "std").glob("*.loss")), ids=lambda path: path.name)
def test_every_term_is_documented(path: Path) -> None:
    """Above each term: a line of prose and its equation; generators of one family share a line."""
    for item in parsed(read(path)).items:
        if isinstance(item, Term) and not item.name.startswith("f_"):
            assert item.comments, f"{item.name} has no comment"
            assert any(line.startswith("  ") for line in item.comments), f"{item.name} states no equation"


def test_every_module_states_laws() -> None:
    for path in (SPECS / "std").glob("*.loss"):
        if path.stem != "settings":
            assert any(isinstance(item, Law) for item in parsed(read(path)).items), path.name
