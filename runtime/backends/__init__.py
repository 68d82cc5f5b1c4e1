"""Backends: how a program is run. This module is the one place that makes them.

| modules | what they do |
|---|---|
| `reference` | runs an emitted procedure, one torch operation after another |
| `choose` | `auto`: which backend, by size |
| `fused`, `rest` | a program whose tables run on a backend; whatever is in no table |
| `environment`, `provider` | what a table is given; streams that a torch operation delivers |
| `seam`, `seam_rows`, `rows` | the seam of a table; programs on rows |
| `chunked`, `passes`, `blocks` | `torch`: closed form, block of rows by block of rows |
| `c`, `native`, `toolchain`, `cache` | `c`: kernels built by the system's compiler |
| `kernel_calls`, `row_arguments`, `places`, `pool` | calls of a kernel: arguments, pointers, memory for results |
| `operators`, `probes`, `early`, `once` | kernels inside autograd and `torch.compile`; gradients formed with the values |
| `triton`, `triton_functions` | `triton`: kernels for a GPU |
| `heads`, `projection`, `passage`, `rounding`, `engines` | tables over linear heads, whose logits are never whole |
| `layered`, `both_ways` | matrices of all pairs of two batches |
| `sharded`, `shard_kernels` | heads split over the ranks of a process group |
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import Tensor

from lossc.compiler.core import Input, Node, walk
from lossc.compiler.cut import across, cut
from lossc.compiler.emission import Bound, Procedure
from lossc.compiler.program import Program
from lossc.compiler.table import Table
from lossc.runtime.backends.c import Compiled
from lossc.runtime.backends.choose import Automatic, Chosen
from lossc.runtime.backends.chunked import Chunked
from lossc.runtime.backends.engines import Closed, Engine, Kernels
from lossc.runtime.backends.fused import Fused, Operator
from lossc.runtime.backends.layered import Layered, Paired
from lossc.runtime.backends.reference import Executable, Value
from lossc.runtime.backends.seam import Seam, Weigh
from lossc.runtime.backends.triton import TritonTable

BACKENDS = ("auto", "reference", "torch", "c", "triton")

OPERATORS: dict[str, Callable[[Table, Seam], Operator]] = {
    "auto": Chosen, "torch": Chunked, "c": Compiled, "triton": TritonTable,
}  # fmt: skip
"""What runs a statistic table, by backend."""

ENGINES: dict[str, Callable[[Any], Engine]] = {
    "auto": lambda operator: Kernels(operator.compiled), "torch": Closed, "c": Kernels, "triton": Kernels,
}  # fmt: skip
"""What computes with blocks of scores that a head makes, from the operator of a table."""


class Runnable(Protocol):
    """A program ready to run: `run` takes the values listed in `bound`, in order, and returns the outputs by name.

    `weigh` receives the outputs known early and returns the upstream gradients to expect, so that gradients may be
    formed together with the values. The tensors in `native` may have another floating type than the computation; with
    `heads`, a tensor may be a `Linear`.
    """

    bound: tuple[Bound, ...]
    native: frozenset[str]
    heads: bool

    def run(self, values: list[Any], weigh: Weigh | None = None) -> dict[str, Tensor]: ...


def executable(
    program: Program, roots: Mapping[str, Node], seen: Mapping[str, Node], whole: Procedure, backend: str
) -> Runnable:
    """The roots on a backend. `whole` is the procedure emitted for them, and `seen` the masks given to the emission."""
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    parts = None if backend == "reference" else cut(program, roots, seen)
    if parts is None:
        return Executable(whole)
    kinds = (program.spans, OPERATORS[backend], ENGINES[backend])

    @functools.cache
    def of_heads(heads: frozenset[str]) -> Fused | None:
        cut_across = across(program, roots, seen, heads)
        return None if cut_across is None else Layered(cut_across, whole, *kinds)

    if not parts.tables:
        is_paired = any(_is_matrix(node) for node in walk(*roots.values()))
        return Paired(whole, functools.partial(Fused, parts, whole, *kinds, of_heads)) if is_paired else Executable(whole)
    fused = Fused(parts, whole, *kinds, of_heads)
    return Automatic(fused, whole) if backend == "auto" else fused


def _is_matrix(node: Node) -> bool:
    """Whether a tensor may be given as a matrix of all pairs that a linear head makes."""
    return isinstance(node, Input) and len(node.order) == 2 and not node.is_mask and node.kind != "label"


__all__ = ["BACKENDS", "Executable", "Runnable", "Value", "Weigh", "executable"]
