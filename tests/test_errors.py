"""Each code has one page, a place in the code that reports it, and a bad program with its golden message.

`LOSSC_GOLDEN=write` writes the messages anew; read the difference. A file `CODE_fault.loss` or `.yaml` under `golden/bad`
has that fault and no other.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lossc.compiler.check import Checked, check_source
from lossc.grammar.diagnostics import Diagnostic
from lossc.grammar.diagnostics.catalogue import codes, page
from lossc.grammar.diagnostics.render import render_text, to_record
from lossc.grammar.source import Source

ROOT = Path(__file__).parents[1]
BAD = ROOT / "tests" / "golden" / "bad"
PROGRAMS = sorted(path.name for path in BAD.iterdir() if path.suffix in (".loss", ".yaml"))
BY_PROGRAMS = re.compile(r"E[0-6]\d\d|W\d\d\d")
"""The codes that a program can cause; those of calls (E7) and of commands (E8) have their cases in `tests/runtime`."""

OBJECTIVE = "use std.settings.classes\nparam beta : positive = 2\nminimize\n  loss : beta * mean[b](nll)\n"


def too_large() -> Checked:
    return check_source(Source("large.loss", OBJECTIVE + "# and so on\n" * 100_000))


def unknown_parameter() -> Checked:
    return check_source(Source("scale.loss", OBJECTIVE), overrides={"betta": "0.2"})


BUILT = {"E009": too_large, "E406": unknown_parameter}
"""Faults that need more than a short file."""


def in_the_code() -> Iterator[str]:
    for folder in ("grammar", "compiler", "runtime"):
        for file in (ROOT / folder).rglob("*.py"):
            yield from re.findall(r'"([EW]\d{3})"', file.read_text(encoding="utf-8"))


def problems(checked: Checked) -> list[Diagnostic]:
    """What checking found; forms that are not compiled yet are reported by the commands that compile."""
    uncompiled = checked.program.uncompiled if checked.program is not None else ()
    return [*checked.problems.sorted(), *uncompiled]


def of_file(name: str, monkeypatch: pytest.MonkeyPatch) -> list[Diagnostic]:
    monkeypatch.chdir(BAD)
    return problems(check_source(Source(name, (BAD / name).read_text(encoding="utf-8"))))


def shown(found: list[Diagnostic]) -> str:
    """The messages as they are printed; places in the library move with every edit of it and are left out."""
    text = "\n\n".join(render_text(problem) for problem in found) + "\n"
    return re.sub(r"(lossc/specs/[\w/]+\.loss):\d+:\d+", r"\1", text)


def compare_with_golden(golden: Path, text: str) -> None:
    if os.environ.get("LOSSC_GOLDEN") == "write":
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    assert set(in_the_code()) == set(codes())


def test_every_code_of_a_program_has_a_bad_one() -> None:
    assert {name[:4] for name in PROGRAMS} | set(BUILT) == {code for code in codes() if BY_PROGRAMS.fullmatch(code)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_bad_program(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = of_file(name, monkeypatch)
    assert [problem.code for problem in found] == [name[:4]]
    compare_with_golden((BAD / name).with_suffix(".txt"), shown(found))


@pytest.mark.parametrize("code", BUILT)
def test_bad_case(code: str) -> None:
    found = problems(BUILT[code]())
    assert [problem.code for problem in found] == [code]
    compare_with_golden(BAD / f"{code}.txt", shown(found))


def test_every_golden_message_has_a_program() -> None:
    messages = {path.stem for path in BAD.glob("*.txt")}
    assert messages == {name.partition(".")[0] for name in PROGRAMS} | set(BUILT)


@pytest.mark.parametrize("name", PROGRAMS)
def test_both_renderings_name_the_same_places(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for problem in of_file(name, monkeypatch):
        record, text = to_record(problem), render_text(problem)
        assert f"--> {record['file']}:{record['line']}:{record['column']}\n" in text
        for note in record["notes"]:
            assert f"= {note['text']}: {note['file']}:{note['line']}:{note['column']}" in text
        assert text.startswith(f"{record['severity']}[{record['code']}]: {record['message']}\n")
        assert (record["line"], record["column"]) <= (record["end_line"], record["end_column"])


# ---------------------------------------------------------------------------------------------- pages


def examples(code: str) -> list[tuple[str, str]]:
    """The fenced examples of a page, each with its language."""
    return re.findall(r"```(\w+)\n(.*?)```", page(code), re.DOTALL)


PAGES = [code for code in codes() if re.fullmatch(r"E[1-6]\d\d|W\d\d\d", code) and examples(code)[0][0] == "loss"]


@pytest.mark.parametrize("code", codes())
def test_a_page_explains_and_shows_both(code: str) -> None:
    lines = page(code).splitlines()
    assert re.fullmatch(rf"# {code}: .+[^.]", lines[0])
    assert len(lines[2]) > 40
    assert "Wrong:" in lines
    assert "Right:" in lines
    assert len(examples(code)) == 2


@pytest.mark.parametrize("code", PAGES)
def test_the_wrong_example_has_the_fault_alone(code: str) -> None:
    (_, wrong), _ = examples(code)
    assert {problem.code for problem in problems(check_source(Source("example.loss", wrong)))} == {code}


@pytest.mark.parametrize("code", PAGES)
def test_the_right_example_has_no_fault(code: str) -> None:
    _, (_, right) = examples(code)
    left = {problem.code for problem in problems(check_source(Source("example.loss", right)))}
    assert left <= {"E601"} - {code}
