"""Values of each class that are computed once a row and stored: exponentials and the like that several sweeps read."""

from __future__ import annotations

from collections.abc import Sequence

from lossc.compiler.core import Map, Node, walk
from lossc.compiler.kernels.gradient import gradient_of
from lossc.compiler.kernels.model import Kernel
from lossc.compiler.steep import is_small_power
from lossc.compiler.table.model import Stream

MOST_HELD = 4
"""The number of values for each class that are kept from the sweeps for later ones and for the gradient."""

COSTLY = ("exp", "expm1", "log", "log1p", "log2", "log1mexp", "logaddexp", "xlogy", "sigmoid", "logsigmoid", "softplus",
          "tanh", "pow", "erf", "normcdf")  # fmt: skip


def held_values(kernel: Kernel, wants: Sequence[Stream]) -> dict[Node, str]:
    """The values that are stored, each with the name of its array."""
    sums = [(s.level, s.body) for s in kernel.statistics if s.op == "sum"]
    read = {level: dict.fromkeys(walk(*(body for own, body in sums if own == level))) for level, _ in sums}
    read[0] = dict.fromkeys(walk(*(part.value for stream in wants for part in gradient_of(kernel, stream))))
    every = dict.fromkeys(node for level in sorted(read) for node in read[level])
    shared = [
        node for node in every
        if _is_costly(node) and kernel.axis in node.axes and sum(node in found for found in read.values()) > 1
    ]  # fmt: skip
    outer = [node for node in shared if not any(node in walk(other) and node is not other for other in shared)]
    return {node: f"held{at}" for at, node in enumerate(outer[:MOST_HELD])}


def first_level(kernel: Kernel, node: Node) -> int:
    """The sweep that computes a value first."""
    return min(s.level for s in kernel.statistics if s.op == "sum" and node in walk(s.body))


def _is_costly(node: Node) -> bool:
    return isinstance(node, Map) and node.function in COSTLY and not is_small_power(node)
