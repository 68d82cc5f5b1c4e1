"""The values of a program outside its statistic tables: denominators, counts, and everything without a class axis."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lossc.compiler.core import Node, differentiable
from lossc.compiler.emission import Procedure, emit
from lossc.compiler.rows import NoRowsError, Output, row_program
from lossc.grammar.source import Span
from lossc.runtime.backends.environment import Environment
from lossc.runtime.backends.reference import Executable
from lossc.runtime.backends.rows import Rows, outputs_of


class Rest:
    """Values outside tables: those that one row program can compute do so, the others run on the reference."""

    def __init__(self, values: Mapping[str, Node], seen: Mapping[str, Node], spans: dict[Node, Span]) -> None:
        """`seen` has masks of the entries that count, for some of the values."""
        self._all = Executable(emit(values, seen=seen, spans=spans))
        outputs = [each for each in outputs_of(self._all.procedure) if _is_on_rows(values[each.name], each)]
        names = {each.name for each in outputs}
        left = {name: value for name, value in values.items() if name not in names}
        others = Executable(emit(left, seen={name: mask for name, mask in seen.items() if name in left}, spans=spans))
        self._rows = Rows({name: values[name] for name in names}, outputs) if self._agree(others) and outputs else None
        self._others = others if left else None

    @property
    def procedure(self) -> Procedure:
        """All values, as the reference runs them."""
        return self._all.procedure

    def _agree(self, others: Executable) -> bool:
        """Whether these values have the same order of dimensions when they are emitted without the others."""
        outputs = others.procedure.outputs
        return all(outputs[name].axes == self.procedure.outputs[name].axes for name in outputs)

    def run(self, environment: Environment, *, compiled: bool) -> dict[str, Tensor]:
        """All values; `compiled` allows row programs."""
        found = self._rows.run(environment) if compiled and self._rows is not None else None
        if found is None:
            return self._all.run(environment.bind(self._all.bound))
        return found if self._others is None else found | self._others.run(environment.bind(self._others.bound))


def _is_on_rows(value: Node, output: Output) -> bool:
    """Whether a row program can compute a value: it needs no gradient, and loops over rows can express it."""
    if differentiable(value):
        return False
    try:
        row_program({output.name: value}, [output])
    except NoRowsError:
        return False
    return True
