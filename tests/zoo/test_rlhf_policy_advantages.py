"""What the works of the family `rlhf_policy` claim that weight tokens and answers anew."""

from __future__ import annotations

import pytest
import torch
from tests.oracles.batches import integers, rollouts, uniform
from tests.zoo.harness import Tensors, given, objective_of, oracles, run_spec
from tests.zoo.oracles.rlhf_policy_advantages import own_and_warm, probed, with_bundles

import lossc

FAMILY = "zoo/rlhf_policy"


def admitted(batch: Tensors) -> Tensors:
    return {**batch, "mask": torch.ones_like(batch["mask"])}


def test_the_change_of_entropy_is_that_of_one_step_on_a_logit() -> None:
    """Omega = |A / pi_old dlog p / dz_y dH / dz_y| for the logit of the token that was sampled."""
    batch = admitted(rollouts(3, q=2, sample=3, t=1))
    z = batch["logits"].clone().requires_grad_()
    logp = z.log_softmax(-1)
    entropy = -(logp.exp() * logp).sum()
    own = logp.gather(-1, batch["labels"].unsqueeze(-1)).squeeze(-1)
    slopes = [torch.autograd.grad(u, z, retain_graph=True)[0] for u in (own.sum(), entropy)]
    of_own = [slope.gather(-1, batch["labels"].unsqueeze(-1)).squeeze(-1) for slope in slopes]
    reward = batch["reward"]
    advantage = (reward - reward.mean(-1, keepdim=True)) / (reward.std(-1, keepdim=True) + 1e-4)
    expected = (advantage.unsqueeze(-1) / batch["old_logp"].exp() * of_own[0] * of_own[1]).abs().mean()
    found = objective_of(f"{FAMILY}/steer")(**batch).monitors["change"]
    torch.testing.assert_close(found, expected)


def alike(reward: list[float]) -> Tensors:
    """Every answer to a question has the same reward and is the same, except for how it is written."""
    batch = admitted(rollouts(3, q=len(reward), sample=4))
    return batch | {"reward": torch.tensor(reward).double().unsqueeze(-1).expand(-1, 4).contiguous(),
                    "answers": torch.zeros(len(reward), 4, dtype=torch.long)}  # fmt: skip


def test_groups_that_agree_still_teach() -> None:
    """The gradient of GRPO is 0 there, that of COPO raises the question that was answered rightly."""
    batch = alike([1.0, 0.0])
    found = run_spec(objective_of(f"{FAMILY}/copo"), batch).gradients["logits"]
    own = found.gather(-1, batch["labels"].unsqueeze(-1)).squeeze(-1)
    assert (own[0] <= 0).all() and own[0].any()
    assert (own[1] >= 0).all() and own[1].any()
    plain = lossc.loads("mean[q, sample, t where mask](grpo(ratio, advantage))", setting="rollouts").double()
    tensors = {name: x for name, x in batch.items() if name in plain.program.tensors}
    assert not run_spec(plain, tensors).gradients["logits"].any()


def test_a_right_answer_on_which_all_agree_is_worth_most() -> None:
    """R = accuracy (1 - lambda H) lies between accuracy / G, where no two answers agree, and accuracy."""
    batch = alike([1.0, 1.0]) | {"answers": torch.tensor([[0, 0, 0, 0], [0, 1, 2, 3]])}
    objective = objective_of(f"{FAMILY}/copo")
    own = run_spec(objective, batch).gradients["logits"].gather(-1, batch["labels"].unsqueeze(-1)).squeeze(-1)
    assert (own[0] <= 0).all() and (own[1] >= 0).all() and own.any()
    torch.testing.assert_close(objective(**batch).monitors["agreement"], torch.tensor(1.0).double())


def test_answers_without_a_reward_leave_grpo() -> None:
    batch = own_and_warm(3, "plain")
    objective = objective_of(f"{FAMILY}/aepo", alpha=5)
    nothing = batch | {"warm_reward": torch.zeros_like(batch["warm_reward"])}
    assert not run_spec(objective, nothing).gradients["warm.logits"].any()
    assert run_spec(objective, batch).gradients["warm.logits"].any()


@pytest.mark.parametrize(("target", "temperature"), [(0.0, 0.8), (1.6, 1.2)])
def test_the_temperature_follows_the_entropy(target: float, temperature: float) -> None:
    """Of a vocabulary of five the entropy is at most log 5 = 1.609."""
    objective = objective_of(f"{FAMILY}/aepo", target=target)
    found = objective(**own_and_warm(3, "plain")).monitors["temperature"]
    torch.testing.assert_close(found, torch.tensor(temperature).double())


def bundled(seed: int) -> Tensors:
    batch = admitted(rollouts(seed, q=4, sample=3))
    return batch | with_bundles(batch, seed)


def test_what_is_above_the_upper_quantile_teaches_nothing() -> None:
    """The range value-at-risk is flat there, so a bundle that is solved leaves the gradient."""
    batch = bundled(3)
    batch["reward"] = torch.tensor([[1.0] * 3, [1.0] * 3, [-1.0] * 3, [-1.0] * 3]).double()
    gradient = run_spec(objective_of(f"{FAMILY}/risk_po"), batch).gradients["logits"]
    assert not gradient[:2].any()
    assert gradient[2:].any()


def test_quantiles_are_tracked() -> None:
    """q <- q + eta (level - share of bundles below q), of all bundles of the step."""
    objective = objective_of(f"{FAMILY}/risk_po", eta=0.5)
    batch = bundled(3)
    run_spec(objective, batch)
    objective.advance()
    s = batch["reward"][0::2] + batch["reward"][1::2]
    for name, level in (("q_a", 0.2), ("q_b", 0.8)):
        expected = batch[name] + 0.5 * (level - (s < batch[name]).double().mean())
        torch.testing.assert_close(objective.state[name], expected)


def test_equal_rewards_leave_the_probe_where_it_is() -> None:
    batch = probed(3, "plain")
    batch["r"] = torch.full_like(batch["r"], 0.7)
    objective = lossc.load(f"{FAMILY}/q_probe", backend="reference", sizes={"d": 5}).double()
    gradients = run_spec(objective, batch).gradients
    torch.testing.assert_close(gradients["w"], torch.zeros(5).double(), rtol=0, atol=1e-12)


def test_every_answer_kept_is_ppo_of_answers() -> None:
    one = oracles()[f"{FAMILY}/pf_ppo"]
    batch = one.batch(3, "plain")
    found = run_spec(objective_of(one.reference, keep="all"), batch)
    text = """
use std.settings.rollouts
use std.policy (ppo_clip)
data A : real[q, sample, t]
minimize
  policy : mean[q, sample](mean[t where mask](ppo_clip(ratio, A)))
"""
    plain = lossc.loads(text).double()
    tensors = {name: x for name, x in batch.items() if name in plain.program.tensors}
    torch.testing.assert_close(found.value, run_spec(plain, tensors).value)


def test_the_random_answer_is_never_the_best() -> None:
    """Of drawn numbers too, the best answer and one other of each question are kept."""
    batch = rollouts(3, q=5, sample=4)
    batch |= {"A": uniform(5, 4, 4, seed=9), "reward": integers(5, 4, high=3, seed=8).double()}
    objective = objective_of(f"{FAMILY}/pf_ppo")
    found = objective(**given(objective, batch))
    torch.testing.assert_close(found.monitors["kept"], torch.tensor(0.5).double())
    again = objective(**given(objective, batch), draws=found.draws)
    torch.testing.assert_close(again.loss, found.loss)


@pytest.mark.parametrize("kl", ["k2", "k3"])
def test_the_expected_gradients_of_the_estimators(kl: str) -> None:
    """Over answers of one token that pi samples: k2 has the gradient of KL(pi, pi_T), k3 that of KL(pi_T, pi)."""
    z, teacher = uniform(5, seed=3).requires_grad_(), uniform(5, seed=4).log_softmax(-1)
    pi = z.log_softmax(-1)
    batch = {
        "logits": z.detach().expand(1, 5, 1, 5).clone(), "labels": torch.arange(5).reshape(1, 5, 1),
        "mask": torch.ones(1, 5, 1, dtype=torch.bool), "old_logp": pi.detach().reshape(1, 5, 1),
        "reward": torch.zeros(1, 5).double(), "teacher_logp": teacher.reshape(1, 5, 1),
    }  # fmt: skip
    objective = objective_of(f"{FAMILY}/kdrl", kl=kl, first=1, last=1)
    objective.total_steps = 1
    slopes = run_spec(objective, batch).gradients["logits"][0, :, 0]
    found = 5 * (pi.exp().unsqueeze(-1) * slopes).sum(0)
    divergence = (pi.exp() * (pi - teacher)).sum() if kl == "k2" else -(teacher.exp() * pi).sum()
    torch.testing.assert_close(found, torch.autograd.grad(divergence, z)[0])


def test_guided_distillation_leaves_what_was_solved() -> None:
    one = oracles()[f"{FAMILY}/kdrl"]
    batch = one.batch(3, "plain") | {"reward": torch.ones(2, 3).double()}
    objective = objective_of(one.reference, distil="guided", first=9)
    one.prepare(objective, batch)
    assert not run_spec(objective, batch).gradients["logits"].any()


def test_without_filter_and_divergence_it_learns_its_own_answers() -> None:
    one = oracles()[f"{FAMILY}/superhf"]
    batch = one.batch(3, "plain")
    found = run_spec(objective_of(one.reference, k=4, beta=0), batch).value
    nll = -batch["logits"].log_softmax(-1).gather(-1, batch["labels"].unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(found, nll[batch["mask"]].mean())


def test_only_the_best_answers_are_learned() -> None:
    one = oracles()[f"{FAMILY}/superhf"]
    batch = one.batch(3, "plain")
    moved = run_spec(objective_of(one.reference), batch).gradients["logits"].abs().amax((-1, -2)) > 0
    assert torch.equal(moved.sum(-1), torch.ones(3, dtype=torch.long))
    assert torch.equal(moved.long().argmax(-1), batch["reward"].argmax(-1))


def test_without_difficulty_and_length_it_is_grpo() -> None:
    """APO with growth 1 and a hold that is 1 at once."""
    batch = oracles()[f"{FAMILY}/apo"].batch(3, "plain")
    text = """
use std.settings.rollouts
use std.policy (ppo_clip, k3)
minimize
  policy : mean[q, sample](mean[t where mask](ppo_clip()))
  drift  : mean[q, sample](mean[t where mask](k3()))
"""
    found = run_spec(objective_of(f"{FAMILY}/apo", solved=0, beta=1, grow=1, steep=1e3), batch)
    plain = run_spec(lossc.loads(text).double(), batch)
    torch.testing.assert_close(found.value, plain.value)
    torch.testing.assert_close(found.gradients["logits"], plain.gradients["logits"])


def test_only_a_wrong_answer_longer_than_the_right_ones_weighs_more() -> None:
    batch = rollouts(3, q=1, sample=3)
    batch["mask"] = torch.arange(4) < torch.tensor([[[2], [1], [4]]])
    batch["reward"] = torch.tensor([[1.0, 0, 0]]).double()
    batch["old_logp"] = batch["logits"].log_softmax(-1).gather(-1, batch["labels"].unsqueeze(-1)).squeeze(-1)
    slopes = [
        run_spec(objective_of(f"{FAMILY}/apo", beta=0, grow=grow), batch).gradients["logits"][0] for grow in (1, 2)
    ]
    factors = torch.stack([(new / old)[0].mean() for old, new in zip(*slopes, strict=True)])
    torch.testing.assert_close(factors, torch.tensor([1, 1, 2 - 2**-2.0]).double())


def test_the_expected_penalty_is_the_forward_divergence() -> None:
    """RAPO: over answers of one token that pi samples, rho log rho - rho + 1 has the mean KL(ref, pi)."""
    pi, ref = (uniform(5, seed=seed).log_softmax(-1) for seed in (3, 4))
    batch = {
        "logits": pi.expand(1, 5, 1, 5).clone(), "labels": torch.arange(5).reshape(1, 5, 1),
        "mask": torch.ones(1, 5, 1, dtype=torch.bool), "old_logp": pi.reshape(1, 5, 1), "ref_logp": ref.reshape(1, 5, 1),
        "reward": torch.zeros(1, 5).double(),
    }  # fmt: skip
    objective = objective_of(f"{FAMILY}/rapo", alpha=1, beta=0, least=1)
    each = [objective(**{name: x[:, k : k + 1] for name, x in batch.items()}).terms["forward"] for k in range(5)]
    torch.testing.assert_close((pi.exp() * torch.stack(each)).sum(), (ref.exp() * (ref - pi)).sum())


def test_answers_that_earned_little_are_tied_to_a_flatter_reference() -> None:
    """With phi = 1/2 the penalty of a token is least where pi is the root of the reference's probability."""
    batch = admitted(rollouts(3, q=1, sample=2, t=1))
    logp = batch["logits"].log_softmax(-1).gather(-1, batch["labels"].unsqueeze(-1)).squeeze(-1)
    batch |= {"ref_logp": 2 * logp, "reward": torch.tensor([[-1.0, 0.0]]).double()}
    found = objective_of(f"{FAMILY}/rapo", alpha=1, least=0.5)(**batch).terms["forward"]
    torch.testing.assert_close(found, torch.zeros(()).double(), rtol=0, atol=1e-12)
