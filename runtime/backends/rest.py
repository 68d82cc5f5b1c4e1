"""What no statistic table of a program delivers: denominators, counts, and values that have nothing to do with classes."""

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
    """Values that run as the reference does, or those that can in one program on rows and only the others so."""

    def __init__(self, values: Mapping[str, Node], seen: Mapping[str, Node], spans: dict[Node, Span]) -> None:
        """`seen` masks the entries of some values that count."""
        self._all = Executable(emit(values, seen=seen, spans=spans))
        outputs = [each for each in outputs_of(self._all.procedure) if _is_on_rows(values[each.name], each)]
        names = {each.name for each in outputs}
        left = {name: value for name, value in values.items() if name not in names}
        others = Executable(emit(left, seen={name: mask for name, mask in seen.items() if name in left}, spans=spans))
        self._rows = Rows({name: values[name] for name in names}, outputs) if self._agree(others) and outputs else None
        self._others = others if left else None

    @property
    def procedure(self) -> Procedure:
        """All values as the reference runs them."""
        return self._all.procedure

    def _agree(self, others: Executable) -> bool:
        """Whether values have the same dimensions alone as together."""
        outputs = others.procedure.outputs
        return all(outputs[name].axes == self.procedure.outputs[name].axes for name in outputs)

    def run(self, environment: Environment, *, compiled: bool) -> dict[str, Tensor]:
        """All values; `compiled` allows programs on rows."""
        found = self._rows.run(environment) if compiled and self._rows is not None else None
        if found is None:
            return self._all.run(environment.bind(self._all.bound))
        return found if self._others is None else found | self._others.run(environment.bind(self._others.bound))


def _is_on_rows(value: Node, output: Output) -> bool:
    """Whether a value is one of a program on rows: it has such a form, and no gradient is asked for."""
    if differentiable(value):
        return False
    try:
        row_program({output.name: value}, [output])
    except NoRowsError:
        return False
    return True
