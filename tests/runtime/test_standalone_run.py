"""Standalone modules of what follows the run: step by step they give what the objective gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import lossc
from lossc import Constraint, LosscError, Objective
from lossc.runtime.standalone import standalone
from lossc.runtime.standalone_c import standalone_c

from .modules import as_module

F64 = torch.float64

TEXT = """
use std.settings.classes
axis example
axis k = {one, two}
data id : label[b] in example
param top : positive = 2
learn scale : real = 1
state losses : real[example] = 1 then 0.9 * losses + 0.1 * mean[b by id](nll)
state centre : real[v] = 0 then (centre + mean[b](softmax[v](logits))) / 2
state walk   : real[k] = index[k] then walk + normal(k)
state steps  : int = 0 then steps + 1
minimize
  warm  : ramp(0 -> top, over = 3) * scale * mean[b](nll * losses[example = id])
  late  : (1 - progress) * mean[b](sum[v](centre * log_softmax[v](logits)))
  noisy : mean[b](nll * uniform(b)) + sum[k](walk) * steps
  pairs : mean[b](mean[j](abs(nll[b -> j] + normal(b, j))))
subject to flat  : mean[b](logsumexp[v](logits)) <= 1
subject to level per v : mean[b](logits) == 0.1
subject to fit per b by id : nll <= 0.5
"""

HOW = {"flat": Constraint("augmented", penalty=2, growth=1.5), "level": Constraint("augmented", multiplier_lr=0.3)}


def loaded() -> Objective:
    return lossc.loads(TEXT, sizes={"example": 400, "v": 5}, total_steps=6, seed=3, constraints=HOW, multiplier_lr=0.2)


def batches(number: int) -> Iterator[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    for _ in range(number):
        logits = torch.randn(7, 5, generator=generator, dtype=F64, requires_grad=True)
        labels = torch.randint(-1, 5, (7,), generator=generator)
        yield {"logits": logits, "labels": labels, "id": torch.randint(-1, 400, (7,), generator=generator)}


def test_a_module_moves_on_as_the_objective_does(tmp_path: Path) -> None:
    objective = loaded()
    module = as_module(objective, tmp_path).Objective(total_steps=6, seed=3)
    for at, batch in enumerate(batches(4)):
        for rows in (slice(0, 3), slice(3, 7)) if at == 2 else (slice(0, 7),):
            piece = {name: tensor[rows] for name, tensor in batch.items()}
            found, wanted = module(**piece).loss, objective(**piece).loss
            torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
            gradients = [torch.autograd.grad(loss, batch["logits"])[0] for loss in (found, wanted)]
            torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)
        objective.advance()
        module.advance()
    held = {**dict(objective.state.items())}
    held |= {f"multiplier of {name}": tensor for name, tensor in objective.multipliers.items()}
    held |= {f"penalty of {name}": tensor for name, tensor in objective.penalties.items()}
    for name, tensor in held.items():
        torch.testing.assert_close(module.held(name), tensor, rtol=1e-10, atol=1e-12, msg=name)
    assert module.step == 4
    fresh = as_module(objective, tmp_path).Objective(total_steps=6, seed=3)
    fresh.load_state_dict(module.state_dict())
    batch = next(batches(1))
    torch.testing.assert_close(fresh(**batch).loss, module(**batch).loss)


def test_a_module_goes_on_from_where_the_objective_is(tmp_path: Path) -> None:
    objective = loaded()
    for batch in batches(2):
        objective(**batch)
        objective.advance()
    module = as_module(objective, tmp_path).Objective(total_steps=6, seed=3)
    assert torch.equal(module.held("losses"), objective.state["losses"])
    assert torch.equal(module.held("multiplier of fit"), objective.multipliers["fit"])


def test_evaluation_draws_the_same(tmp_path: Path) -> None:
    objective = loaded()
    module = as_module(objective, tmp_path).Objective(total_steps=6, seed=3)
    batch = next(batches(1))
    for one in (objective, module):
        one.eval()
    torch.testing.assert_close(module(**batch).loss, objective(**batch).loss)


def test_what_does_not_follow_has_nothing_of_it() -> None:
    text = standalone(lossc.loads("nll", setting="classes"))
    assert "advance" not in text and "hashlib" not in text


@pytest.mark.parametrize(
    "text",
    ["state m : real = 0 then (m + mean[b](nll)) / 2\nminimize\n  f : mean[b](nll) + m\n",
     "minimize\n  f : mean[b](nll)\nsubject to c : mean[b](nll) <= 1\n", "minimize\n  f : mean[b](nll * normal(b))\n"],
)  # fmt: skip
def test_kernels_are_not_written_of_it(text: str) -> None:
    with pytest.raises(LosscError, match="E735"):
        standalone_c(lossc.loads("use std.settings.classes\n" + text, backend="c"))
