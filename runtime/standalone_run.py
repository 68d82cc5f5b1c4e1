"""What a standalone module needs to follow the run: its draws, the renewal of its states, the ascent of its multipliers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from lossc.compiler.draws import NAME as DRAWN
from lossc.compiler.emission import Procedure, emit
from lossc.runtime.constraints import RATE
from lossc.runtime.objective import Objective
from lossc.runtime.states import Renewal, present_of
from lossc.runtime.variants import Variant, beside

Parameter = tuple[str, object, str, tuple[str, ...]]


@dataclass
class Following:
    """The further procedures and tables of an objective that follows the run; of one that does not, nothing."""

    objective: Objective
    variant: Variant
    procedures: dict[str, Procedure] = field(default_factory=dict)
    renewals: dict[str, Renewal] = field(default_factory=dict)

    def __post_init__(self) -> None:
        states = self.objective.renewing
        if states.nodes:
            nodes = dict(beside(self.objective.formed, frozenset(), states.nodes))
            self.procedures["gathered"] = emit(nodes, differentiable=False)
        self.renewals = {"renewed": states.of_calls, "moved": states.alone}
        self.procedures |= {name: one.executable.procedure for name, one in self.renewals.items() if one.names}

    @property
    def parameters(self) -> list[Parameter]:
        """What follows the run, as rows of the table of parameters: values of the run, random tensors, states."""
        bound = [entry for each in (self.variant.procedure, *self.procedures.values()) for entry in each.bound]
        run = {entry.name: (entry.name, 0.0, "run", ()) for entry in bound if entry.name.startswith("run:")}
        drawn = {entry.name: (entry.name, 0.0, "draw", entry.axes) for entry in bound if entry.name.startswith(DRAWN)}
        return [*run.values(), *drawn.values(), *self._states()]

    def _states(self) -> Iterator[Parameter]:
        objective = self.objective
        for name, info in objective.program.states.items():
            yield name, _number(objective.state[name]), "state", info.order
        for each in objective.program.constraints:
            yield each.multiplier.name, _number(objective.multipliers[each.name]), "state", each.multiplier.order
            yield f"penalty of {each.name}", _number(objective.penalties[each.name]), "state", ()

    def tables(self) -> list[tuple[str, str, Mapping[str, object]]]:
        """Name, comment and content of each further table."""
        draws = {each.name: (each.distribution, each.place, each.each_call) for each in self.objective.drawn.values()}
        merging = self.objective.renewing.merging
        made = {axis: source for axis, source in self.objective.made.items() if isinstance(source, str | int)}
        return [
            ("DRAWS", "of each random tensor: distribution, place, whether every call has its own", draws),
            ("MADE", "axes that are made inside: the axis that each comes from, or its extent", made),
            ("GATHERED", "what each call gathers, and how the values of two calls become one", merging),
            ("RENEWED", "what `renewed` returns: of which state, its axes, those of its mask", self._returned("renewed")),
            ("MOVED", "the same of `moved`", self._returned("moved")),
            ("CONSTRAINTS", "of each multiplier: penalty, <=, augmented, rate, growth, tolerance", self._constraints()),
        ]  # fmt: skip

    def _returned(self, which: str) -> dict[str, tuple[object, ...]]:
        outputs = self.renewals[which].executable.procedure.outputs
        return {
            name: (outputs[name].axes, outputs[present_of(name)].axes if present_of(name) in outputs else None)
            for name in self.renewals[which].names
        }

    def returned(self, which: str) -> list[str]:
        """The outputs of a procedure in the order in which its function returns them."""
        names = self.renewals[which].names if which in self.renewals else self.procedures[which].outputs
        outputs = self.procedures[which].outputs
        return [output for name in names for output in (name, present_of(name)) if output in outputs]

    def _constraints(self) -> dict[str, tuple[object, ...]]:
        found: dict[str, tuple[object, ...]] = {}
        for each in self.objective.program.constraints:
            how = self.objective.constraints[each.name]
            augmented = how.formulation == "augmented"
            rate = how.multiplier_lr if how.multiplier_lr is not None or augmented else RATE
            form = (f"penalty of {each.name}", each.relation == "<=", augmented, rate, how.growth, how.tolerance)
            found[each.multiplier.name] = form
        return found


def _number(tensor: Tensor) -> object:
    """The one value of a tensor, or its values."""
    flat = tensor.flatten()
    return float(flat[0]) if len(flat) and bool((flat == flat[0]).all()) else tensor.tolist()
