"""Measuring an objective: its backends against what a user would write, side by side in one process.

| module | what it has |
|---|---|
| `rows` | what is measured: settings, and one row for each variant |
| `subjects` | the variants as steps: one forward and backward pass |
| `memory` | the most memory that a step needs |
| `worker` | the measurement itself, in a process of its own |
| `session` | the processes, their allocators, their progress |
| `chart` | rows as a picture |
| `record` | a file of results |
"""

from lossc.runtime.bench.rows import ALLOCATORS, DTYPES, PATHS, VARIANTS, Note, Row, Task
from lossc.runtime.bench.session import measured

__all__ = ["ALLOCATORS", "DTYPES", "PATHS", "VARIANTS", "Note", "Row", "Task", "measured"]
