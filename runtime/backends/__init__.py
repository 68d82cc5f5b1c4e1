"""Backends: how an emitted program is run. This is the one place that chooses."""

from __future__ import annotations

from lossc.compiler.emission import Procedure
from lossc.runtime.backends.reference import Executable

BACKENDS = ("auto", "reference")


def executable(procedure: Procedure, backend: str) -> Executable:
    """The procedure on a backend; `auto` is the reference until another is faster."""
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    return Executable(procedure)


__all__ = ["BACKENDS", "Executable", "executable"]
