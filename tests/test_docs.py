"""The README runs: its files are checked, its scripts executed, its commands give the output that is printed.

`LOSSC_GOLDEN=write` writes the output of the commands into the page anew; read the difference.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from lossc.grammar.source import Source
from lossc.runtime.cli.boundary import run

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for found, text in _BLOCK.findall(README.read_text(encoding="utf-8")) if found == language]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the file of the README, and the same file with a slip."""
    monkeypatch.chdir(tmp_path)
    (spec,) = blocks("loss")
    Path("dpo_sft.loss").write_text(spec, encoding="utf-8")
    Path("typo.loss").write_text(spec.replace("dpo(margin", "dpo(margn"), encoding="utf-8")
    return tmp_path


def test_the_commands_print_what_the_page_shows(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = README.read_text(encoding="utf-8")
    for block in blocks("console"):
        commands = [line for line in block.splitlines() if line.startswith("$ lossc ")]
        shown = "".join(f"{command}\n{_output(command, capsys)}" for command in commands)
        page = page.replace(f"```console\n{block}```", f"```console\n{shown}```")
    if os.environ.get("LOSSC_GOLDEN") == "write":
        README.write_text(page, encoding="utf-8")
    assert _masked(page) == _masked(README.read_text(encoding="utf-8"))


def _masked(page: str) -> str:
    """Without the last digits of trained numbers, which differ between processors."""
    return re.sub(r"(?<=\d\.\d)\d{3}", "", page)


def _output(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command prints; of a training run, the table at its end."""
    run(shlex.split(command.removeprefix("$ lossc ")))
    lines = [line.rstrip() for line in capsys.readouterr().out.strip("\n").splitlines()]
    begin = next((number for number, line in enumerate(lines) if line.startswith("held-out")), 0)
    return "".join(f"{line}\n" for line in lines[begin:])


def test_the_scripts_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for script in blocks("python"):
        exec(compile(script, "README.md", "exec"), names)
    assert "focal" in capsys.readouterr().out


def test_the_file_is_formatted_but_for_its_comments(here: Path) -> None:
    from lossc.grammar import format_source

    (spec,) = blocks("loss")
    assert format_source(Source("dpo_sft.loss", spec)).split() == spec.split()


def test_the_test_command_is_what_ci_calls() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "make test" in blocks("sh")[0]
    assert "exec make test" in script


def test_links_of_the_page_exist() -> None:
    prose = _BLOCK.sub("", README.read_text(encoding="utf-8"))
    links = re.findall(r"\]\(([^)#]+)", re.sub(r"`[^`]*`", "", prose))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
