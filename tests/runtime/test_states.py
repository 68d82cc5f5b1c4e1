"""States: read, then renewed once a step, against loops in plain torch; in one call, in micro-batches, saved and restored."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import lossc
from lossc import LosscError, LosscWarning, Objective

F64 = torch.float64
SIZES = {"example": 9, "v": 5}
BACKENDS = ("reference", "torch", "c", "auto")

TEXT = """
use std.settings.classes
axis example
data id : label[b] in example
state average  : real          = 0  then 0.9 * average + 0.1 * mean[b](nll)
state quantile : real          = 1  then quantile + 0.05 * (0.9 - mean[b](nll < quantile))
state losses   : real[example] = 0  then 0.9 * losses + 0.1 * mean[b by id](nll)
state logs     : real[example] = -5 then logaddexp(log(0.9) + logs, log(0.1) + log(mean[b by id](nll)))
state centre   : real[v]       = 0  then (centre + mean[b](softmax[v](logits))) / 2
state largest  : real          = 0  then max(largest, max[b](nll))
state steps    : int           = 0  then steps + 1
minimize
  above    : mean[b](relu(nll - quantile) + (nll - average)^2)
  weighted : mean[b](nll, weight = 1 + losses[example = id])
  centred  : mean[b](sum[v](centre * log_softmax[v](logits)))
  log_sum  : mean[b](nll * exp(logs[example = id]))
monitor
  peak : largest + steps
"""


def batches(number: int, rows: int = 7) -> Iterator[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    for _ in range(number):
        logits = torch.randn(rows, 5, generator=generator, dtype=F64, requires_grad=True)
        labels = torch.randint(-1, 5, (rows,), generator=generator)
        yield {"logits": logits, "labels": labels, "id": torch.randint(9, (rows,), generator=generator)}


class ByHand:
    """The same states and losses in a plain loop."""

    def __init__(self) -> None:
        self.average, self.quantile, self.largest, self.steps = 0.0, 1.0, 0.0, 0
        self.losses, self.logs = torch.zeros(9, dtype=F64), torch.full((9,), -5.0, dtype=F64)
        self.centre = torch.zeros(5, dtype=F64)

    def loss(self, logits: Tensor, labels: Tensor, id: Tensor) -> Tensor:
        there = labels >= 0
        nll = functional.cross_entropy(logits[there], labels[there], reduction="none")
        weight = 1 + self.losses[id[there]]
        return (
            (torch.relu(nll - self.quantile) + (nll - self.average) ** 2).mean()
            + (weight * nll).sum() / weight.sum()
            + (logits.log_softmax(-1) @ self.centre).mean()
            + (nll * self.logs[id[there]].exp()).mean()
        )

    def renew(self, logits: Tensor, labels: Tensor, id: Tensor) -> None:
        there = labels >= 0
        nll = functional.cross_entropy(logits[there], labels[there], reduction="none").detach()
        self.average = 0.9 * self.average + 0.1 * nll.mean().item()
        self.quantile += 0.05 * (0.9 - (nll < self.quantile).double().mean().item())
        for one in set(id[there].tolist()):
            own = nll[id[there] == one].mean()
            self.losses[one] = 0.9 * self.losses[one] + 0.1 * own
            self.logs[one] = torch.log(0.9 * self.logs[one].exp() + 0.1 * own)
        self.centre = (self.centre + logits.softmax(-1).mean(0).detach()) / 2
        self.largest = max(self.largest, nll.max().item())
        self.steps += 1


def assert_states(objective: Objective, other: object) -> None:
    for name, value in objective.state.items():
        wanted = getattr(other, name) if isinstance(other, ByHand) else other.state[name]  # type: ignore[attr-defined]
        torch.testing.assert_close(value, torch.as_tensor(wanted, dtype=F64), rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.parametrize("backend", BACKENDS)
def test_states_follow_a_loop_by_hand(backend: str) -> None:
    objective, hand = lossc.loads(TEXT, backend=backend, sizes=SIZES), ByHand()
    for batch in batches(5):
        result, wanted = objective(**batch), hand.loss(**batch)
        torch.testing.assert_close(result.loss, wanted, rtol=1e-12, atol=1e-12)
        found, right = (torch.autograd.grad(value, batch["logits"])[0] for value in (result.loss, wanted))
        torch.testing.assert_close(found, right, rtol=1e-10, atol=1e-12)
        hand.renew(**batch)
        objective.advance()
        assert_states(objective, hand)


@pytest.mark.parametrize("parts", [(3, 4), (1, 0, 6), (7,)])
def test_micro_batches_are_one_batch(parts: tuple[int, ...]) -> None:
    whole, split = (lossc.loads(TEXT, sizes=SIZES) for _ in range(2))
    for batch in batches(3):
        whole(**batch)
        pieces = [dict(zip(batch, rows, strict=True)) for rows in zip(*(t.split(parts) for t in batch.values()), strict=True)]
        for piece in pieces:
            split(**piece)
        whole.advance()
        split.advance()
        assert_states(split, whole)


def test_only_training_renews() -> None:
    objective = lossc.loads(TEXT, sizes=SIZES)
    batch = next(batches(1))
    with torch.no_grad():
        objective(**batch)
    objective.eval()(**batch)
    objective.advance()
    assert objective.state["average"] == 0 and objective.state["losses"].abs().sum() == 0
    assert objective.state["steps"] == 1, "what reads nothing of a call is renewed in any case"


def test_what_is_absent_keeps_its_value() -> None:
    objective = lossc.loads(TEXT, sizes=SIZES)
    batch = next(batches(1))
    objective(**batch)
    objective.advance()
    before = {name: value.clone() for name, value in objective.state.items()}
    objective(**{**batch, "labels": torch.full((7,), -1)})
    objective.advance()
    for name in ("average", "losses", "logs", "largest"):
        assert torch.equal(objective.state[name], before[name]), name
    assert not torch.equal(objective.state["centre"], before["centre"])


def _loaded(objective: Objective) -> Objective:
    fresh = lossc.loads(TEXT, sizes=SIZES)
    fresh.load_state_dict(objective.state_dict())
    return fresh


@pytest.mark.parametrize("kept", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o)), _loaded])
def test_states_are_kept(kept: Any) -> None:
    objective = lossc.loads(TEXT, sizes=SIZES)
    first, second, third = batches(3)
    objective(**first)
    objective.advance()
    other = kept(objective)
    for one in (objective, other):
        one(**second)
        one.advance()
    assert_states(other, objective)
    assert other.step == 2
    other(**third)
    other.advance()
    assert objective.state["steps"] == 2, "the copy has states of its own"


def test_a_copy_in_the_middle_of_a_step() -> None:
    objective = lossc.loads(TEXT, sizes=SIZES)
    for batch in batches(2):
        objective(**batch)
    other = copy.deepcopy(objective)
    objective.advance()
    other.advance()
    assert_states(other, objective)


def test_states_stay_in_double_precision() -> None:
    objective = lossc.loads(TEXT, sizes=SIZES).to(torch.float16)
    assert all(value.dtype == F64 for _, value in objective.state.items())


COUPLED = """
axis b : batch
input x : real[b]
state middle : real = 0 then median[b](x)
minimize
  f : mean[b](abs(x - middle))
"""


def test_what_is_no_sum_is_averaged_with_a_warning() -> None:
    objective = lossc.loads(COUPLED)
    x = torch.tensor([1.0, 2.0, 9.0, 4.0, 5.0], dtype=F64, requires_grad=True)
    objective(x=x[:3])
    with pytest.warns(LosscWarning, match="renewal"):
        objective(x=x[3:])
    objective.advance()
    assert objective.state["middle"] == (2 + 4.5) / 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        objective(x=x)
    objective.advance()
    assert objective.state["middle"] == 4


def test_a_forgotten_advance_is_reported_once() -> None:
    objective = lossc.loads(COUPLED)
    x = torch.ones(3, dtype=F64, requires_grad=True)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(250):
            objective(x=x)
    assert len([each for each in told if "advance" in str(each.message)]) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(250):
            objective(x=x)
            objective.advance()


def test_compiled_calls_renew_too() -> None:
    torch._dynamo.reset()
    text = "axis b : batch\ninput x : real[b]\nstate m : real = 0 then (m + mean[b](x)) / 2\n"
    text += "minimize\n  f : mean[b]((x - m)^2)\n"
    objective, plain = (lossc.loads(text, backend="reference") for _ in range(2))
    compiled = torch.compile(objective, backend="eager", fullgraph=True)
    for number in range(3):
        x = torch.full((4,), number, dtype=F64, requires_grad=True)
        torch.testing.assert_close(compiled(x=x).loss, plain(x=x).loss)
        objective.advance()
        plain.advance()
    assert_states(objective, plain)


def test_axes_of_states_need_an_extent() -> None:
    with pytest.raises(LosscError, match="E714"):
        lossc.loads(TEXT)


def test_initial_values_over_parameters_and_positions() -> None:
    objective = lossc.loads("""
axis b : batch
axis k
input x : real[b, k]
param scale : positive = 2
state place : real[k] = scale * index[k] + 1 then place
minimize
  f : mean[b](sum[k](x * place))
""", sizes={"k": 3}, scale=3)  # fmt: skip
    assert objective.state["place"].tolist() == [1, 4, 7]


def test_lets_in_place_reach_the_renewal() -> None:
    objective = lossc.loads("""
use std.settings.classes
state average : real = 0 then (average + mean[b](nll)) / 2
minimize
  f : mean[b](nll) - average
""")
    objective(nll=torch.tensor([1.0, 3.0], requires_grad=True))
    objective.advance()
    assert objective.state["average"] == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_states_over_several_axes(backend: str) -> None:
    """Dimensions in another order than that of the names of their axes."""
    objective = lossc.loads("""
axis b : batch
axis k
axis v
input z : logits[b, v, k]
input q : logits[b, v]
data  w : real[v, k, b]
data  y : label[b] in v
state c : real[v, k] = 0 then (c + mean[b](softmax[k](z)) + mean[b](w)) / 2
minimize
  f : mean[b](-log_softmax[v](q)[v = y]) + mean[b](sum[k, v](c * w))
""", backend=backend, sizes={"k": 3, "v": 4})  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    z, w = (torch.randn(shape, generator=generator, dtype=F64) for shape in ((5, 4, 3), (4, 3, 5)))
    y = torch.randint(4, (5,), generator=generator)
    objective(z=z.requires_grad_(), q=z[:, :, 0], w=w, y=y)
    objective.advance()
    torch.testing.assert_close(objective.state["c"], (z.softmax(-1).mean(0) + w.mean(-1)).detach() / 2)


EXAMPLES = """
use std.settings.classes
axis example
data id : label[b] in example
state losses : real[example] = 0  then 0.9 * losses + 0.1 * mean[b by id](nll)
state worst  : real[example] = -9 then max(worst, logsumexp[b by id](nll))
minimize
  f : mean[b](nll * (1 + losses[example = id]))
subject to fit per b by id : nll <= 0.5
monitor
  w : max[b](worst[example = id])
"""


def test_only_examples_of_the_step_are_touched() -> None:
    """Numbers as over a small axis, where all of it is worked out; and of other entries nothing is written."""
    many, few = (lossc.loads(EXAMPLES, sizes={"example": extent}, multiplier_lr=0.1) for extent in (5000, 9))
    for batch in batches(4):
        for rows in zip(*(tensor.split((3, 4)) for tensor in batch.values()), strict=True):
            piece = dict(zip(batch, rows, strict=True))
            one, other = (
                each(**{**piece, "id": torch.where(piece["id"] == 3, -1, piece["id"] * scale)})
                for each, scale in ((many, 500), (few, 1))
            )
            torch.testing.assert_close(one.loss, other.loss)
            torch.testing.assert_close(one.monitors["w"], other.monitors["w"])
        many.advance()
        few.advance()
        for held, whole in ((many.state["losses"], few.state["losses"]), (many.state["worst"], few.state["worst"]),
                            (many.multipliers["fit"], few.multipliers["fit"])):  # fmt: skip
            torch.testing.assert_close(held[:4001:500], whole)
            assert (held != held[1]).sum() <= 9
        torch.testing.assert_close(many.violations["fit"], few.violations["fit"])
    assert (many.multipliers["fit"] > 0).sum() >= 5


@pytest.mark.parametrize(
    ("state", "term", "added", "factor"),
    [("fill(mean[b by id](nll), 0)", "nll * losses[example = id]", 0, 1),
     ("mean[b by id](nll)", "nll * losses[example = id] / max[example](losses + 1)", 0, 0.5),
     ("mean[b by id](nll)", "nll * losses[example = id] + size[example] / 1000", 0.6, 1),
     ("mean[b by id](nll) + index[example]", "nll * losses[example = id]", 0, 1)],
)  # fmt: skip
def test_what_reads_all_examples_has_them_all(state: str, term: str, added: float, factor: float) -> None:
    text = "use std.settings.classes\naxis example\ndata id : label[b] in example\n"
    text += f"state losses : real[example] = 1 then 0.5 * losses + {state}\nminimize\n  f : mean[b]({term})\n"
    objective = lossc.loads(text, sizes={"example": 600})
    batch = next(batches(1))
    there, own = batch["labels"] >= 0, batch["id"][batch["labels"] >= 0]
    nll = functional.cross_entropy(batch["logits"][there], batch["labels"][there], reduction="none")
    torch.testing.assert_close(objective(**batch).loss, (factor * nll + added).mean())
    objective.advance()
    total, number = (torch.zeros(600, dtype=F64).index_add(0, own, x.detach()) for x in (nll, torch.ones_like(nll)))
    mean = total / number.clamp(min=1) + (torch.arange(600) if "index" in state else 0)
    expected = torch.where((number > 0) | torch.tensor("fill" in state), 0.5 + mean, 1.0)
    torch.testing.assert_close(objective.state["losses"], expected)
