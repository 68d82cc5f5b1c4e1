"""The statistic table: an objective over a class axis, cut into row programs, a seam on rows, and gradient bodies.

| step | module | what it does |
|---|---|---|
| lower | `lowering` | every operation over the class axis as sum, max, any, argmax, logsumexp or selection |
| centre | `centre` | z = z^ + c for what stands in exponents |
| read | `canonical`, `reading`, `polynomial` | the seam in normal form; shifts cancel where the value does not depend on them |
| separate | `separate`, `factor` | sums as row factors times statistics, with as few sweeps as the mathematics allows |
| differentiate | `slopes` | gradient bodies and summed sensitivities |
| merge | `merging` | how the statistics of two blocks of classes become those of both |
| extract | `extract`, `rows`, `model` | names, levels, plain data |
"""

from lossc.compiler.table.build import class_axes, concerns, is_opaque, program_roots, statistic_table, tables
from lossc.compiler.table.model import Computed, Merge, Root, Scalar, Slope, Statistic, Stream, Table
from lossc.compiler.table.show import render, to_record

__all__ = [
    "Computed",
    "Merge",
    "Root",
    "Scalar",
    "Slope",
    "Statistic",
    "Stream",
    "Table",
    "class_axes",
    "concerns",
    "is_opaque",
    "program_roots",
    "render",
    "statistic_table",
    "tables",
    "to_record",
]
