"""Kernels: from the statistic table to programs that go through the classes of each row.

| step | module | what it does |
|---|---|---|
| plan | `plan`, `model` | statistics with the same rows in one kernel; what a row is given and works out itself |
| seam | `adjoint` | the coefficients of a row, where the objective is a sum over rows |
"""

from lossc.compiler.kernels.model import Adjoint, Argument, Kernel, Local, Point
from lossc.compiler.kernels.plan import NoKernelError, kernels

__all__ = ["Adjoint", "Argument", "Kernel", "Local", "NoKernelError", "Point", "kernels"]
