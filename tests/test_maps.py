"""The docstrings of packages list their modules, each once."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "compiler", "compiler/core", "compiler/elaborate", "compiler/emission", "compiler/plan", "runtime", "runtime/backends",
    "runtime/bench", "runtime/plot", "runtime/training",
)  # fmt: skip


@pytest.mark.parametrize("package", PACKAGES)
def test_the_map_of_a_package_is_complete(package: str) -> None:
    folder = ROOT / package
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    modules = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    assert sorted(listed) == sorted(modules - {"__init__"})
