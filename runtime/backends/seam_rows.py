"""The seam of a table as compiled row programs: statistics to values, and dL/d value to dL/d statistic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from lossc.compiler.core import Input, Node, Param, add, substitute, walk
from lossc.compiler.emission import Procedure
from lossc.compiler.rows import NoRowsError, Output, derivatives
from lossc.compiler.table import Statistic, Table
from lossc.runtime.backends.environment import Environment
from lossc.runtime.backends.rows import Rows, outputs_of

UPSTREAM = "@upstream "
"""What the names of dL/d root begin with."""


@dataclass(frozen=True)
class Gradients:
    """dL/d statistic by name in the table, and the gradients of tensors and parameters that occur in row values."""

    statistics: dict[str, Tensor]
    tensors: dict[str, Tensor]
    params: dict[str, Tensor]


class SeamRows:
    """Row programs for the roots of a table; `statistics` are those through which gradient flows."""

    def __init__(
        self, table: Table, roots: Mapping[str, Node], procedure: Procedure, statistics: Sequence[Statistic]
    ) -> None:  # fmt: skip
        self._roots = roots
        self._outputs = outputs_of(procedure)
        self._statistics = {s.leaf: s for s in statistics}
        self._links = dict(_links(table))
        self._values: Rows | None = None
        self._programs: dict[tuple[tuple[str, ...], ...], Rows | None] = {}

    def values(self, known: Environment) -> dict[str, Tensor] | None:
        """Every root, in the type of the computation; None where no row program serves."""
        if self._values is None:
            self._values = Rows(self._roots, self._outputs)
        return self._values.run(known)

    def differentiates(self, known: Environment, tensors: Sequence[str], params: Sequence[str]) -> bool:
        """Whether gradients can be computed, from whichever roots they come."""
        program = self._program(tuple(self._roots), tensors, params)
        return program is not None and program.serves(known.sizes)

    def gradients(
        self, known: Environment, upstream: Mapping[str, Tensor], tensors: Sequence[str], params: Sequence[str]
    ) -> Gradients | None:
        """dL/d statistic in double precision, and the gradients of these tensors and parameters, from dL/d root."""
        given = {f"{UPSTREAM}{name}": gradient for name, gradient in upstream.items()}
        program = self._program(tuple(upstream), tensors, params)
        found = None if program is None else program.run(known.having(given), double=True)
        if found is None:
            return None
        own = {name: found[f"tensor {name}"].to(known.tensors[name].dtype) for name in tensors if f"tensor {name}" in found}
        computed = {name[1:]: gradient for name, gradient in own.items() if name.startswith("@")}
        return Gradients(
            computed | {s.name: found[f"@{s.name}"] for s in self._statistics.values() if f"@{s.name}" in found},
            {name: gradient for name, gradient in own.items() if not name.startswith("@")},
            {name: found[f"param {name}"].to(known.params[name].dtype) for name in params if f"param {name}" in found},
        )

    def _program(self, roots: tuple[str, ...], tensors: Sequence[str], params: Sequence[str]) -> Rows | None:
        key = (roots, tuple(tensors), tuple(params))
        if key not in self._programs:
            try:
                values = self._derived(*key)
            except NoRowsError:
                self._programs[key] = None
            else:
                self._programs[key] = Rows({out.name: node for out, node in values}, [out for out, _ in values])
        return self._programs[key]

    def _derived(
        self, roots: tuple[str, ...], tensors: tuple[str, ...], params: tuple[str, ...]
    ) -> list[tuple[Output, Node]]:
        """The gradient of each source that has one."""
        axes = {output.name: output.axes for output in self._outputs}
        pairs = [(self._roots[name], Input(f"{UPSTREAM}{name}", axes[name])) for name in roots]
        behind = [value for links in self._links.values() for value, _ in links]
        leaves = [node for node in walk(*(self._roots[name] for name in roots), *behind) if isinstance(node, Input | Param)]
        named = {leaf: out for leaf in leaves if (out := self._source(leaf, tensors, params)) is not None}
        found: dict[Output, Node] = {}
        for leaf, gradient in derivatives(pairs, named, self._links).items():
            out = named[leaf]  # type: ignore[index]
            found[out] = add(found[out], gradient) if out in found else gradient
        return list(found.items())

    def _source(self, leaf: Input | Param, tensors: tuple[str, ...], params: tuple[str, ...]) -> Output | None:
        if leaf in self._statistics:
            return Output(f"@{self._statistics[leaf].name}", self._statistics[leaf].rows, "number")
        if isinstance(leaf, Param):
            return Output(f"param {leaf.name}", leaf.order, "number") if leaf.name in params else None
        return Output(f"tensor {leaf.name}", leaf.order, "number") if leaf.name in tensors else None


def _links(table: Table) -> Iterator[tuple[Node, list[tuple[Node, Node]]]]:
    """For each statistic, the row values in its body and its derivatives with respect to these."""
    replacements: dict[Node, Node] = {}
    for scalar in table.scalars:
        replacements[scalar.leaf] = substitute(scalar.value, replacements)
    named = {s.name: replacements[s.leaf] for s in table.scalars}
    named |= {s.name: s.leaf for s in table.statistics} | {computed.name: computed.leaf for computed in table.computed}
    for statistic in table.statistics:
        slopes = [(named[slope.of], substitute(slope.value, replacements)) for slope in statistic.sensitivities]
        if slopes:
            yield statistic.leaf, slopes
