"""The plan of an objective: its statistics, passes over memory, bytes moved, and vocabulary-sized values that remain.

| module | contents |
|---|---|
| `model` | the plan as plain data |
| `build` | makes the plan of a program, with sizes if given |
| `budget` | how many bytes a block of rows may take |
| `pairs` | what becomes of matrices of all pairs |
| `show` | the plan as text and as a JSON record |
"""

from lossc.compiler.plan.build import kept_wide, plan
from lossc.compiler.plan.model import AxisPlan, Intermediate, PairsPlan, Pass, Plan, Visit
from lossc.compiler.plan.pairs import pairs_plans

__all__ = ["AxisPlan", "Intermediate", "PairsPlan", "Pass", "Plan", "Visit", "kept_wide", "pairs_plans", "plan"]
