"""The two reference pages: every example is checked and run, every list equals the table in the code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import lossc
from lossc.compiler.builtins import ALONG, CONSTANTS, LINEAR, PLAIN, REDUCTIONS, RUN_VALUES, SEARCHES
from lossc.compiler.catalogue import library_page
from lossc.compiler.check import Checked, check_source
from lossc.compiler.kinds import KIND_NAMES
from lossc.compiler.primitives import FUNCTIONS
from lossc.grammar import format_source, limits, parse
from lossc.grammar.diagnostics import Diagnostics
from lossc.grammar.source import Source
from lossc.grammar.syntax import SECTIONS
from lossc.grammar.tokens import DECLARATIONS, RESERVED

DOCS = Path(__file__).parents[1] / "docs"
LANGUAGE = (DOCS / "language.md").read_text(encoding="utf-8")
LIBRARY = (DOCS / "library.md").read_text(encoding="utf-8")

_FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"^[EW]\d{3}$")


@dataclass(frozen=True)
class Example:
    """A fenced block: its language, the words behind that, and where it stands."""

    page: str
    line: int
    language: str
    words: tuple[str, ...]
    text: str

    @property
    def codes(self) -> set[str]:
        return {word for word in self.words if _CODE.match(word)}

    @property
    def source(self) -> Source:
        whole = f"{PREAMBLE}\n{self.text}\nminimize\n  example : mean[b](score)\n"
        text = whole if "fragment" in self.words else self.text
        return Source(f"example.{'yaml' if self.language == 'yaml' else 'loss'}", text)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def examples(page: str, text: str) -> list[Example]:
    return [
        Example(page, text[: match.start()].count("\n") + 1, match[1], tuple(match[2].split()), match[3])
        for match in _FENCE.finditer(text)
    ]


EXAMPLES = examples("language", LANGUAGE) + examples("library", LIBRARY)
PREAMBLE = next(example.text for example in EXAMPLES if "preamble" in example.words)
SPECS = [e for e in EXAMPLES if e.language in ("loss", "yaml") and "preamble" not in e.words]
SOUND = [e for e in SPECS if not any(code.startswith("E") for code in e.codes)]
PROGRAMS = [e for e in SOUND if re.search(r"^m(in|ax)imize", e.source.text, re.MULTILINE)]


def checked(example: Example) -> Checked:
    return check_source(example.source)


@pytest.mark.parametrize("example", SPECS, ids=str)
def test_examples_have_the_problems_that_they_show_and_no_others(example: Example) -> None:
    ignored = {"W101"} if "fragment" in example.words else set()
    found = {problem.code for problem in checked(example).problems.found} - ignored
    assert found == example.codes, str([p.message for p in checked(example).problems.found])


@pytest.mark.parametrize("example", PROGRAMS, ids=str)
def test_only_the_forms_that_are_named_are_not_compiled(example: Example) -> None:
    program = checked(example).program
    assert program is not None
    assert bool(program.uncompiled) == ("later" in example.words)


@pytest.mark.parametrize("example", SOUND, ids=str)
def test_examples_are_the_same_in_both_surfaces(example: Example) -> None:
    problems = Diagnostics()
    file = parse(example.source, problems)
    for surface in ("text", "yaml"):
        printed = Source(f"printed.{'yaml' if surface == 'yaml' else 'loss'}", format_source(example.source, surface))
        assert parse(printed, problems) == file
        assert format_source(printed, surface) == printed.text
    assert not problems.errors


RUN = [e for e in PROGRAMS if not {"later", "extern"} & set(e.words)]
"""All but what is not compiled, and what calls a function of a module that is not there."""


def with_monitors(example: Example) -> str:
    """A fragment with a monitor for each number that it names, so that all of it is compiled."""
    program = checked(example).program
    assert program is not None
    own = re.findall(r"^let (\w+)", example.text, re.MULTILINE)
    lines = [
        f"  {name}_ : sum[{', '.join(let.order)}](fill({name}, 0))" if let.order else f"  {name}_ : fill({name}, 0)"
        for name in own
        if (let := program.lets[name]).kind.name != "mask"
    ]
    return "\n".join([example.source.text, "monitor", *lines])


@pytest.mark.parametrize("example", RUN, ids=str)
def test_examples_run(example: Example, tmp_path: Path) -> None:
    path = tmp_path / example.source.name
    path.write_text(with_monitors(example) if "fragment" in example.words else example.source.text, encoding="utf-8")
    objective = lossc.load(path, total_steps=100, sizes={"v": 9, "example": 10})
    models = {info.name: torch.nn.LazyLinear(9) for info in objective.program.tensors.values() if info.kind.name == "model"}
    result = objective(**lossc.example_inputs(objective), **models)
    result.loss.backward()
    assert torch.isfinite(result.loss)
    assert all(torch.isfinite(value) for value in result.monitors.values())


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.language == "python"], ids=str)
def test_python_examples_run(example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("focal.loss").write_text(next(e.text for e in SPECS if e.text.startswith("objective focal")), encoding="utf-8")
    exec(compile(example.text, str(example), "exec"), {})


def test_the_library_page_is_the_generated_one() -> None:
    assert library_page() == LIBRARY, "run `python -m lossc.compiler.catalogue docs/library.md`"


# ------------------------------------------------------------------------------------------------ tables


def table(name: str) -> list[list[str]]:
    """The rows of the table below the comment of that name, without its head."""
    _, _, below = LANGUAGE.partition(f"<!-- table: {name} -->\n")
    rows = re.match(r"(?:\|[^\n]*\n)+", below)
    assert rows is not None, name
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[0].splitlines()[2:]]


def names(table_name: str) -> list[str]:
    """The first word of each piece of code in the first column."""
    first = [row[0] for row in table(table_name)]
    return [match[1] for cell in first for match in re.finditer(r"`(\w+)[^`]*`", cell)]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("kinds", [kind for kind in KIND_NAMES if kind != "choice"]),
        ("functions", FUNCTIONS),
        ("plain", PLAIN),
        ("run", RUN_VALUES),
        ("constants", CONSTANTS),
        ("reductions", REDUCTIONS),
        ("along", ALONG),
        ("linear", LINEAR),
        ("searches", SEARCHES),
        ("reserved", RESERVED),
        ("declarations", DECLARATIONS),
        ("sections", SECTIONS),
    ],
)
def test_tables_hold_what_the_language_has(name: str, code: list[str]) -> None:
    assert sorted(names(name)) == sorted(code)


def test_notation_is_in_the_language() -> None:
    pieces = [piece for row in table("notation") for piece in re.findall(r"`([^`]+)`", row[1])]
    lets = "\n".join(f"let piece{at} = {piece}" for at, piece in enumerate(pieces))
    example = Example("language", 0, "loss", ("fragment",), lets)
    assert not checked(example).problems.errors, str(checked(example).problems.errors)
    assert not [w for w in checked(example).problems.warnings if w.code != "W101"]


def test_functions_are_described_as_in_their_table() -> None:
    described = {re.match(r"`(\w+)", row[0])[1]: row[1] for row in table("functions")}  # type: ignore[index]
    assert described == {name: entry.summary for name, entry in FUNCTIONS.items()}


def test_limits_are_those_of_the_code() -> None:
    found = [int(row[1].replace(",", "")) for row in table("limits")]
    assert found == [limits.MAX_CHARACTERS, limits.MAX_YAML_CHARACTERS, limits.MAX_TOKENS, limits.MAX_DEPTH,
                     limits.MAX_DIGITS, limits.MAX_EXPONENT]  # fmt: skip
