"""Kernels: from the statistic table to programs that go through the classes of each row.

| step | module | what it does |
|---|---|---|
| plan | `plan`, `model` | statistics with the same rows in one kernel; what a row is given and works out itself |
| seam | `adjoint`, `backward` | the coefficients of a row, where the objective is a sum over rows |
| rewrite | `powers`, `regular`, `held`, `gradient` | fewer exponentials; rows without guards; what is kept; slopes gathered |
| print | `c`, with `prelude.h`, `c_rows`, `c_loops`, `c_expressions` | C |
| | `c_extremes`, `c_points`, `c_sweeps`, `c_packs`, `c_overlap` | what it does with the classes of a row |
| print | `triton`, `triton_expressions` | Triton |
"""

from lossc.compiler.kernels.model import Adjoint, Argument, Kernel, Local, Point
from lossc.compiler.kernels.plan import NoKernelError, kernels

__all__ = ["Adjoint", "Argument", "Kernel", "Local", "NoKernelError", "Point", "kernels"]
