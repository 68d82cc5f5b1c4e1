"""The half of an `Objective` that changes over a run: its clock, draws, states and multipliers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Never, Self

from lossc.compiler.core import RUN
from lossc.compiler.draws import Drawn, WithDraws
from lossc.compiler.emission import Extent
from lossc.compiler.program import Program, StateInfo
from lossc.grammar.source import Span
from lossc.runtime.arguments import an_instance, answering, brief, by_name
from lossc.runtime.clock import Clock, checked_total
from lossc.runtime.constraints import Constraint, ascend, required
from lossc.runtime.draws import Draws
from lossc.runtime.inputs import Inputs
from lossc.runtime.messages import LosscWarning, fail
from lossc.runtime.parameters import Parameters
from lossc.runtime.states import Held, Outcome, Pending, States, beginning, laid_out, sorted_dims
from lossc.runtime.touched import Touched, rows_of, write_rows

FORGOTTEN = 100
"""After this many training calls without `advance`, a warning says that it may have been forgotten."""


class Running(nn.Module):
    """The base of `Objective` that `advance` moves on.

    `state`, `multipliers` and `penalties` hold tensors by name and are saved with the objective. What the calls of the
    current step have gathered so far is not saved.
    """

    learn: nn.ParameterDict
    state: Held
    multipliers: Held
    penalties: Held
    sizes: dict[str, int]
    _program: Program
    _inputs: Inputs
    _settings: Parameters
    _states: States
    _follows: str
    _runs: WithDraws
    _formed: Program

    def _begin(self, program: Program, total_steps: int | None, seed: int, constraints: dict[str, Constraint]) -> None:
        """Puts the clock, the draws and the constraints at the first step of a run."""
        self.constraints = constraints
        self._clock = Clock()
        self._draws = Draws(seed)
        self._pending = Pending()
        self._violations: dict[str, Tensor] = {}
        self._calls = 0
        self._warned_coupled = False
        if total_steps is not None:
            self.total_steps = checked_total(total_steps)

    def _hold(self, program: Program) -> None:
        """Allocates states, multipliers and penalties with their first values; E714 where an extent is not known."""
        infos = {each.name: each for each in program.constraints}
        if infos:
            required()
        self.state = Held({info.name: self._first(info) for info in program.states.values()})
        self.multipliers = Held({
            name: torch.full(self._extents_of(f"the multiplier of `{name}`", info.multiplier.order, info.span),
                             self.constraints[name].initial)
            for name, info in infos.items()
        })  # fmt: skip
        self.penalties = Held({name: torch.tensor(self.constraints[name].penalty) for name in infos})

    def _held(self, name: str) -> Tensor:
        """The value of a `Param` node: a parameter, a state, a multiplier, a penalty, or a reading of the clock."""
        key = name.replace(".", "/")
        if key in self.learn:
            learned: Tensor = self.learn[key]
            return learned
        if name in self.state:
            return self.state[name]
        what, _, of = name.partition(" of ")
        if of:
            return (self.multipliers if what == "multiplier" else self.penalties)[of]
        return self._clock.value(name) if name.startswith(RUN) else self._settings.tensors[name]

    def _first(self, info: StateInfo) -> Tensor:
        """The initial value of a state."""
        extents = self._extents_of(f"`{info.name}`", info.order, info.span)
        return beginning(info, extents, self._inputs.extents, self._settings.tensors)

    def _extents_of(self, what: str, order: tuple[str, ...], span: Span) -> list[int]:
        known = self._inputs.extents
        unknown = [axis for axis in order if axis not in known]
        if unknown:
            help_ = f"pass `sizes={{{unknown[0]!r}: …}}` when loading"
            raise fail("E714", f"{what} needs the extent of `{unknown[0]}`", declared=span, help=help_)
        return [known[axis] for axis in order]

    def __setattr__(self, name: str, value: Any) -> None:
        """Properties before what a module registers, so that each looks at its value itself; E726 where it is only read."""
        own = getattr(type(self), name, None)
        if not isinstance(own, property):
            with answering(name):
                super().__setattr__(name, value)
        elif own.fset is None:
            raise fail("E726", f"`{name}` of an objective is read, and not assigned", found=brief(value))
        else:
            own.fset(self, value)

    @property
    def step(self) -> int:
        """The number of optimiser steps done so far: how often `advance` was called."""
        return self._clock.step

    @property
    def total_steps(self) -> int | None:
        """The length of the run in steps, which `progress` needs; None while it is not set. It can be assigned."""
        return self._clock.total

    @total_steps.setter
    def total_steps(self, steps: int) -> None:
        self._clock.go_to(self._clock.step, checked_total(steps))

    @property
    def violations(self) -> dict[str, Tensor]:
        """The violation of each constraint over the whole last step, by name; above 0 where it was violated.

        A constraint on training examples has the violations of the examples in that step, in the order of their numbers.
        """
        return dict(self._violations)

    def advance(self, *unexpected: Never) -> None:
        """Ends a step. Call it once after each `optimiser.step()`, on every process.

        States are renewed and multipliers ascend from what the calls of the step have gathered. Only calls in training mode
        with gradients enabled count. Objectives without `step`, `progress`, `ramp`, states, draws or constraints need
        no call.
        """
        if unexpected:
            raise fail("E726", "`advance` takes nothing: it is called once behind each step", found=brief(unexpected[0]))
        if self._states.needed:
            self._pending.over_ranks(self._states)
            device = next(iter((*self.state.buffers(), *self.multipliers.buffers()))).device
            behind = self._states.behind(self._pending, device, self._held, self._inputs.extents)
            renewed = {name: value for name, value in behind.items() if name in self.state}
            self.state.renew(renewed, self._states.orders, self._pending.rows)
            self._ascend(behind)
        self._pending.clear()
        self._draws.restart(training=True)
        self._calls = 0
        self._clock.advance()

    def _ascend(self, behind: Mapping[str, Outcome]) -> None:
        """Moves the multiplier of every constraint whose violation in this step is known."""
        rows = self._pending.rows
        for info in self._program.constraints:
            if info.multiplier.name in behind:
                held, order, penalty = self.multipliers[info.name], info.multiplier.order, self.penalties[info.name]
                own = rows_of(held, order, rows)
                violation, present = laid_out(behind[info.multiplier.name], order, own)
                ascend(info, self.constraints[info.name], own, penalty, violation, present)
                write_rows(held, order, rows, own)
                if present is not None:
                    violation = violation[present] if info.by is not None else torch.where(present, violation, 0.0)
                if violation.numel():
                    self._violations[info.name] = violation

    @property
    def follows(self) -> bool:
        """Whether the objective changes with the step, or draws random tensors."""
        return bool(self._follows or self._runs.draws)

    @property
    def renewing(self) -> States:
        """How states are renewed after a step."""
        return self._states

    @property
    def drawn(self) -> dict[str, Drawn]:
        """The random tensors of the spec, by name."""
        return self._runs.draws

    @property
    def made(self) -> dict[str, Extent]:
        """The axes made inside the spec, each with its extent or the axis it comes from; empty where nothing is drawn."""
        return self._runs.made

    @property
    def formed(self) -> Program:
        """The program that runs: choices made, draws replaced by tensors, constraints by terms."""
        return self._formed

    @property
    def seed(self) -> int:
        """The seed of the draws."""
        return self._draws.seed

    def train(self, mode: bool = True) -> Self:
        """Sets training or evaluation mode. The sequence of draws in evaluation starts again."""
        an_instance("mode", mode, bool, "True or False")
        self._draws.restart(training=False)
        super().train(mode)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Moves or casts the tensors that it holds, as `torch.nn.Module.to`; E726 for what is no device or type."""
        with answering("to"):
            return super().to(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Restores what `state_dict` saved, as `torch.nn.Module.load_state_dict`; E717 where that is of another objective."""
        state = by_name("state_dict", state_dict, "what `state_dict()` of an objective gives")
        for name, value in (("strict", strict), ("assign", assign)):
            an_instance(name, value, bool, "True or False")
        with answering("load_state_dict", code="E717"):
            return super().load_state_dict(state, strict, assign)

    def _gather(
        self, outputs: Mapping[str, Tensor], axes: Mapping[str, tuple[str, ...]], sizes: Mapping[str, int], rows: Touched
    ) -> None:
        """Keeps what the renewal of states needs from a call; `axes` are the dimensions of each output."""
        if self._states.coupled and self._pending.values:
            self._report_coupled("the renewal of a state or multiplier", 2)
        found = {name: outputs[name].permute(sorted_dims(axes[name])) for name in self._states.merging}
        self._pending.add(self._states, found, {**self._inputs.extents, **sizes}, rows)

    def _count_call(self) -> None:
        """Warns where `advance` seems to have been forgotten."""
        if torch.compiler.is_compiling():
            return
        self._calls += 1
        if self._calls == FORGOTTEN:
            message = (
                f"{FORGOTTEN} calls without `objective.advance()`, to be called once behind each step of the optimiser: "
                f"{self._follows} would stay as it is"
            )
            warnings.warn(message, LosscWarning, stacklevel=4)

    def _report_coupled(self, name: str, calls: int) -> None:
        if self._warned_coupled or torch.compiler.is_compiling():
            return
        self._warned_coupled = True
        message = (
            f"{name} depends on how the batch is split: it is averaged over {calls} calls, "
            "which is not its value on the whole batch"
        )
        warnings.warn(message, LosscWarning, stacklevel=5)

    def _record(self) -> dict[str, Any]:
        """The clock and the seed, to be saved."""
        return {**self._clock.record(), "seed": self.seed}

    def _follow_record(self, record: Mapping[str, Any]) -> None:
        """Restores the clock and the seed."""
        self._clock.restore(record)
        self._draws.seed = int(record.get("seed", 0))
