"""`Objective`: a training objective as a module of torch. Tensors of a batch go in, a `Result` comes out."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Mapping
from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from lossc.compiler.constants import constant_value
from lossc.compiler.draws import with_draws
from lossc.compiler.lagrangian import with_constraints
from lossc.compiler.program import ParamInfo, Program, StateInfo
from lossc.compiler.renewal import renewals
from lossc.compiler.settle import choices, settle
from lossc.compiler.sparse import sparse_axes
from lossc.grammar.diagnostics import LosscError
from lossc.runtime.arguments import a_whole_number, an_instance, brief, by_name, extents, modules
from lossc.runtime.assemble import assembled, weights
from lossc.runtime.backends import BACKENDS, Value, Weigh
from lossc.runtime.constraints import Constraint, chosen
from lossc.runtime.display import as_html, as_latex, summary
from lossc.runtime.draws import replayed
from lossc.runtime.externs import externs
from lossc.runtime.functions import without_autocast
from lossc.runtime.inputs import CheckedInputs, Inputs
from lossc.runtime.linear import Linear
from lossc.runtime.messages import fail
from lossc.runtime.parameters import Parameters
from lossc.runtime.result import Denominators, Result
from lossc.runtime.running import Running
from lossc.runtime.states import States, follows_the_run
from lossc.runtime.touched import renumbered, rows_of, touched
from lossc.runtime.tracing import constant_in_traces
from lossc.runtime.variants import Variant, counted, full

BATCH = "a mapping from names to tensors"

_NUMBERS = count()
"""Of variants, in all objectives: older tracers take integers in two attributes of one name for one that changes."""


class Objective(Running):
    """A training objective, a `torch.nn.Module`: `objective(logits=…, labels=…).loss.backward()`.

    `lossc.load` and `lossc.loads` make one.

    - Calling it takes the tensors that the spec declares, by name, and returns a `Result`; see `forward`.
    - `denominators(…)` computes the denominators alone, for exact accumulation over micro-batches and processes.
    - `set(beta=0.3)` changes parameters between calls.
    - `advance()` ends an optimiser step: `step`, `progress` and ramps move on, states and multipliers are renewed.

    An objective is determined by its canonical text, its parameters and its backend. Pickle, deepcopy and `state_dict` hold
    these and its tensors (learned parameters, states, multipliers); programs and kernels are built again on first use.
    """

    def __init__(
        self, program: Program, *, backend: str = "auto", sizes: Mapping[str, int] | None = None,
        check_labels: bool = True, total_steps: int | None = None, seed: int = 0,
        constraints: Mapping[str, Constraint] | None = None, formulation: str | None = None,
        multiplier_lr: float | None = None, allow: Collection[str] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        an_instance("program", program, Program, "a checked program", help="`lossc.load` and `lossc.loads` make objectives")
        if not isinstance(backend, str) or backend not in BACKENDS:
            raise fail("E716", f"there is no backend {brief(backend)}", help=f"one of {', '.join(BACKENDS)}")
        if program.uncompiled:
            raise LosscError(program.uncompiled)
        self.backend = backend
        self.sizes = extents(sizes)
        self.check_labels = an_instance("check_labels", check_labels, bool, "True or False")
        self.allow = modules(allow)
        self.text = program.canonical
        seed = a_whole_number("seed", seed)
        self._begin(program, total_steps, seed, chosen(program, constraints, formulation, multiplier_lr))
        self._build(program)
        self._hold(program)
        self.learn = nn.ParameterDict()
        for info in self._learned():
            self.learn[info.name.replace(".", "/")] = nn.Parameter(self._initial(info))

    def _build(self, program: Program) -> None:
        """Sets everything that is derived from the program and left out of pickles."""
        self._program = program
        self._lets = tuple(program.lets)
        self._inputs = Inputs(program, self.sizes, externs(program, self.allow))
        self._settings = Parameters(program)
        self._follows = follows_the_run(program)
        self._settle()

    def _settle(self) -> None:
        """Derives the program that runs: of `a if mode == fast else b` only the branch that is chosen is kept."""
        made = {name: int(self._settings.tensors[name]) for name in choices(self._program)}
        program = settle(self._program, made)
        self._runs = with_draws(program)
        self._formed = with_constraints(self._runs.program, {name: how.formulation for name, how in self.constraints.items()})
        behind = renewals(self._runs.program)
        self._labels = sparse_axes(self._runs.program, behind)
        self._states = States(behind, {name: info.order for name, info in program.states.items()})
        self._variants, self._prepared = SimpleNamespace(), dict[str, str]()

    def _learned(self) -> list[ParamInfo]:
        return [info for info in self._program.params.values() if info.role == "learn"]

    def _initial(self, info: ParamInfo) -> Tensor:
        """The first value of a learned parameter, whose extents must be known when the objective is made."""
        extents = self._extents_of(f"`{info.name}`", info.order, info.span)
        numbers = {name: value for name, value in self._settings.numbers().items() if isinstance(value, float)}
        value = 0.0 if info.default is None else constant_value(info.default, numbers)
        return torch.full(extents, float(value or 0.0))

    # -------------------------------------------------------------------------------------- what it is

    @property
    def name(self) -> str:
        """The name in the line `objective NAME` of the spec."""
        return self._program.name

    @property
    def program(self) -> Program:
        """The checked program, before choices are made and draws and constraints are put into it."""
        return self._program

    @property
    def settings(self) -> dict[str, float | str | list[float]]:
        """The value of every `param`, by name; that of a choice is one of its names."""
        return self._settings.numbers()

    def values(self) -> dict[str, float | list[float]]:
        """The value of every `param` and `learn` parameter as numbers, by name; that of a choice is its position."""
        held = {info.name: self.learn[info.name.replace(".", "/")] for info in self._learned()}
        return {name: tensor.tolist() for name, tensor in {**self._settings.tensors, **held}.items()}

    def variant(self, *names: str) -> Variant:
        """What runs a call that is given the `let`s with these names, in place of what they are computed from."""
        return self._variant("full", tuple(an_instance("names", name, str, "texts") for name in names))

    def set(self, **values: object) -> None:
        """Gives parameters new values: `objective.set(beta=0.3)`. Nothing is recompiled, except for a choice between names.

        Raises:
            LosscError: E406 for a name that is no parameter, E401 for a value outside the parameter's domain. Then none is
                changed.
        """
        self._settings.set(values)
        if choices(self._program).keys() & values.keys():
            self._pending.clear()
            self._settle()

    def _restore(self, chosen: dict[str, float | list[float]]) -> None:
        """Sets parameters to saved values."""
        self._settings.restore(chosen)
        self._settle()

    def __repr__(self) -> str:
        return summary(self)

    def _repr_latex_(self) -> str:
        return as_latex(self)

    def _repr_html_(self) -> str:
        return as_html(self)

    # -------------------------------------------------------------------------------------- calling it

    def forward(
        self, batch: Mapping[str, object] | None = None, /, *, denominators: Denominators | None = None,
        per_term: bool = False, values: bool = False, draws: Mapping[str, Tensor] | None = None, **tensors: object,
    ) -> Result:  # fmt: skip
        """Computes the objective on a batch.

        Arguments:
            batch, tensors: the tensors that the spec declares, in a mapping or by name, with their dimensions in the declared
                order. Any `let` may be given in place of the tensors that it is computed from. Logits may be a
                `lossc.Linear`; an axis with named positions takes a dict with a tensor for each.
            denominators: those of the whole step, where this call is one of several micro-batches or processes. The loss is
                then this call's share of the loss of the step.
            per_term: keeps each value in `terms` differentiable by itself.
            values: keeps the entries that each term sums, in `result.values`.
            draws: random tensors of an earlier call, to repeat it.

        A tensor may be named like an option (`values`, say): it is taken for the tensor if it is no value of that option.

        Raises:
            LosscError: E7xx with every problem of the batch: missing and unknown tensors, wrong types, extents that
                disagree, labels out of range.
        """
        given = {**by_name("batch", batch, BATCH, code="E708"), **tensors}
        if not isinstance(values, bool):
            given, values = self._named(given, "values", values), False
        if not isinstance(per_term, bool):
            given, per_term = self._named(given, "per_term", per_term), False
        if not (denominators is None or isinstance(denominators, Denominators)):
            given, denominators = self._named(given, "denominators", denominators), None
        if not (draws is None or isinstance(draws, Mapping)):
            given, draws = self._named(given, "draws", draws), None
        contributes = self.training and torch.is_grad_enabled()
        gathers = contributes and bool(self._states.merging)
        variant = self._variant(f"{'values' if values else 'full'}{'+' if gathers else ''}", self._in_place(given))
        checked = self._check_inputs(variant, given)
        if contributes and self._follows:
            self._count_call()
        drawn = self._draw(variant, checked, draws, training=contributes)
        with without_autocast(checked.like.device.type):
            outputs = variant.run(self._bound(variant, checked), self._weigh(variant, denominators, per_term=per_term))
            if gathers:
                self._gather(outputs, variant.axes, checked.sizes, checked.rows)
            result = assembled(variant, outputs, denominators, per_term=per_term, on_coupled=self._report_coupled)
        result.draws = drawn
        return result

    def _named(self, given: dict[str, object], name: str, value: object) -> dict[str, object]:
        """Adds a tensor that has the name of an option to what is given; E702 where the spec has no such tensor."""
        if name not in self._inputs.expected:
            raise fail("E702", f"`{name}` is an option of the call, and `{type(value).__name__}` is no value of it")
        return {**given, name: value}

    def denominators(self, batch: Mapping[str, object] | None = None, /, **tensors: object) -> Denominators:
        """Computes the denominators of a batch, from the tensors that they depend on: usually labels and masks, never logits.

        Denominators of several batches add up; `lossc.Denominators` shows how they are used. Takes tensors as `forward` does.
        """
        given = {**by_name("batch", batch, BATCH, code="E708"), **tensors}
        variant = self._variant("counted", tuple(given))
        checked = self._check_inputs(variant, given)
        self._draw(variant, checked, None, training=self.training, counting=True)
        with torch.no_grad(), without_autocast(checked.like.device.type):
            outputs = variant.run(self._bound(variant, checked))
        found = {
            entry.name: tuple(
                value.double() if (value := outputs.get(f"{entry.name}.{at}.denominator")) is not None else None
                for at in range(len(entry.forms))
            )
            for entry in variant.entries
        }
        return Denominators(found)

    def _weigh(self, variant: Variant, denominators: Denominators | None, *, per_term: bool) -> Weigh | None:
        """The function that tells dL/d numerator before `backward` is called, so that gradients can be formed early."""
        if per_term or not torch.is_grad_enabled():
            return None
        return partial(weights, variant, denominators)

    def _in_place(self, given: Mapping[str, object]) -> tuple[str, ...]:
        """The names that a call is given, if a `let` is among them; they decide how much is left to compute."""
        return tuple(given) if any(name in self._lets for name in given) else ()

    def _variant(self, want: str, names: tuple[str, ...]) -> Variant:
        """What runs a call of the kind `want` (`full`, `values` or `counted`) that is given these names."""
        variant: Variant = getattr(self._variants, self._prepare(" ".join((want, *names))))
        return variant

    @constant_in_traces
    def _prepare(self, key: str) -> str:
        """Builds what runs a call, on first use, and returns the attribute that holds it.

        It may be built during a trace, which sees new attributes of a namespace but no new keys of a dictionary.
        """
        if key not in self._prepared:
            want, *names = key.split(" ")
            given = frozenset(names)
            if want == "counted":
                variant = counted(self._formed, given, self.backend)
            else:
                gathered = self._states.nodes if want.endswith("+") else None
                values = want.startswith("values")
                variant = full(self._formed, given, self.backend, values=values, gathered=gathered)
            name = f"variant{next(_NUMBERS)}"
            setattr(self._variants, name, variant)
            self._prepared[key] = name  # last: another thread may look it up at once
        return self._prepared[key]

    def _check_inputs(self, variant: Variant, given: Mapping[str, object]) -> CheckedInputs:
        checked = self._inputs.check(given, variant.required, native=variant.native, check_labels=self.check_labels)
        for axis, least, what in variant.minima:
            if checked.sizes.get(axis, least) < least:
                raise fail("E712", f"{what}, which has {checked.sizes[axis]} entries")
        for row, column in variant.squares:
            extents = checked.sizes.get(row), checked.sizes.get(column)
            if None not in extents and extents[0] != extents[1]:
                raise fail("E704", f"a square matrix has {extents[0]} entries along `{row}` and {extents[1]} along `{column}`")
        for (row, of_rows), (column, of_columns) in variant.diagonals:
            rows, columns = checked.extent(of_rows), checked.extent(of_columns)
            if rows is not None and columns is not None and rows > columns:
                message = f"a column of `{column}` is read for each row of `{row}`: {rows} rows, and {columns} columns"
                raise fail("E704", message, help=f"`fill(…[{column} = index[{row}]], 0)` says what counts where there is none")
        self._check_made(variant, checked.sizes)
        if self._labels and not torch.compiler.is_compiling():
            self._touch(checked)
        return checked

    @staticmethod
    def _check_made(variant: Variant, given: Mapping[str, int]) -> None:
        """E704 where an axis that is made in several places, or that a tensor has too, would have two extents."""
        sizes = dict(given)
        for made, of in variant.made:
            known = [each if isinstance(each, int) else sizes[each] for each in of if isinstance(each, int) or each in sizes]
            if len(known) == len(of) and sizes.setdefault(made, min(known)) != min(known):
                message = f"`{made}` has {sizes[made]} entries in one place, and {min(known)} in another where it is made"
                raise fail("E704", message, help="an axis has one extent in a file: give one of the two another name")

    def _touch(self, checked: CheckedInputs) -> None:
        """Restricts axes of training examples to the examples that the call touches, and renumbers its labels."""
        given = {name: tensor for name, tensor in checked.tensors.items() if isinstance(tensor, Tensor)}
        whole = {axis for name in given for axis in self._inputs.expected[name].order}
        labels = {axis: names for axis, names in self._labels.items() if axis not in whole}
        checked.rows = touched(labels, given, checked.sizes)
        for axis, entries in checked.rows.items():
            checked.sizes[axis] = len(entries)
            numbered = {name: renumbered(given[name], entries) for name in labels[axis] if name in given}
            checked.tensors = {**checked.tensors, **numbered}

    def _draw(
        self, variant: Variant, checked: CheckedInputs, given: Mapping[str, Tensor] | None, *, training: bool,
        counting: bool = False,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Draws the random tensors of a call, or takes those given, and adds them to its tensors."""
        wanted = {name: self._runs.draws[name] for name in variant.drawn}
        if not wanted:
            return {}
        checked.sizes = self._runs.extents(checked.sizes)
        for axis in (axis for each in wanted.values() for axis in each.order):
            self._extent(axis, checked)
        found: dict[str, Tensor]
        if given is None:
            found = self._draws.draw(
                wanted, checked.sizes, checked.like, self.step, training=training, counting=counting
            )  # fmt: skip
        else:
            found = replayed(given, wanted, checked.sizes, checked.like)
        checked.tensors = {**checked.tensors, **found}
        return found

    def _bound(self, variant: Variant, checked: CheckedInputs) -> list[Value | Linear]:
        """The values of the procedure's bound slots, in order."""
        values: list[Value | Linear] = []
        for kind, name, axes in variant.bound:
            if kind == "tensor":
                tensor = checked.tensors[name]
                if isinstance(tensor, Linear) and (not variant.heads or tensor.is_empty):
                    tensor = tensor.logits()
                values.append(tensor)
            elif kind == "param":
                values.append(self._parameter(name, axes, checked))
            elif kind == "size":
                values.append(self._extent(name, checked))
            elif kind == "function":
                values.append(checked.functions[name])
            elif kind == "leaves":
                values.append(checked.leaves[name])
            else:
                values.append(checked.like)
        return values

    def _parameter(self, name: str, axes: tuple[str, ...], checked: CheckedInputs) -> Tensor:
        value = rows_of(self._held(name), axes, checked.rows).to(device=checked.like.device, dtype=checked.like.dtype)
        extents = [self._extent(axis, checked) for axis in axes]
        if value.dim() and list(value.shape) != extents:
            message = f"the parameter `{name}` has {list(value.shape)} entries, and {', '.join(axes)} {extents}"
            infos: dict[str, ParamInfo | StateInfo] = {**self._program.params, **self._program.states}
            raise fail("E704", message, declared=infos[name].span if name in infos else None)
        return value.expand(extents)

    def _extent(self, axis: str, checked: CheckedInputs) -> int:
        if axis not in checked.sizes:
            names = self._inputs.having(axis)
            help_ = f"pass one of {', '.join(names)}" if names else f"pass `sizes={{{axis!r}: …}}` when loading"
            raise fail("E714", f"the extent of `{axis}` is not known from the tensors given", help=help_)
        return checked.sizes[axis]

    # -------------------------------------------------------------------------------------- saving and copying

    def get_extra_state(self) -> Tensor:
        """What `state_dict` holds besides tensors: the text, the parameters and the clock, as JSON in a tensor of bytes."""
        kept = {
            "text": self.text, "parameters": self._settings.chosen, "backend": self.backend, **self._record(),
        }  # fmt: skip
        return torch.frombuffer(bytearray(json.dumps(kept, ensure_ascii=True).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Restores it; E717 where it was saved by an objective with another text."""
        try:
            kept = json.loads(bytes(state.tolist()))
        except (AttributeError, RuntimeError, TypeError, ValueError):
            kept = None
        if not isinstance(kept, dict) or kept.get("text") != self.text:
            raise fail("E717", f"this state was saved by another objective than `{self.name}`")
        self._restore(kept["parameters"])
        self._follow_record(kept)

    def __getstate__(self) -> dict[str, Any]:
        derived = ("_program", "_lets", "_inputs", "_settings", "_variants", "_prepared", "_states", "_follows", "_runs",
                   "_formed", "_labels")  # fmt: skip
        state = {name: value for name, value in self.__dict__.items() if name not in derived}
        return {**state, "chosen": self._settings.chosen}

    def __setstate__(self, state: dict[str, Any]) -> None:
        chosen = state.pop("chosen")
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        from lossc.runtime.load import program_of_text

        self._build(program_of_text(self.text))
        self._restore(chosen)

    def __deepcopy__(self, memo: dict[int, Any]) -> Objective:
        copied = self.__class__.__new__(self.__class__)
        memo[id(self)] = copied
        state = copy.deepcopy(self.__getstate__(), memo)
        chosen = state.pop("chosen")
        nn.Module.__setstate__(copied, state)  # type: ignore[no-untyped-call]
        copied._build(self._program)
        copied._restore(chosen)
        return copied
