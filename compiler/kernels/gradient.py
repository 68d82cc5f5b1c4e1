"""The gradient of a kernel with respect to a stream, as coefficients times slopes."""

from __future__ import annotations

from dataclasses import dataclass

from lossc.compiler.core import Node
from lossc.compiler.kernels.model import Kernel
from lossc.compiler.table.model import Statistic, Stream


@dataclass(frozen=True)
class Part:
    """(dL/d statistic) * value, where the mask holds and the coefficient is not 0."""

    statistic: Statistic
    value: Node
    mask: Node | None

    @property
    def graphs(self) -> tuple[Node, ...]:
        return (self.value,) if self.mask is None else (self.value, self.mask)


def gradient_of(kernel: Kernel, stream: Stream) -> list[Part]:
    """The summands of the gradient at every class; what selections add at their labels is not among them."""
    return [Part(s, slope.value, s.mask) for s in kernel.statistics for slope in s.gradients if slope.of == stream.name]
