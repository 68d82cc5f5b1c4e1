"""The code is linted and fully typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def complaints(*tool: str) -> str:
    done = subprocess.run([sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_ruff_has_no_complaints() -> None:
    assert not complaints("ruff", "check", ".")


def test_mypy_has_no_complaints() -> None:
    """The cache makes it quick, but does not see a module that was added behind a link: what it says counts without."""
    if complaints("mypy"):
        assert not complaints("mypy", "--cache-dir=/dev/null")
