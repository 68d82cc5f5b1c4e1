"""What the works of the family `ce` claim that weight tokens or draw their loss."""

from __future__ import annotations

import torch
from tests.oracles.batches import uniform
from tests.zoo.harness import objective_of, oracles, run_spec


def test_without_a_power_prior_is_next_token_prediction() -> None:
    one = oracles()["zoo/ce/prior"]
    batch = one.batch(3, "plain")
    found = run_spec(objective_of(one.reference, alpha=0), batch).value
    nll = -batch["logits"].log_softmax(-1).gather(-1, batch["labels"].unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(found, ((nll * batch["mask"]).sum(-1) / batch["mask"].sum(-1)).mean())


def test_a_token_that_needs_no_image_is_left_out() -> None:
    one = oracles()["zoo/ce/prior"]
    batch = one.batch(3, "plain")
    batch["mask"] = torch.ones_like(batch["mask"])
    batch["ref_logp"][:, 1] = 0
    gradient = run_spec(objective_of(one.reference), batch).gradients["logits"]
    assert not gradient[:, 1].any()
    assert gradient[:, 0].any()


def test_every_loss_that_is_drawn_is_convex_and_calibrated() -> None:
    """Its slopes rise with the margin, and are negative, so that the slope at 0 is."""
    objective = objective_of("zoo/ce/ens_loss")
    f, y = 4 * uniform(40, seed=3), uniform(40, seed=4).sign()
    drawn = []
    for _ in range(3):
        slopes = 40 * run_spec(objective, {"f": f, "y": y}).gradients["f"] * y
        rising = slopes[(y * f).argsort()]
        assert (rising < 0).all()
        assert (rising.diff() >= 0).all()
        drawn.append(slopes)
        objective.advance()
    assert not torch.equal(drawn[0], drawn[1])


def test_without_guesses_and_foresight_it_is_fine_tuning() -> None:
    one = oracles()["zoo/ce/ift"]
    batch = one.batch(3, "plain")
    result = objective_of(one.reference, **{"lambda": 0, "gamma": 0})(**batch)
    torch.testing.assert_close(result.loss, result.monitors["sft"])


def test_a_loss_that_comes_later_makes_a_token_count_more() -> None:
    """Of equal losses the first of n has the weight n (1 + gamma + ...) / (sum of all), so weights fall to the end."""
    one = oracles()["zoo/ce/ift"]
    objective, batch = objective_of(one.reference, gamma=1), one.batch(3, "plain")
    with torch.no_grad():
        for weight in batch["net"].parameters():
            weight.zero_()
    result = objective(**batch)
    torch.testing.assert_close(result.loss, torch.tensor(7.0).double().log())


def test_the_gradient_is_that_of_a_policy_of_one_step() -> None:
    """Of E_{a ~ p}[r(a)] with the shaped rewards held constant; without the wrong tokens' and beta that of cross-entropy."""
    one = oracles()["zoo/ce/shaped_prediction"]
    batch = one.batch(3, "plain")
    for shape in ({"beta": -0.5, "k": 2, "lambda_top": 0.3, "lambda_tail": -0.4}, {"beta": 0, "lambda_tail": 0}):
        z = batch["logits"].clone().requires_grad_()
        p = z.softmax(-1)
        right = torch.nn.functional.one_hot(batch["labels"], 7).bool()
        place = torch.where(right, torch.inf, -p.detach()).argsort(-1).argsort(-1)
        wrong = torch.where(place < shape.get("k", 100), shape.get("lambda_top", 0), shape["lambda_tail"])
        reward = torch.where(right, (1 - p.detach()) ** shape["beta"] / p.detach(), wrong)
        gain = (p * reward).sum(-1)[batch["mask"]].mean()
        found = run_spec(objective_of(one.reference, **shape), batch).gradients["logits"]
        torch.testing.assert_close(found, -torch.autograd.grad(gain, z)[0])


def test_a_token_known_for_certain_stays_finite() -> None:
    one = oracles()["zoo/ce/shaped_prediction"]
    batch = one.batch(3, "plain")
    batch["logits"] = 1e4 * torch.nn.functional.one_hot(batch["labels"], 7).double()
    found = run_spec(objective_of(one.reference), batch)
    assert found.value.isfinite() and found.gradients["logits"].isfinite().all()


def test_minor_fine_tuning_begins_as_fine_tuning_and_lets_go() -> None:
    """At the reference it has the gradient of the mean log-probability; far from it the gradient fades."""
    one = oracles()["zoo/ce/minor_sft"]
    batch = one.batch(3, "plain")
    z = batch["logits"].clone().requires_grad_()
    logp = z.log_softmax(-1).gather(-1, batch["labels"].unsqueeze(-1)).squeeze(-1) * batch["mask"]
    plain = torch.autograd.grad(-(logp.sum(-1) / batch["mask"].sum(-1)).mean(), z)[0]
    batch["ref_logp"] = logp.sum(-1).detach()
    objective = objective_of(one.reference, beta=1)
    torch.testing.assert_close(run_spec(objective, batch).gradients["logits"], plain)
    far = run_spec(objective, batch | {"ref_logp": batch["ref_logp"] - 20}).gradients["logits"]
    assert far.abs().max() < 1e-7 < plain.abs().max()
