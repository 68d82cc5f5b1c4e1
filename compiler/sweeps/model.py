"""The sweeps of a statistic table as programs over a block of rows."""

from __future__ import annotations

from dataclasses import dataclass

from lossc.compiler.emission import Procedure


@dataclass(frozen=True)
class Sweep:
    """One pass over the class axis: `procedure` is run on every block of rows, which are cut along the axes `cut`."""

    cut: tuple[str, ...]
    procedure: Procedure


@dataclass(frozen=True)
class Stage:
    """Sweeps that need no row value of another block; before it, row values of up to `level` must be known."""

    level: int
    sweeps: tuple[Sweep, ...]


@dataclass(frozen=True)
class Contribution:
    """An output of a gradient sweep that is added to the gradient of `stream`: as it is, or at the class in `at`."""

    stream: str
    output: str
    at: str | None = None


@dataclass(frozen=True)
class GradientSweep:
    """The last pass: dL/dx = sum_k coefficient_k * d statistic_k / dx, each coefficient bound under `coefficient(k)`."""

    cut: tuple[str, ...]
    procedure: Procedure
    contributions: tuple[Contribution, ...]


def coefficient(statistic: str) -> str:
    """The name under which dL/dstatistic is bound."""
    return f"@d {statistic}"
