"""What further works of the family `preference` claim, as identities, optima and limits of their specs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tests.oracles.batches import pairs, tokens
from tests.zoo.harness import Evaluation, Tensors, objective_of, oracles, run_spec
from torch import Tensor

import lossc
from lossc import Objective

log_sigmoid = torch.nn.functional.logsigmoid


def work(name: str, **params: Any) -> Objective:
    return objective_of(f"zoo/preference/{name}", **params)


def plain(name: str) -> Tensors:
    return oracles()[f"zoo/preference/{name}"].batch(4, "plain")


def at_prompt(text: str, batch: Tensors) -> Evaluation:
    """A loss of the library on a batch of pairs."""
    wanted = {name: x for name, x in batch.items() if name in ("logits", "labels", "mask", "ref_logp")}
    return run_spec(lossc.loads(text, setting="pairs", backend="reference").double(), wanted)


def slope(objective: Objective, batch: Tensors, name: str) -> Tensor:
    """The gradient to one tensor, or to a named quantity that is given in place of what it is made of."""
    leaf = batch[name].detach().clone().requires_grad_()
    (found,) = torch.autograd.grad(objective({**batch, name: leaf}).loss, leaf)
    return found


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("selm", {"alpha": 0}),
        ("vpo", {"alpha": 0}),
        ("hypo", {"lambda": 0}),
        ("rpo", {"eta": 0}),
        ("irpo", {"alpha": 0}),
        ("t_reg", {"alpha": 0}),
    ],
)
def test_without_its_second_part_it_is_dpo(name: str, params: dict[str, Any]) -> None:
    batch = plain(name)
    found, expected = run_spec(work(name, **params), batch), at_prompt("dpo(beta=0.1)", batch)
    torch.testing.assert_close(found.value, expected.value)
    torch.testing.assert_close(found.gradients["logits"], expected.gradients["logits"])


def test_vpo_is_optimistic_or_pessimistic_by_one_sign() -> None:
    batch = plain("vpo")
    online, offline = (work("vpo", mode=mode, alpha=0.4)(batch) for mode in ("online", "offline"))
    torch.testing.assert_close((online.loss + offline.loss) / 2, online.terms["dpo"])
    torch.testing.assert_close(offline.loss - online.loss, 2 * 0.4 * online.monitors["value"])


def test_the_best_margin_of_dno_is_the_gap_of_win_rates() -> None:
    batch = {**pairs(1, pair=1), "win": torch.tensor([[0.9, 0.2]]).double(), "ref_logp": torch.zeros(1, 2).double() - 5}
    objective = work("dno", beta=0.5)
    for shift in (-0.3, 0.0, 0.3):
        logp = torch.tensor([[(0.7 + shift) / 0.5, 0.0]]).double() - 5
        assert math.copysign(1, shift) * float(slope(objective, {**batch, "logp": logp}, "logp")[0, 0]) >= -1e-12


def test_contrastive_heads_are_conservative_dpo_on_rewards() -> None:
    batch = plain("dph")
    found = work("dph", form="contrastive", eps=0.2, prior=0)
    given = {**batch, "margin": batch["reward"][:, 0] - batch["reward"][:, 1]}
    expected = lossc.loads("cdpo(beta=1, eps=0.2)", setting="pairs", backend="reference").double()
    torch.testing.assert_close(found(batch).loss, expected({n: x for n, x in given.items() if n == "margin"}).loss)
    assert not bool(run_spec(found, batch).gradients["logits"].any())


def test_a_reward_model_without_text_is_bradley_terry() -> None:
    batch = plain("grm")
    found = run_spec(work("grm", a=0), batch)
    torch.testing.assert_close(found.value, -log_sigmoid(batch["reward"][:, 0] - batch["reward"][:, 1]).mean())
    assert not bool(found.gradients["logits"].any())


def test_the_divergence_bounds_what_bad_responses_alone_would_do() -> None:
    labels, mask = torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1, dtype=torch.bool)
    batch = {"labels": labels, "mask": mask, "good": torch.tensor([False]), "reference": torch.zeros(1, 1, 2).double()}
    logits = [torch.tensor([[[-c, 0.0]]]).double() for c in (0.5, 5.0, 50.0)]
    free, held = (
        [float(work("pmpo", alpha=0, beta=beta)({**batch, "logits": z}).loss) for z in logits] for beta in (0, 4)
    )
    assert free[0] > free[1] > free[2] < -49
    assert held[0] < held[1] < held[2]


def exact_dft(z: Tensor, own: Tensor, batch: Tensors, tau: float) -> Tensor:
    """-s + tau log mean_j exp(s'_j / tau) / P_0."""

    def logp(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        picked = scores.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        return (picked * mask).sum(-1)

    s = logp(z, batch["labels"], batch["mask"])
    d = logp(own, batch["drawn_labels"], batch["drawn_mask"]) / tau - batch["log_p0"]
    return (-s + tau * (d.logsumexp(-1) - math.log(d.shape[-1]))).mean()


def test_the_surrogate_of_dft_has_the_gradient_of_the_log_of_the_mean() -> None:
    batch = {name: x for name, x in plain("discriminative_ft").items() if name != "log_u"}
    objective = lossc.load("zoo/preference/discriminative_ft", gamma=1, tau=1.5, sizes={"example": 9}).double()
    z, own = (batch[name].clone().requires_grad_() for name in ("logits", "drawn_logits"))
    expected = torch.autograd.grad(exact_dft(z, own, batch, 1.5), (z, own))
    found = run_spec(objective, batch).gradients
    torch.testing.assert_close(found["logits"], expected[0])
    torch.testing.assert_close(found["drawn_logits"], expected[1])


def test_the_log_of_the_mean_of_dft_is_followed_for_each_example() -> None:
    batch = {**plain("discriminative_ft"), "id": torch.tensor([4, 0, 7])}
    objective = lossc.load("zoo/preference/discriminative_ft", sizes={"example": 9}).double()
    objective({name: x for name, x in batch.items() if name != "log_u"})
    objective.advance()
    log_u = objective.state["log_u"]
    assert torch.equal(log_u != 0, torch.isin(torch.arange(9), batch["id"]))


@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_asft_is_likelihood_and_unlikelihood(lam: float) -> None:
    """(1 + lambda) NLL - lambda log(1 - P_l); an answer of which the model is certain does no harm."""
    logp = torch.tensor([[-0.8, -1.1], [0.0, -3.0]]).double()
    batch = {**pairs(1, pair=2), "logp": logp, "length": torch.ones(2, 2).double()}
    objective = work("asft", **{"lambda": lam})
    found = slope(objective, batch, "logp")
    expected = torch.stack([torch.full((2,), -(1 + lam)).double(), lam / (torch.exp(-logp[:, 1]) - 1)], -1) / 2
    torch.testing.assert_close(found, expected)


def test_the_preference_of_exo_is_the_smoothed_label_at_its_minimum() -> None:
    batch = {**plain("preflexor"), "thinking": torch.zeros(3, 2, 5, dtype=torch.bool)}
    objective = work("preflexor", beta=1, eps=0.1)
    best = math.log(0.9 / 0.1)
    for gap, least in ((best, True), (best + 1, False), (0.0, False)):
        logp = torch.tensor([[gap, 0.0]] * 3).double()
        given = {name: x for name, x in batch.items() if name not in ("logits", "labels")}
        loss = float(objective({**given, "answer": logp}).loss)
        assert loss == pytest.approx(0, abs=1e-12) if least else loss > 0.01


def test_masks_of_one_and_zero_make_sparse_po_dpo() -> None:
    batch = plain("sparse_po")
    picked = batch["reference"].log_softmax(-1).gather(-1, batch["labels"].unsqueeze(-1)).squeeze(-1)
    ones = torch.ones(batch["mask"].shape).double()
    found = run_spec(work("sparse_po", beta=0.3), {**batch, "m_u": ones, "m_d": 0 * ones})
    expected = at_prompt("dpo(beta=0.3)", {**batch, "ref_logp": (picked * batch["mask"]).sum(-1)})
    torch.testing.assert_close(found.value, expected.value)
    torch.testing.assert_close(found.gradients["logits"], expected.gradients["logits"])


def test_figa_of_a_whole_response_is_fine_tuning() -> None:
    batch = plain("figa")
    batch["edited"] = torch.tensor([True, False]).reshape(1, 2, 1).expand(batch["edited"].shape)
    nll = torch.nn.functional.cross_entropy(batch["logits"][:, 0].flatten(0, 1), batch["labels"][:, 0].flatten())
    torch.testing.assert_close(work("figa")(batch).loss, nll)


def test_the_rewards_of_steps_sum_to_that_of_the_response() -> None:
    batch = plain("implicit_prm")
    whole = {**batch, "steps": torch.zeros_like(batch["steps"])}
    objective = work("implicit_prm", beta=0.4)
    picked = batch["logits"].log_softmax(-1).gather(-1, batch["labels"].unsqueeze(-1)).squeeze(-1)
    rewards = 0.4 * (picked - batch["ref_logp"]) * batch["mask"]
    torch.testing.assert_close(objective(whole).monitors["worst"], rewards.sum(-1).mean())
    steps = torch.stack([rewards[:, :2].sum(-1), rewards[:, 2:4].sum(-1), rewards[:, 4:].sum(-1)], -1)
    there = torch.stack([batch["mask"][:, i] for i in (0, 2, 4)], -1)
    worst = torch.where(there, steps, torch.inf).min(-1).values
    torch.testing.assert_close(objective(batch).monitors["worst"], worst.mean())


def test_even_rewards_make_guidance_the_likelihood_of_a_token() -> None:
    batch = plain("token_guidance")
    even = {**batch, "reward": torch.full(batch["reward"].shape, 0.3).double()}
    alone = tokens(4)
    expected = lossc.loads(
        "use std.settings.tokens\nminimize\n  nll : mean[b](mean[t where mask](nll))\n", backend="reference"
    ).double()
    torch.testing.assert_close(work("token_guidance")(even).terms["likelihood"], expected(alone).loss)


def test_two_sequences_in_their_order_are_bradley_terry() -> None:
    r = torch.tensor([[[0.4, 0.8], [1.0, 0.1]]]).double()
    batch = {
        "r": r,
        "mask": torch.tensor([[[True, True], [True, False]]]),
        "quality": torch.tensor([[2.0, 5.0]]).double(),
    }
    s = torch.tensor([0.6, 1.0]).double() * 1.5
    torch.testing.assert_close(work("token_reward")(batch).loss, -log_sigmoid(s[1] - s[0]))


def test_images_that_cannot_be_compared_move_nothing() -> None:
    reward = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]]).double()
    batch = {"logp": torch.zeros(2, 2, 3).double() + 0.05, "ref_logp": torch.zeros(2, 2, 3).double(), "reward": reward}
    found = run_spec(work("d3po"), batch)
    torch.testing.assert_close(found.value, torch.tensor(2.0).double().log())
    assert not bool(found.gradients["logp"].any())


def test_a_step_within_the_bounds_is_dpo() -> None:
    logp = torch.tensor([[[0.03], [-0.04]]]).double()
    batch = {"logp": logp, "ref_logp": 0 * logp, "reward": torch.tensor([[[0.2], [0.9]]]).double()}
    torch.testing.assert_close(work("d3po", beta=2)(batch).loss, -log_sigmoid(2 * torch.tensor(-0.07).double()))


def test_a_tie_is_best_at_equal_scores() -> None:
    quality = torch.ones(1, 2).double()
    at = [
        float(work("soli_reward")({"r": torch.tensor([[x, 0.0]]).double(), "quality": quality}).loss)
        for x in (-1.0, 0.0, 1.0)
    ]
    assert at[1] == pytest.approx(2 * math.log(2))
    assert at[1] < min(at[0], at[2])


def test_one_step_against_a_reference_makes_cpl_dpo() -> None:
    batch = pairs(4)
    log_ratio = torch.tensor([[0.5, -0.2], [-1.0, 0.3], [0.1, 0.1]]).double()
    found = work("cpl", alpha=0.1, **{"lambda": 1})
    loss = found({"logp": log_ratio.unsqueeze(-1), "mask": torch.ones(3, 2, 1, dtype=torch.bool)}).loss
    given = {**batch, "logp": batch["ref_logp"] + log_ratio}
    expected = lossc.loads("dpo(beta=0.1)", setting="pairs", backend="reference").double()
    torch.testing.assert_close(loss, expected({name: given[name] for name in ("logp", "ref_logp")}).loss)


def test_the_surrogate_of_hypo_has_the_gradient_of_the_divergence() -> None:
    """Four responses of one token, as often as the policy draws them."""
    z = torch.tensor([0.5, 0.25, 0.25]).double().log().requires_grad_()
    ref = torch.tensor([0.2, 0.5, 0.3]).double().log()
    labels = torch.tensor([0, 0, 1, 2])
    own = {
        "own.logits": z.expand(4, 1, 3), "own.labels": labels.unsqueeze(-1),
        "own.mask": torch.ones(4, 1, dtype=torch.bool), "own.ref_logp": ref[labels],
    }  # fmt: skip
    batch = pairs(4, v=3)
    result = work("hypo", **{"lambda": 1})({**batch, **own})
    (found,) = torch.autograd.grad(result.loss, z)
    (expected,) = torch.autograd.grad((z.softmax(-1) * (z.log_softmax(-1) - ref)).sum(), z)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(result.monitors["drift"], (z.softmax(-1) * (z.log_softmax(-1) - ref)).sum().detach())
