"""The shape of an objective: each term, and its slope, along one entry of a tensor or named quantity.

| module | what it has |
|---|---|
| `neutral` | tensors that say nothing: equal scores, first labels, masks that keep all |
| `curves` | the terms along the entry, and their slopes |
| `picture` | the same drawn |
"""

from lossc.runtime.plot.curves import Curve, Line, curves
from lossc.runtime.plot.neutral import neutral, neutral_inputs

__all__ = ["Curve", "Line", "curves", "neutral", "neutral_inputs"]
