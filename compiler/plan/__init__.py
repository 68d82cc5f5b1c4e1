"""How an objective is computed: statistics, programs, schedule, bytes, and what stays vocabulary-sized.

| module | what it has |
|---|---|
| `model` | the plan as plain data |
| `build` | from a program and extents to its plan |
| `budget` | how many bytes a block of rows may take |
| `pairs` | what becomes of matrices of all pairs |
| `show` | the plan as text and as a record |
"""

from lossc.compiler.plan.build import kept_wide, plan
from lossc.compiler.plan.model import AxisPlan, Intermediate, PairsPlan, Pass, Plan, Visit
from lossc.compiler.plan.pairs import pairs_plans

__all__ = ["AxisPlan", "Intermediate", "PairsPlan", "Pass", "Plan", "Visit", "kept_wide", "pairs_plans", "plan"]
