"""Scalar algebra through sympy: exact, bounded, opaque where it is not arithmetic."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lossc.compiler import algebra, core
from lossc.compiler import intervals as iv
from lossc.compiler.core import Input, Node, Param
from lossc.compiler.formula import formula

NAMES: dict[str, Node] = {
    "a": Param("a"), "b": Param("b", bounds=iv.POSITIVE), "e": Param("e", bounds=iv.UNIT), "x": Input("x", ("i",)),
}  # fmt: skip


def _combined(text: str) -> Node | None:
    return algebra.combined(formula(text, NAMES))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(1 - e) + e", "1"),
        ("(a + b)^2 - a^2 - 2 * a * b", "b^2"),
        ("(a^2 - b^2) / (a - b)", "a + b"),
        ("0.1 + 0.2 - 0.3", "0"),
        ("a / b - a / b", "0"),
        ("softplus(x) * a - a * softplus(x)", "0"),
        ("x - sg(x) + sg(x)", "x"),
    ],
)
def test_combined(text: str, expected: str) -> None:
    assert algebra.equal(formula(text, NAMES), formula(expected, NAMES))
    assert algebra.equal(_combined(text) or core.ZERO, formula(expected, NAMES))


def test_what_is_opaque_stays_together() -> None:
    assert algebra.equal(formula("x - sg(x)", NAMES), core.ZERO) is False
    assert algebra.equal(formula("log(1 + exp(x))", NAMES), formula("softplus(x)", NAMES)) is False


LONG = " + ".join(f"a^{i % 7} * (b + {i})" for i in range(90))


@pytest.mark.parametrize("text", ["((a + b)^8)^8", "(a + b)^9 * (a - b)^9", LONG])
def test_what_is_large_is_refused(text: str) -> None:
    assert _combined(text) is None


@pytest.mark.parametrize("text", ["(a + b)^17", "a^(9^9)", "2^(9^9) * a", "9^9^9"])
def test_what_is_steep_is_opaque(text: str) -> None:
    assert _combined(text) is formula(text, NAMES)


def test_sympy_is_loaded_only_when_needed() -> None:
    code = "import sys, lossc.compiler.algebra, lossc.compiler.simplify; sys.exit('sympy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_only_this_module_calls_sympy() -> None:
    root = Path(algebra.__file__).parents[1]
    sources = [path for folder in ("grammar", "compiler", "runtime") for path in (root / folder).rglob("*.py")]
    assert [path.name for path in sources if "import sympy" in path.read_text(encoding="utf-8")] == ["algebra.py"]
    assert not any(name in Path(algebra.__file__).read_text(encoding="utf-8") for name in ("sympify", "parse_expr"))
