"""dL/d statistic from the adjoints of a row: what is added to which coefficient, the last sweep first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lossc.compiler.core import ZERO, Node
from lossc.compiler.derivative import derivative, tidy
from lossc.compiler.kernels.model import Argument, Kernel, plain
from lossc.compiler.table.model import Statistic


@dataclass(frozen=True)
class Added:
    """`source` * `slope` is added to the coefficient of `target`, unless the source is 0.

    A source is a seed, or the coefficient of a statistic or row value. Targets are names of statistics and row values.
    """

    source: Argument | str
    target: str
    slope: Node


def added(kernel: Kernel, statistics: Sequence[Statistic]) -> Iterator[Added]:
    """Everything that is added to the coefficients of the statistics, in order."""
    for adjoint in kernel.adjoints or ():
        for statistic in statistics:
            slope = tidy(derivative(adjoint.value, statistic.leaf))
            if slope is not ZERO:
                yield Added(adjoint.seed, statistic.name, slope)
    by_name = {statistic.name: statistic for statistic in statistics}
    for source in reversed(kernel.statistics):
        if source.name in by_name:
            yield from _chained(kernel, source, by_name)


def _chained(kernel: Kernel, source: Statistic, statistics: dict[str, Statistic]) -> Iterator[Added]:
    """What the coefficient of a statistic adds to those of row values in its body, and of earlier statistics in these."""
    reached: dict[str, str] = {}
    for chain in kernel.chains:
        if chain.statistic == source.name:
            own = chain.value_of if chain.value_of in statistics else f"{chain.value_of}_{source.name}"
            reached[chain.value_of] = own
            yield Added(chain.statistic, own, chain.value)
    for local in kernel.locals:
        if plain(local.leaf) in reached:
            for statistic in statistics.values():
                slope = tidy(derivative(local.value, statistic.leaf))
                if slope is not ZERO:
                    yield Added(reached[plain(local.leaf)], statistic.name, slope)
