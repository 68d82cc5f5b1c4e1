"""What holds in a regular row: one in which no entry of the streams under its largest entries is infinite.

Then centred entries are finite and not above 0, so that exponentials of them cannot overflow, and products with them need
no guard against 0 * inf. NaN may be there all the same; it spreads by itself.
"""

from __future__ import annotations

from lossc.compiler import intervals as iv
from lossc.compiler.core import Const, Input, Map, Node, StopGrad, substitute, walk
from lossc.compiler.kernels.model import Kernel
from lossc.compiler.table.model import Statistic, Stream

NONPOSITIVE = iv.Interval(-iv.INF, 0)


class Regularity:
    """`streams` are those whose entries are looked at: what the largest entries of the first sweep are taken of."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._centred = {stream.leaf: stream for stream in kernel.centred}
        first = [s for s in kernel.statistics if s.op == "shift" and s.level == 1]
        read = set(walk(*(s.body for s in first)))
        self.streams = tuple(stream for stream in kernel.streams if stream.leaf in read and not stream.leaf.is_mask)
        self._looked = {stream.leaf for stream in self.streams}
        self._bounded = {leaf: _bounded(leaf) for leaf, stream in self._centred.items() if self._is_plain(stream)}

    def bounding(self, stream: Stream) -> Statistic | None:
        """The shift that is the largest entry of all of a stream."""
        found = (s for s in self.kernel.statistics if s.op == "shift" and s.mask is None and s.body is stream.leaf)
        return next(found, None)

    def _is_plain(self, stream: Stream) -> bool:
        """Whether a stream is centred by the largest of all its own entries."""
        shift = next((s for s in self.kernel.statistics if s.name == stream.shift), None)
        if shift is None or shift.mask is not None or stream.sign < 0 or not self.is_finite(shift.body):
            return False
        source = stream.source
        return isinstance(source, Map) and source.function == "add" and source.arguments[0] is shift.body

    def nonpositive(self, node: Node) -> bool:
        """Whether a value is never above 0."""
        return substitute(node, dict(self._bounded)).domain.hi <= 0

    def is_finite(self, node: Node) -> bool:
        """Whether a value is made of entries that were looked at, and of row values, by sums and products."""
        match node:
            case Const():
                return True
            case StopGrad(body=body):
                return self.is_finite(body)
            case Map(function="add" | "mul", arguments=arguments):
                return all(self.is_finite(argument) for argument in arguments)
        if node in self._centred:
            return self.is_finite(self._centred[node].source)
        return node in self._looked or (isinstance(node, Input) and self.kernel.axis not in node.axes)


def _bounded(leaf: Node) -> Node:
    assert isinstance(leaf, Input)
    return Input(leaf.name, leaf.order, leaf.kind, NONPOSITIVE, leaf.detached)
