"""What the works of the family `rlhf_policy` claim."""

from __future__ import annotations

import pytest
import torch
from tests.oracles.batches import rollouts
from tests.zoo.harness import Tensors, objective_of, oracles, run_spec
from tests.zoo.oracles.rlhf_policy import binary_reward, offline, stream, two_streams

import lossc


def full(batch: Tensors) -> Tensors:
    """Every token of every sample counts."""
    return {**batch, "mask": torch.ones_like(batch["mask"])}


def sequence_logp(batch: Tensors) -> torch.Tensor:
    logp = batch["logits"].log_softmax(-1).gather(-1, batch["labels"].unsqueeze(-1)).squeeze(-1)
    return (logp * batch["mask"]).sum(-1)


def test_disco_weighs_every_question_alike_where_grpo_does_not() -> None:
    """Of binary rewards GRPO's advantages make sqrt(p (1 - p)) (mean right - mean wrong), DisCO-b the difference itself."""
    for right in (1, 2, 3):
        reward = (torch.arange(4) < right).double()
        p = right / 4
        advantage = (reward - reward.mean()) / reward.std(correction=0)
        s = torch.tensor([0.3, -1.0, 0.7, 0.2], dtype=torch.float64)
        difference = s[reward == 1].mean() - s[reward == 0].mean()
        torch.testing.assert_close((advantage * s).mean(), (p * (1 - p)) ** 0.5 * difference)
        batch = full(rollouts(3, q=1, sample=4)) | {"reward": reward.unsqueeze(0)}
        found = run_spec(objective_of("zoo/rlhf_policy/disco", tau=1e9, beta=0), batch)
        scores = sequence_logp(batch)[0] / 4
        torch.testing.assert_close(-found.value, scores[reward == 1].mean() - scores[reward == 0].mean(), rtol=1e-5, atol=1e-5)


def test_a_question_without_a_wrong_answer_teaches_nothing() -> None:
    batch = rollouts(3, q=3, sample=4)
    batch |= binary_reward(batch, 3)
    gradient = run_spec(objective_of("zoo/rlhf_policy/disco", beta=0), batch).gradients["logits"]
    assert gradient[:2].any()
    assert not gradient[2].any()


def test_inside_the_trust_region_nothing_is_paid() -> None:
    batch = rollouts(3, q=2, sample=4)
    batch |= binary_reward(batch, 3)
    inside, free = (run_spec(objective_of("zoo/rlhf_policy/disco", delta=10, beta=b), batch) for b in (1000, 0))
    torch.testing.assert_close(inside.value, free.value)


def test_contrastive_policy_gradient_with_rewards_half_apart_is_ipo() -> None:
    beta = 0.3
    batch = full(rollouts(3, q=3, sample=2)) | {"reward": torch.tensor([[0.5, 0.0]] * 3, dtype=torch.float64)}
    ratio = sequence_logp(batch) - batch["ref_logp"].sum(-1)
    ipo = ((ratio[:, 0] - ratio[:, 1] - 1 / (2 * beta)) ** 2).mean()
    found = run_spec(objective_of("zoo/rlhf_policy/copg", beta=beta), batch).value
    torch.testing.assert_close(found, beta / 2 * ipo)


def test_contrastive_policy_gradient_has_a_leave_one_out_baseline() -> None:
    """Its gradient is -sum_i (R_i - mean of the others) grad log pi_i for the regularised rewards."""
    batch, beta = full(rollouts(3, q=1, sample=4)), 0.3
    logits = batch["logits"].clone().requires_grad_()
    logp = sequence_logp({**batch, "logits": logits})[0]
    regularised = (batch["reward"][0] - beta * (logp - batch["ref_logp"][0].sum(-1))).detach()
    others = (regularised.sum() - regularised) / 3
    expected = torch.autograd.grad(-((regularised - others) * logp).sum(), logits)[0]
    torch.testing.assert_close(run_spec(objective_of("zoo/rlhf_policy/copg", beta=beta), batch).gradients["logits"], expected)


def test_advantage_one_without_reference_is_likelihood() -> None:
    batch = offline(3, "plain") | {"reward": torch.ones(4).double(), "value": torch.zeros(4).double()}
    found = run_spec(objective_of("zoo/rlhf_policy/a_lol", eps=0), batch)
    torch.testing.assert_close(found.value, -sequence_logp(batch).mean())


def test_negative_advantages_are_left_out() -> None:
    batch = offline(3, "plain")
    batch["reward"][0] = batch["value"][0] - 1
    gradient = run_spec(objective_of("zoo/rlhf_policy/a_lol"), batch).gradients["logits"]
    assert not gradient[0].any()
    assert gradient[1:].any()


def test_forward_kl_rehearsal_has_the_gradient_of_fine_tuning() -> None:
    batch = two_streams(3, "plain")
    found = run_spec(objective_of("zoo/rlhf_policy/dph_rl", eta=1), batch).gradients["pef.logits"]
    stored = stream(batch, "pef")
    sft = run_spec(lossc.loads("mean[b, t where mask](nll)", setting="tokens").double(), stored).gradients["logits"]
    torch.testing.assert_close(found, sft)


@pytest.mark.parametrize("f", ["forward_kl", "js"])
def test_no_divergence_where_nothing_moved(f: str) -> None:
    """Where pi = pi_ref the generator is 0, so its weight does not matter."""
    batch = two_streams(3, "plain")
    stored = stream(batch, "pef")
    batch["ref_logp"] = stored["logits"].log_softmax(-1).gather(-1, stored["labels"].unsqueeze(-1)).squeeze(-1)
    one, other = (run_spec(objective_of("zoo/rlhf_policy/dph_rl", f=f, eta=eta), batch).value for eta in (0, 1))
    torch.testing.assert_close(one, other)


def test_the_penalty_on_entropy_has_no_gradient() -> None:
    """As in the released code: the smoothing term moves nothing, whatever it weighs."""
    one = oracles()["zoo/rlhf_policy/epo"]
    batch = one.batch(3, "plain")
    gradients = []
    for c in (0, 50):
        objective = lossc.load(one.reference, backend="reference", c=c, **one.load).double()
        one.prepare(objective, batch)
        gradients.append(run_spec(objective, batch).gradients["logits"])
    torch.testing.assert_close(*gradients)




def test_the_history_of_a_turn_is_the_mean_over_steps() -> None:
    one = oracles()["zoo/rlhf_policy/epo"]
    objective = lossc.load(one.reference, backend="reference", **one.load, total_steps=4).double()
    usual = []
    for seed in (1, 2, 3):
        batch = {name: x for name, x in one.batch(seed, "plain").items() if name in objective.program.tensors}
        run_spec(objective, batch)
        objective.advance()
        z, rows = batch["logits"], batch["mask"] & (batch["turns"] == 1)
        usual.append(-(z.softmax(-1) * z.log_softmax(-1)).sum(-1)[rows].mean())
    torch.testing.assert_close(objective.state["history"][1], torch.stack(usual).mean())


def test_drpo_without_a_preference_for_length_is_disco() -> None:
    batch = rollouts(3, q=3, sample=4)
    batch |= binary_reward(batch, 3)
    found = run_spec(objective_of("zoo/rlhf_policy/drpo", **{"lambda": 1e12, "beta": 2000}), batch)
    expected = run_spec(objective_of("zoo/rlhf_policy/disco"), batch)
    torch.testing.assert_close(found.value, expected.value)
    torch.testing.assert_close(found.gradients["logits"], expected.gradients["logits"])
