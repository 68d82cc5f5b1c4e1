"""Regular rows, over which kernels need no guards.

In a regular row no entry of the streams whose maxima are taken is infinite, or so far below the maximum that an
exponential vanishes. Then centred entries are finite and at most 0. Their exponentials neither overflow nor underflow,
and products with them need no guard against 0 * inf. NaN may still be there; it spreads by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from lossc.compiler import intervals as iv
from lossc.compiler.core import Const, Input, Map, Node, StopGrad, mul, substitute, walk
from lossc.compiler.kernels.model import Kernel
from lossc.compiler.table.model import Statistic, Stream

NONPOSITIVE = iv.Interval(-iv.INF, 0)

DEPTH = 80
"""Exponents of regular rows are not below minus this, in single precision far from where exponentials vanish."""


class Regularity:
    """What is known in regular rows.

    `streams` are those whose entries decide: those whose maxima the first sweep takes.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._centred = {stream.leaf: stream for stream in kernel.centred}
        first = [s for s in kernel.statistics if s.op == "shift" and s.level == 1]
        read = set(walk(*(s.body for s in first)))
        self.streams = tuple(stream for stream in kernel.streams if stream.leaf in read and not stream.leaf.is_mask)
        self._looked = {stream.leaf for stream in self.streams}
        self._bounded = {leaf: _bounded(leaf) for leaf, stream in self._centred.items() if self._is_plain(stream)}
        self._factors: dict[Node, Fraction] = {}
        for stream, factor in self._exponents():
            self._factors[stream] = max(factor, self._factors.get(stream, factor))

    def bounding(self, stream: Stream) -> Statistic | None:
        """The shift that is the maximum of all entries of a stream."""
        found = (s for s in self.kernel.statistics if s.op == "shift" and s.mask is None and s.body is stream.leaf)
        return next(found, None)

    def factor(self, stream: Stream) -> Fraction | None:
        """The largest multiple of a stream's centred entries that is in an exponent."""
        return self._factors.get(stream.leaf)

    def is_bounded(self, exponent: Node) -> bool:
        """Whether an exponent lies in [-DEPTH, 0]."""
        return self._multiple(exponent) is not None

    def _exponents(self) -> Iterator[tuple[Node, Fraction]]:
        """The streams whose centred entries are in exponents, each with the largest factor."""
        every = self.kernel.every
        graphs = [s.body for s in every] + [slope.value for s in every for slope in s.gradients]
        for node in walk(*graphs):
            if isinstance(node, Map) and node.function == "exp" and (found := self._multiple(node.arguments[0])):
                yield found

    def _multiple(self, exponent: Node) -> tuple[Node, Fraction] | None:
        """The stream and factor of a positive multiple of a stream that is centred by its maximum."""
        factor = Fraction(1)
        if isinstance(exponent, Map) and exponent.function == "mul":
            first, *rest = exponent.arguments
            if not isinstance(first, Const) or not isinstance(first.value, Fraction) or first.value <= 0:
                return None
            factor, exponent = first.value, mul(*rest)
        stream = self._centred.get(exponent)
        if stream is None or not self._is_plain(stream):
            return None
        shift = next(s for s in self.kernel.statistics if s.name == stream.shift)
        return (shift.body, factor) if any(shift.body is each.leaf for each in self.streams) else None

    def _is_plain(self, stream: Stream) -> bool:
        """Whether a stream is centred by the maximum of all its own entries."""
        shift = next((s for s in self.kernel.statistics if s.name == stream.shift), None)
        if shift is None or shift.mask is not None or stream.sign < 0 or not self.is_finite(shift.body):
            return False
        source = stream.source
        return isinstance(source, Map) and source.function == "add" and source.arguments[0] is shift.body

    def nonpositive(self, node: Node) -> bool:
        """Whether a value is never above 0."""
        return substitute(node, dict(self._bounded)).domain.hi <= 0

    def is_finite(self, node: Node) -> bool:
        """Whether a value is computed by sums and products from row values and streams that are known to be finite."""
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
