"""Constraints: the Lagrangian in the loss, and the ascent of multipliers, against loops by hand and against cooper."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cooper
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import lossc
from lossc import Constraint, LosscError, LosscWarning, Objective

F64 = torch.float64
SIZES = {"example": 9, "v": 5}

TEXT = """
use std.settings.classes
axis example
data id : label[b] in example
param bound : nonneg = 0.1
minimize
  loss : mean[b](nll)
subject to fit per b by id : nll <= bound
subject to flat  : 2 * mean[b](logsumexp[v](logits)) <= 3 + bound
subject to level per v : mean[b](logits) == 0.3
subject to sure  : mean[b](p_true) >= 0.9
"""


def batches(number: int, rows: int = 7) -> Iterator[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    for _ in range(number):
        logits = torch.randn(rows, 5, generator=generator, dtype=F64, requires_grad=True)
        labels = torch.randint(-1, 5, (rows,), generator=generator)
        yield {"logits": logits, "labels": labels, "id": torch.randint(-1, 9, (rows,), generator=generator)}


class ByHand:
    """The Lagrangian, and the same ascent, written out."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.fit = torch.zeros(9, dtype=F64)
        self.flat, self.sure = (torch.zeros((), dtype=F64) for _ in range(2))
        self.level = torch.zeros(5, dtype=F64)

    def violations(self, logits: Tensor, labels: Tensor, id: Tensor) -> dict[str, Tensor]:
        there = labels >= 0
        nll = functional.cross_entropy(logits[there], labels[there], reduction="none")
        return {
            "fit": nll[id[there] >= 0] - 0.1,
            "flat": 2 * logits.logsumexp(-1).mean() - 3.1,
            "level": logits.mean(0) - 0.3,
            "sure": 0.9 - (-nll).exp().mean(),
        }

    def loss(self, logits: Tensor, labels: Tensor, id: Tensor) -> Tensor:
        found, own = self.violations(logits, labels, id), id[(labels >= 0) & (id >= 0)]
        nll = functional.cross_entropy(logits, labels, ignore_index=-1)
        return nll + (self.fit[own] * found["fit"]).sum() + self.flat * found["flat"] + self.sure * found["sure"] + (
            self.level @ found["level"])  # fmt: skip

    def ascend(self, logits: Tensor, labels: Tensor, id: Tensor) -> None:
        found = {name: value.detach() for name, value in self.violations(logits, labels, id).items()}
        own = id[(labels >= 0) & (id >= 0)]
        self.fit = self.fit.index_add(0, own, self.rate * found["fit"]).relu()
        self.flat = (self.flat + self.rate * found["flat"]).relu()
        self.sure = (self.sure + self.rate * found["sure"]).relu()
        self.level = self.level + self.rate * found["level"]


def assert_multipliers(objective: Objective, other: object) -> None:
    for name, value in objective.multipliers.items():
        wanted = getattr(other, name) if isinstance(other, ByHand) else other.multipliers[name]  # type: ignore[attr-defined]
        torch.testing.assert_close(value, wanted, rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.parametrize("backend", ["reference", "torch", "c", "auto"])
def test_the_lagrangian_and_its_ascent(backend: str) -> None:
    objective, hand = lossc.loads(TEXT, backend=backend, sizes=SIZES, multiplier_lr=0.5), ByHand(0.5)
    for batch in batches(4):
        result, wanted = objective(**batch), hand.loss(**batch)
        torch.testing.assert_close(result.loss, wanted, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(sum(result.terms.values()), result.loss.detach())
        found, right = (torch.autograd.grad(value, batch["logits"])[0] for value in (result.loss, wanted))
        torch.testing.assert_close(found, right, rtol=1e-10, atol=1e-12)
        for name, value in hand.violations(**batch).items():
            if name != "fit":
                torch.testing.assert_close(result.constraints[name], value.detach(), rtol=1e-12, atol=1e-12)
        objective.advance()
        hand.ascend(**batch)
        assert_multipliers(objective, hand)
        torch.testing.assert_close(objective.violations["flat"], hand.violations(**batch)["flat"].detach())


def test_micro_batches_are_one_batch() -> None:
    whole, split = (lossc.loads(TEXT, sizes=SIZES, multiplier_lr=0.5) for _ in range(2))
    for batch in batches(3):
        pieces = [dict(zip(batch, rows, strict=True)) for rows in zip(*(t.split((3, 4)) for t in batch.values()), strict=True)]
        shared = sum(split.denominators(**piece) for piece in pieces)
        results = [split(**piece, denominators=shared) for piece in pieces]
        together = whole(**batch)
        torch.testing.assert_close(sum(result.loss for result in results), together.loss)
        for name in ("flat", "level", "sure"):
            torch.testing.assert_close(sum(result.constraints[name] for result in results), together.constraints[name])
        whole.advance()
        split.advance()
        assert_multipliers(split, whole)


AUGMENTED = """
axis b : batch
input x : real[b]
minimize
  f : mean[b](x)
subject to below : mean[b](x^2) <= 1
subject to equal : mean[b](x) == 0.5
"""


def test_the_augmented_lagrangian_is_that_of_cooper() -> None:
    how = {
        "below": Constraint("augmented", initial=0.7, penalty=2.0, growth=1.5),
        "equal": Constraint("augmented", multiplier_lr=0.25, initial=-0.2, penalty=3.0),
    }
    objective = lossc.loads(AUGMENTED, constraints=how)
    kinds = {"below": cooper.ConstraintType.INEQUALITY, "equal": cooper.ConstraintType.EQUALITY}
    theirs = {
        name: cooper.Constraint(
            kind, cooper.formulations.AugmentedLagrangian,
            cooper.multipliers.DenseMultiplier(init=torch.tensor([how[name].initial]), dtype=F64),
            cooper.penalty_coefficients.DensePenaltyCoefficient(torch.tensor(how[name].penalty, dtype=F64)),
        )
        for name, kind in kinds.items()
    }  # fmt: skip
    x = torch.tensor([0.4, -1.3, 2.0], dtype=F64, requires_grad=True)
    result = objective(x=x)
    violations = {"below": (x**2).mean() - 1, "equal": x.mean() - 0.5}
    wanted = x.mean()
    for name, constraint in theirs.items():
        state = cooper.ConstraintState(violation=violations[name])
        wanted = wanted + constraint.compute_contribution_to_lagrangian(state, "primal").lagrangian_contribution
    torch.testing.assert_close(result.loss, wanted)
    torch.testing.assert_close(*(torch.autograd.grad(value, x)[0] for value in (result.loss, wanted)))
    objective.advance()
    assert objective.multipliers["below"] == pytest.approx(0.7 + 2 * violations["below"].item())
    assert objective.multipliers["equal"] == pytest.approx(-0.2 + 0.25 * violations["equal"].item())
    assert (objective.penalties["below"], objective.penalties["equal"]) == (3, 3)


def test_an_augmented_constraint_over_several_calls_warns() -> None:
    objective = lossc.loads(AUGMENTED, formulation="augmented")
    parts = torch.tensor([0.4, -1.3, 2.0, 1.0], dtype=F64, requires_grad=True).split(2)
    shared = sum(objective.denominators(x=part) for part in parts)
    with pytest.warns(LosscWarning, match="below"):
        [objective(x=part, denominators=shared) for part in parts]
    objective.advance()
    whole = lossc.loads(AUGMENTED, formulation="augmented")
    whole(x=torch.cat(parts).detach().requires_grad_())
    whole.advance()
    assert_multipliers(objective, whole)


def test_a_constrained_minimum() -> None:
    """min (x - 2)^2 where x <= 1: at x = 1 the multiplier is 2."""
    text = "axis b : batch\ninput x : real[b]\nminimize\n  f : mean[b]((x - 2)^2)\nsubject to low : mean[b](x) <= 1\n"
    for formulation in ("lagrangian", "augmented"):
        objective = lossc.loads(text, formulation=formulation, multiplier_lr=0.2)
        x = torch.zeros(1, dtype=F64, requires_grad=True)
        for _ in range(300):
            (slope,) = torch.autograd.grad(objective(x=x).loss, x)
            with torch.no_grad():
                x -= 0.1 * slope
            objective.advance()
        torch.testing.assert_close(x.detach(), torch.ones(1, dtype=F64), atol=1e-4, rtol=0)
        torch.testing.assert_close(objective.multipliers["low"], torch.tensor(2.0, dtype=F64), atol=1e-3, rtol=0)


def _loaded(objective: Objective) -> Objective:
    fresh = lossc.loads(TEXT, sizes=SIZES, multiplier_lr=0.5)
    fresh.load_state_dict(objective.state_dict())
    return fresh


@pytest.mark.parametrize("kept", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o)), _loaded])
def test_multipliers_are_kept(kept: Any) -> None:
    objective = lossc.loads(TEXT, sizes=SIZES, multiplier_lr=0.5)
    first, second = batches(2)
    objective(**first)
    objective.advance()
    other = kept(objective)
    for one in (objective, other):
        one(**second)
        one.advance()
    assert_multipliers(other, objective)


def test_nothing_that_an_optimiser_could_descend() -> None:
    objective = lossc.loads(TEXT, sizes=SIZES)
    assert not list(objective.parameters())


def test_only_training_ascends_and_absent_violations_do_not() -> None:
    objective = lossc.loads(TEXT, sizes=SIZES, multiplier_lr=0.5)
    batch = next(batches(1))
    objective.eval()(**batch)
    objective.advance()
    assert all(value.abs().sum() == 0 for _, value in objective.multipliers.items())
    objective.train()(**{**batch, "labels": torch.full((7,), -1)})
    objective.advance()
    assert objective.multipliers["fit"].sum() == 0
    assert objective.multipliers["sure"] == 0
    assert objective.multipliers["level"].abs().sum() > 0


@pytest.mark.parametrize(
    "options",
    [{"constraints": {"fits": Constraint()}}, {"constraints": {"flat": Constraint(initial=-1.0)}}, {"formulation": "barrier"},
     {"multiplier_lr": -1.0}],
)  # fmt: skip
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises(LosscError, match="E733"):
        lossc.loads(TEXT, sizes=SIZES, **options)


def test_options_of_what_has_no_constraint() -> None:
    with pytest.raises(LosscError, match="E733"):
        lossc.loads("nll", setting="classes", multiplier_lr=0.1)
    with pytest.raises(LosscError, match="E733"):
        Constraint(penalty=0.0)


def test_it_shows_its_constraints() -> None:
    assert repr(lossc.loads(AUGMENTED)).endswith(": f subject to below, equal")


def test_multipliers_need_an_extent() -> None:
    with pytest.raises(LosscError, match="E714"):
        lossc.loads(TEXT, sizes={"v": 5})


def test_a_forgotten_advance_is_reported() -> None:
    objective = lossc.loads(AUGMENTED)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(120):
            objective(x=torch.ones(2, requires_grad=True))
    assert [str(each.message) for each in told if "multiplier of `below`" in str(each.message)]


ON_A_RANK = """
import sys, torch, lossc
rank, store, text = int(sys.argv[1]), sys.argv[2], sys.stdin.read()
torch.distributed.init_process_group("gloo", init_method="file://" + store + "/ranks", rank=rank, world_size=2)
objective = lossc.loads(text, sizes={"example": 9, "v": 5}, multiplier_lr=0.5, backend="reference")
generator = torch.Generator().manual_seed(3)
for step in range(3):
    logits = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(5, (7,), generator=generator)
    id = torch.randint(9, (7,), generator=generator)
    rows = slice(0, 3) if rank == 0 else slice(3, 7)
    if step < 2 or rank == 0:  # in the last step one rank has nothing
        objective(logits=logits[rows].requires_grad_(), labels=labels[rows], id=id[rows])
    objective.advance()
torch.save({**dict(objective.state.items()), **dict(objective.multipliers.items())}, f"{store}/{rank}.pt")
torch.distributed.destroy_process_group()
"""


def test_ranks_agree(tmp_path: Path) -> None:
    """Two ranks with parts of a batch, one of them with none at last, hold what one process would."""
    text = TEXT.replace("minimize", "state mean : real = 0 then (mean + mean[b](nll)) / 2\nminimize\n  m : mean", 1)
    commands = [[sys.executable, "-c", ON_A_RANK, str(rank), str(tmp_path)] for rank in range(2)]
    ranks = [subprocess.Popen(command, stdin=subprocess.PIPE, text=True) for command in commands]
    for rank in ranks:
        assert rank.stdin is not None
        rank.stdin.write(text)
        rank.stdin.close()
    objective = lossc.loads(text, sizes=SIZES, multiplier_lr=0.5)
    generator = torch.Generator().manual_seed(3)
    for step in range(3):
        logits = torch.randn(7, 5, generator=generator, dtype=F64)
        labels, id = (torch.randint(n, (7,), generator=generator) for n in (5, 9))
        rows = slice(0, 7 if step < 2 else 3)
        objective(logits=logits[rows].requires_grad_(), labels=labels[rows], id=id[rows])
        objective.advance()
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, value in {**dict(objective.state.items()), **dict(objective.multipliers.items())}.items():
            torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-12, msg=name)
