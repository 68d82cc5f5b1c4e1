"""The functions and values of the language, grouped by how they are called. No term may have the name of a function."""

from __future__ import annotations

from typing import Final

from lossc.compiler.core import ALONG_OPS, REDUCE_OPS
from lossc.compiler.primitives import FUNCTIONS

REDUCTIONS: Final = REDUCE_OPS
"""`op[axes where mask](x)` removes axes."""

ALONG: Final = (*ALONG_OPS, "fold")
"""`op[axis](x)` runs along an axis and keeps it, or makes another of it."""

LINEAR: Final = ("dot", "norm", "cov", "svdvals", "eigvals", "logdet", "trace", "solve", "sinkhorn")
"""`op[axes](x, …)`, linear algebra over named axes."""

SEARCHES: Final = ("grad", "worst", "root")
"""Found with derivatives; each binds a variable in its argument."""

PLAIN: Final = ("sg", "fill", "ramp", "normal", "uniform", "total", "limit")
"""Called without a bracket, and not elementwise."""

POSITIONS: Final = ("index", "size", "count")
"""`op[axis]`, without an argument."""

RUN_VALUES: Final = ("step", "progress")
"""Names of values that follow the run."""

CONSTANTS: Final = ("pi", "inf")

BUILT_IN: Final = frozenset((*FUNCTIONS, *REDUCTIONS, *ALONG, *LINEAR, *SEARCHES, *PLAIN))
"""Every function; `FUNCTIONS` are the elementwise ones."""
