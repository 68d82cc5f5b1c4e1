"""Programs over matrices of all pairs that heads make: one table after another, along one axis of a matrix or the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import Tensor

from lossc.compiler.core import Node
from lossc.compiler.cut import Cut
from lossc.compiler.emission import Bound, Procedure, emit
from lossc.compiler.table import Table
from lossc.grammar.source import Span
from lossc.runtime.backends.both_ways import Way, together
from lossc.runtime.backends.engines import Engine
from lossc.runtime.backends.environment import Environment, shaped
from lossc.runtime.backends.fused import Fused, Operator, turned
from lossc.runtime.backends.reference import Executable, Value
from lossc.runtime.backends.seam import Seam, Weigh, Weights
from lossc.runtime.linear import Linear


class Layered(Fused):
    """A program that is cut along both axes: later tables read values of earlier ones, and some roots are sums of others."""

    def __init__(
        self, parts: Cut, whole: Procedure, spans: dict[Node, Span], operator: Callable[[Table, Seam], Operator],
        engine: Callable[[Operator], Engine],
    ) -> None:  # fmt: skip
        super().__init__(parts, whole, spans, operator, engine)
        self._steps = tuple(
            step if isinstance(step, int) else Executable(emit(step.roots, seen=step.masks, spans=spans))
            for step in parts.steps
        )
        between = [step.procedure for step in self._steps if isinstance(step, Executable)]
        self._turned |= dict(turned(whole, between))
        procedures = (*between, *(seam.procedure for seam in self._seams))
        self._axes = {name: value.axes for procedure in procedures for name, value in procedure.outputs.items()}
        self._leaves = {name: axes for each in parts.crossings for name, axes in each.leaves.items()}
        self._sums = {name: made for each in parts.crossings for name, made in each.sums.items()}
        self._transposed = {name: new for each in parts.crossings for name, new in each.transposed.items()}

    def _through(self, environment: Environment, weights: Weights, heads: Mapping[str, Linear]) -> dict[str, Tensor]:
        heads = {**heads, **{new: heads[name].transposed() for name, new in self._transposed.items() if name in heads}}
        expected = {made: weight for name, weight in weights.items() for made in self._sums.get(name, (name,))}
        found: dict[str, Tensor] = {}
        steps = list(self._steps)
        while steps:
            step = steps.pop(0)
            if not isinstance(step, int):
                made = step.run(environment.bind(step.bound))
            else:
                both = self._together(step, steps[:1], environment, expected, heads)
                del steps[: 0 if both is None else 1]
                made = self._operate(step, environment, expected, heads) if both is None else both
            leaves = {name: shaped(made[name], self._axes[name], axes, environment.sizes)
                      for name, axes in self._leaves.items() if name in made}  # fmt: skip
            environment = environment.having(leaves)
            found.update({name: value for name, value in made.items() if name not in leaves})
        return dict(self._added(found))

    def _together(
        self, step: int, following: Sequence[int | Executable], environment: Environment, weights: Weights,
        heads: Mapping[str, Linear],
    ) -> dict[str, Tensor] | None:  # fmt: skip
        """The roots of a table and of the next one, where these read a matrix and its transpose and can share one pass."""
        numbers = [step, *(other for other in following if isinstance(other, int))]
        ways = [way for at in numbers for way in self._way(at, weights, heads)]
        if len(ways) < 2:
            return None
        there, back = ways
        if self._transposed.get(there.name) != back.name and self._transposed.get(back.name) != there.name:
            return None
        return together(there, back, environment) or together(back, there, environment)

    def _way(self, at: int, weights: Weights, heads: Mapping[str, Linear]) -> Iterator[Way]:
        """A table over one matrix only, none of whose roots another table reads."""
        names = [name for name in heads if name in self._reads(at)]
        roots = self._seams[at].procedure.outputs.keys()
        if len(names) == 1 and not roots & self._leaves.keys() and self.headed(at).takes(names):
            expected = {name: weight for name, weight in weights.items() if name in self.operators[at].roots}
            yield Way(self.headed(at), names[0], heads[names[0]], expected)

    def _added(self, found: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """The roots, some as sums of others."""
        parts = {made for names in self._sums.values() for made in names}
        yield from ((name, value) for name, value in found.items() if name not in parts)
        for name, made in self._sums.items():
            value = found[made[0]]
            for other in made[1:]:
                value = value + found[other]
            yield name, value


class Paired:
    """A program without class axes. It runs on the reference, except where a head makes a matrix of all pairs."""

    heads = True
    native: frozenset[str] = frozenset()

    def __init__(self, whole: Procedure, fused: Callable[[], Fused]) -> None:
        """`fused` makes the program that accepts heads; it is called when the first head comes."""
        self.bound: tuple[Bound, ...] = whole.bound
        self._whole = Executable(whole)
        self._make = fused
        self._fused: Fused | None = None

    def run(self, values: Sequence[Value | Linear], weigh: Weigh | None = None) -> dict[str, Tensor]:
        """The outputs by name."""
        if not any(isinstance(value, Linear) for value in values):
            return self._whole.run(values)  # type: ignore[arg-type]
        self._fused = self._fused or self._make()
        given = dict(zip(((entry.kind, entry.name) for entry in self.bound), values, strict=True))
        every = [given[entry.kind, entry.name] for entry in self._fused.bound]
        return self._fused.run(every, weigh)
