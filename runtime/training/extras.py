"""Packages that only some runs need."""

from __future__ import annotations

from importlib import util

from lossc.grammar.diagnostics import LosscError, error
from lossc.runtime.files import value_span


def require(package: str, extra: str, purpose: str) -> None:
    """E851 where a package of an extra is not installed."""
    if util.find_spec(package) is None:
        help_ = f'install the extra: `pip install "lossc[{extra}]"`'
        raise LosscError([error("E851", f"{purpose} needs {package}", value_span(package), help=help_)])
