"""What is measured, and one row of results."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

VARIANTS = ("eager", "compile", "terms", "torch", "c", "again", "triton", "lce", "liger")
"""The objective as one expression in plain torch, `torch.compile` of that, the sum of library calls written by hand, the
fused backends (`again`: `c` over a linear head whose blocks are made again for the gradient), and what other libraries have
for a linear head: `F.linear_cross_entropy`, Liger's chunked losses."""

PATHS = ("logits", "linear")
"""Scores that are given, or made by a linear head whose gradients are wanted."""

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}

ALLOCATORS: dict[str, dict[str, str]] = {
    "default": {},
    "tuned": {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 36), "MALLOC_TOP_PAD_": str(1 << 26)},
}
"""Settings of the C library's allocator. The tuned one never gives memory back, so that no page is mapped twice."""


@dataclass(frozen=True)
class Task:
    """An objective, the extents of its axes, a type of numbers, an allocator, and the variants to compare.

    `repeats` is how often each variant runs; None for as often as fits in `seconds`. On the path `linear` the scores come from
    `features` hidden states. Without `exact` there is no pass in double precision, and no error of a row.
    """

    file: str
    overrides: dict[str, str]
    sizes: dict[str, int]
    dtype: str
    allocator: str
    variants: tuple[str, ...]
    repeats: int | None = None
    seconds: float = 4.0
    device: str = "cpu"
    baselines: str | None = None
    ignored: float = 0.0
    path: str = "logits"
    features: int = 1024
    exact: bool = True

    @classmethod
    def of(cls, record: dict[str, Any]) -> Task:
        return cls(**{**record, "variants": tuple(record["variants"])})

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Row:
    """One variant of one objective.

    - `ms`: the best of all repetitions of one forward and backward pass, the variants taking turns.
    - `floor_ms`: one read of every stream and one write of every gradient, as fast as a copy into an existing buffer; of a
      linear head its three bare products.
    - `peak_bytes`: the most memory that one pass holds above its inputs, gradients included.
    - `grad_error`: norm(g - g64) / norm(g64), the largest over inputs and learned parameters; `loss_error`:
      |l - l64| / |l64|; None where nothing was computed in double precision.
    - `compile_s`: from the text to the end of the first pass with empty caches, less one later pass; of a linear head to the
      end of a pass over a small batch.
    """

    objective: str
    path: str
    variant: str
    dtype: str
    allocator: str
    ms: float
    floor_ms: float
    peak_bytes: int
    grad_error: float | None
    compile_s: float
    loss_error: float | None = None

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Note:
    """Something that is not a row: what a process is at (`stage`), a variant left out, a task that ended early."""

    task: Task
    text: str
    kind: str = "stage"
