"""Runs kernels that are built with sanitizers, in a process into which their run-time library is preloaded.

    LD_PRELOAD=$(gcc -print-file-name=libasan.so) python -m tests.runtime.sanitized

A read or write outside of what a kernel was given, and behaviour that C leaves undefined, end the process with a report.
"""

from __future__ import annotations

import torch
from tests.runtime import fused_cases as cases

import lossc
from lossc.runtime.backends import native, toolchain
from lossc.runtime.backends.c import Compiled

FLAGS = ("-std=gnu11", "-O0", "-g", "-fPIC", "-shared", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-w")
"""Besides those of the processor; not optimised, which builds faster."""

RUNS = (
    ("four terms", torch.float32), ("four terms", torch.bfloat16), ("columns", torch.float16),
    ("two distributions", torch.float32), ("masks", torch.float32), ("several labels", torch.float32),
    ("coupled", torch.bfloat16),
)  # fmt: skip

SIZES = ((1, 1, 1), (1, 1, 7), (7, 9, 7), (1, 1, 1000), (3, 21, 1000), (1, 5, 2112))
"""Extents of `b`, `t` and `v`: 1 and 63 rows; the last are rows that begin on a line, of more than a block."""


def wild(batch: cases.Batch) -> cases.Batch:
    """Labels far beyond the classes, where a token counts."""
    labels, several = batch["labels"].clone(), batch["several"].clone()
    labels[-1, -1], several[-1, -1, 0] = 2**40, batch["logits"].shape[-1]
    mask = batch["mask"].clone()
    mask[-1, -1] = True
    return {**batch, "labels": labels, "several": several, "mask": mask}


CHANGES = (cases.hidden_rows, cases.no_token, cases.forbidden, cases.strided, wild)


def run(text: str, dtype: torch.dtype) -> None:
    """One objective at all sizes, and on what rows may hold."""
    objective = lossc.loads(cases.HEAD + cases.TEXTS[text], backend="c", check_labels=False)
    for b, t, v in SIZES:
        cases.outcome(objective, cases.batch(b, t, v, dtype=dtype))
    for change in CHANGES:
        cases.outcome(objective, change(cases.batch(2, 3, 7, dtype=dtype)), scale=0.5)


def main() -> None:
    """Every run; a kernel that is not there is a failure."""
    toolchain.PLAIN = FLAGS
    native.STREAMING_BYTES = -1
    Compiled.give_up = lambda _, reason: print("no kernel:", reason)  # type: ignore[method-assign]
    for text, dtype in RUNS:
        run(text, dtype)
    print("clean")


if __name__ == "__main__":
    main()
