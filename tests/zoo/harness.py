"""The oracles of the zoo: for each work a batch and its closed form in plain torch, written from the paper's formula.

An oracle is declared in `tests/zoo/oracles/<family>.py`, or in `<family>_<more>.py` where the family has many:

    @oracle("dpo_shift", batch=of_setting("pairs"), params=[{}, {"f": 0.5}])
    def dpo_shift(tensors, beta=0.1, f=0.95):
        return ...

`batch(seed, variant)` gives every tensor by name for `variant` in VARIANTS: `plain`, `odd` (sizes of 1 and odd ones) and
`masked` (NaN and infinity behind masks, ignored labels). A name of a batch that is a learned parameter or a state of the
objective is its value; a `torch.nn.Module` is a model, and its parameters carry gradient. `params` are given to both
sides. Claims are plain test functions in `tests/zoo/test_<family>.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from tests.oracles.batches import SETTINGS
from tests.specs.variants import hidden, ignored
from torch import Tensor, nn

import lossc
from lossc import Objective
from lossc.compiler.zoo_pages import families

Tensors = dict[str, Any]
Batches = Callable[[int, str], Tensors]
ClosedForm = Callable[..., Tensor]

VARIANTS = ("plain", "odd", "masked")
FUSED_FAMILIES = ("ce", "distillation", "preference", "rlhf_policy")
ODD = {"b": 1, "t": 3, "pair": 1, "q": 1, "sample": 3, "k": 1, "d": 5, "v": 11}


@dataclass(frozen=True)
class Oracle:
    """A work of the zoo with its closed form. `steps` and `rate` are those of `test_it_trains`.

    `stays` is empty, or what the plan says of the vocabulary-sized value that cannot be fused away. `fuses` is false of a
    work without a vocabulary among its inputs.
    """

    reference: str
    batch: Batches
    closed_form: ClosedForm
    params: tuple[Mapping[str, Any], ...]
    variants: tuple[str, ...]
    prepare: Callable[[Objective, Tensors], None]
    load: Mapping[str, Any]
    steps: int
    rate: float
    tolerance: float
    stays: str
    fuses: bool

    @property
    def family(self) -> str:
        return self.reference.split("/")[1]


ORACLES: dict[str, Oracle] = {}


def family_of(module: str) -> str:
    """The family of a module of oracles: the longest whose name begins that of the module."""
    stem = module.rpartition(".")[2]
    return max((family for family in families() if f"{stem}_".startswith(f"{family}_")), key=len)


def _nothing(objective: Objective, tensors: Tensors) -> None:
    """The objective as it is loaded."""


def oracle(
    name: str,
    *,
    batch: Batches,
    params: Sequence[Mapping[str, Any]] = ({},),
    variants: Sequence[str] = VARIANTS,
    prepare: Callable[[Objective, Tensors], None] = _nothing,
    load: Mapping[str, Any] | None = None,
    steps: int = 20,
    rate: float = 0.05,
    tolerance: float = 1e-9,
    stays: str = "",
    fuses: bool = True,
) -> Callable[[ClosedForm], ClosedForm]:
    """Declares the closed form of a work: `closed_form(tensors, **params) -> loss`.

    `load` are further arguments of `lossc.load`; `prepare(objective, tensors)` brings the objective to where it is
    compared, for instance to a later step.
    """

    def declared(closed_form: ClosedForm) -> ClosedForm:
        reference = f"zoo/{family_of(closed_form.__module__)}/{name}"
        assert reference not in ORACLES, f"two oracles of {reference}"
        ORACLES[reference] = Oracle(
            reference, batch, closed_form, tuple(params), tuple(variants), prepare, load or {}, steps, rate, tolerance,
            stays, fuses,
        )  # fmt: skip
        return closed_form

    return declared


@cache
def oracles() -> dict[str, Oracle]:
    """Every oracle by the reference of its work."""
    for path in sorted((Path(__file__).parent / "oracles").glob("*.py")):
        if path.stem != "__init__":
            import_module(f"tests.zoo.oracles.{path.stem}")
    return ORACLES


def of_setting(
    setting: str, extra: Callable[[Tensors, int], Tensors] | None = None, **sizes: int
) -> Callable[[int, str], Tensors]:
    """Batches of a setting of the library, with the tensors that `extra(batch, seed)` adds before masks hide anything."""
    maker = SETTINGS[setting]
    known = maker.__code__.co_varnames[: maker.__code__.co_argcount]

    def batch(seed: int, variant: str) -> Tensors:
        extents = {axis: extent for axis, extent in ODD.items() if axis in known} if variant == "odd" else {}
        found: Tensors = dict(maker(seed, **{**extents, **sizes}))
        found |= extra(found, seed) if extra else {}
        return hidden(ignored(found)) if variant == "masked" else found

    return batch


def advanced(steps: int) -> Callable[[Objective, Tensors], None]:
    """Brings an objective to where so many steps of its run are done."""

    def prepare(objective: Objective, tensors: Tensors) -> None:
        for _ in range(steps):
            objective.advance()

    return prepare


def loaded(one: Oracle, params: Mapping[str, Any], backend: str = "reference") -> Objective:
    """The objective of a work, in double precision."""
    return lossc.load(one.reference, backend=backend, **one.load, **params).double()


_SHARED: dict[tuple[str, str, str], Objective] = {}


def shared(one: Oracle, params: Mapping[str, Any], backend: str = "reference") -> Objective:
    """The same, built once for all tests, where no call leaves a trace in it."""
    key = (one.reference, repr(sorted(params.items())), backend)
    if key in _SHARED:
        return _SHARED[key]
    objective = loaded(one, params, backend)
    program = objective.program
    traces = (
        program.states or program.constraints or any(f"{draw}(" in objective.text for draw in ("normal", "uniform"))
    )
    if one.prepare is _nothing and not traces:
        _SHARED[key] = objective
    return objective


@dataclass(frozen=True)
class Evaluation:
    """A loss and its gradient to every tensor that carries one, learned parameters and weights of models included."""

    value: Tensor
    gradients: dict[str, Tensor]


def evaluated(loss: Tensor, leaves: Mapping[str, Any]) -> Evaluation:
    """The gradients of a loss to what it was computed from."""
    wanted: dict[str, Tensor] = {}
    for name, leaf in leaves.items():
        if isinstance(leaf, nn.Module):
            wanted |= {f"{name}.{inner}": weight for inner, weight in leaf.named_parameters()}
        elif isinstance(leaf, Tensor) and leaf.requires_grad:
            wanted[name] = leaf
    found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    gradients = {
        name: torch.zeros_like(leaf) if gradient is None else gradient
        for (name, leaf), gradient in zip(wanted.items(), found, strict=True)
    }
    return Evaluation(loss.detach(), gradients)


def leaves_of(objective: Objective, tensors: Tensors) -> Tensors:
    """The tensors of a batch with gradient on the inputs and on the learned parameters."""
    program = objective.program
    carrying = {name for name, info in program.tensors.items() if info.role == "input"}
    carrying |= {name for name, info in program.params.items() if info.role == "learn"}
    return {
        name: value.detach().clone().requires_grad_(name in carrying and value.is_floating_point())
        if isinstance(value, Tensor)
        else value
        for name, value in tensors.items()
    }


def given(objective: Objective, leaves: Tensors) -> Tensors:
    """What a call is given of a batch, named quantities such as draws included: the rest are values of the objective."""
    known = objective.program.tensors.keys() | objective.program.lets.keys()
    return {name: value for name, value in leaves.items() if name in known}


def hold(objective: Objective, tensors: Tensors) -> None:
    """Puts the values of a batch that are not tensors of a call where the objective holds them."""
    with torch.no_grad():
        for name, held in (*objective.learn.items(), *objective.state.items(), *objective.multipliers.items()):
            if name in tensors:
                held.copy_(tensors[name])


def run_spec(objective: Objective, tensors: Tensors) -> Evaluation:
    """The objective on a batch, its learned parameters and states as the batch says."""
    hold(objective, tensors)
    leaves = leaves_of(objective, tensors)
    loss = objective(**given(objective, leaves)).loss
    learned = {name: objective.learn[name] for name in objective.learn}
    return evaluated(loss, {**leaves, **learned})


def run_closed_form(one: Oracle, objective: Objective, tensors: Tensors, params: Mapping[str, Any]) -> Evaluation:
    """The closed form on the same batch."""
    leaves = leaves_of(objective, tensors)
    for name, parameter in objective.learn.items():
        leaves.setdefault(name, parameter.detach().clone().requires_grad_())
    return evaluated(one.closed_form(leaves, **params), leaves)


def assert_same(found: Evaluation, expected: Evaluation, tolerance: float) -> None:
    """Equal values, and equal entries of every gradient relative to its largest one where that exceeds 1."""
    torch.testing.assert_close(found.value, expected.value.reshape(()), rtol=tolerance, atol=tolerance)
    assert found.gradients.keys() == expected.gradients.keys()
    for name, gradient in expected.gradients.items():
        assert bool(gradient.isfinite().all()), f"the gradient of the closed form to {name} is not finite"
        scale = max(1.0, float(gradient.abs().max()) if gradient.numel() else 1.0)
        torch.testing.assert_close(found.gradients[name], gradient, rtol=0, atol=tolerance * scale, msg=name)


def objective_of(reference: str, **params: Any) -> Objective:
    """A work of the zoo on the reference backend in double precision, for tests of its claims."""
    return loaded(oracles()[reference], params)


def losses_of_descent(one: Oracle, params: Mapping[str, Any]) -> list[float]:
    """The losses along some steps of Adam on the inputs, learned parameters and models of a fixed batch."""
    objective = loaded(one, params)
    tensors = one.batch(7, "plain")
    one.prepare(objective, tensors)
    hold(objective, tensors)
    leaves = leaves_of(objective, tensors)
    moved = [leaf for leaf in leaves.values() if isinstance(leaf, Tensor) and leaf.requires_grad]
    moved += [weight for leaf in leaves.values() if isinstance(leaf, nn.Module) for weight in leaf.parameters()]
    optimiser = torch.optim.Adam([*moved, *objective.learn.values()], lr=one.rate)
    losses = []
    for _ in range(one.steps + 1):
        optimiser.zero_grad()
        loss = objective(**given(objective, leaves)).loss
        loss.backward()
        optimiser.step()
        objective.advance()
        losses.append(float(loss.detach()))
    return losses
