"""The sweeps of a table as programs over a block of rows."""

from __future__ import annotations

from dataclasses import dataclass

from lossc.compiler.emission import Procedure


@dataclass(frozen=True)
class Sweep:
    """One pass over the class axis: `procedure` runs on every block of rows. Blocks are cut along the axes `cut`."""

    cut: tuple[str, ...]
    procedure: Procedure


@dataclass(frozen=True)
class Stage:
    """Sweeps that need no row value of another block. Row values of up to `level` must be known before it."""

    level: int
    sweeps: tuple[Sweep, ...]


@dataclass(frozen=True)
class Contribution:
    """An output of a gradient sweep, added to the gradient of `stream`: as it is, or at the class in `at`."""

    stream: str
    output: str
    at: str | None = None


@dataclass(frozen=True)
class GradientSweep:
    """The last pass: dL/dx = sum_k coefficient_k * d statistic_k / dx.

    Each coefficient is bound under `coefficient(k)`.
    """

    cut: tuple[str, ...]
    procedure: Procedure
    contributions: tuple[Contribution, ...]


def coefficient(statistic: str) -> str:
    """The name under which dL/d statistic is bound."""
    return f"@d {statistic}"
