"""The public surface, frozen; and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import lossc

PUBLIC = [
    "Constraint",
    "Denominators",
    "Linear",
    "LosscError",
    "LosscWarning",
    "Objective",
    "Pairs",
    "Result",
    "__version__",
    "axes",
    "example_inputs",
    "load",
    "loads",
]


def test_the_public_names_are_frozen() -> None:
    assert lossc.__all__ == PUBLIC
    assert all(getattr(lossc, name) is not None for name in PUBLIC)
    assert set(PUBLIC) <= set(dir(lossc))
    with pytest.raises(AttributeError, match="nothing"):
        lossc.nothing  # noqa: B018


def test_torch_is_imported_when_it_is_needed() -> None:
    imports = "import sys, lossc, lossc.compiler.check, lossc.compiler.emission; lossc.LosscError"
    subprocess.run([sys.executable, "-c", f"{imports}; assert 'torch' not in sys.modules"], check=True)
