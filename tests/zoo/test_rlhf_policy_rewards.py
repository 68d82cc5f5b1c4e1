"""What the works of the family `rlhf_policy` claim that make rewards anew."""

from __future__ import annotations

import torch
from tests.oracles.batches import uniform
from tests.oracles.rows import kept
from tests.zoo.harness import Tensors, given, objective_of, oracles, run_spec
from tests.zoo.oracles.rlhf_policy_rewards import compared

FAMILY = "zoo/rlhf_policy"


def batch_of(name: str) -> Tensors:
    return oracles()[f"{FAMILY}/{name}"].batch(3, "plain")


def test_without_its_weight_the_policy_of_dpo_is_not_read() -> None:
    """beta_1 = 0 is the usual PPO with a tie to the reference."""
    batch = batch_of("rto")
    other = batch | {"dpo_logp": -3 + uniform(*batch["mask"].shape, seed=77)}
    for beta_1, equal in ((0, True), (1, False)):
        objective = objective_of(f"{FAMILY}/rto", beta_1=beta_1)
        one, two = run_spec(objective, batch).value, run_spec(objective, other).value
        assert torch.allclose(one, two) == equal


def test_a_reward_that_is_spread_keeps_its_sum() -> None:
    """Potential-based shaping: whatever beta is, the rewards of the tokens of an answer add to the answer's."""
    batch = batch_of("abc")
    for beta in (0, 0.3, 1):
        found = objective_of(f"{FAMILY}/abc", beta=beta)(**batch).monitors["given"]
        torch.testing.assert_close(found, batch["reward"].mean())


def test_attention_on_the_last_token_alone_is_a_sparse_reward() -> None:
    batch = batch_of("abc")
    last = kept(batch["labels"], batch["mask"]).long().cumsum(-1)
    batch["attention"] = (last == last.amax(-1, keepdim=True)).double() * kept(batch["labels"], batch["mask"])
    one, other = (run_spec(objective_of(f"{FAMILY}/abc", beta=beta), batch).value for beta in (0, 1))
    torch.testing.assert_close(one, other)


def test_conservative_rewards_are_never_above_the_mean() -> None:
    batch = batch_of("reward_ensemble")
    reward = {
        rule: objective_of(f"{FAMILY}/reward_ensemble", rule=rule)(**batch).monitors["reward"]
        for rule in ("average", "wco", "uwo")
    }
    assert reward["wco"] < reward["average"]
    assert reward["uwo"] < reward["average"]
    free = objective_of(f"{FAMILY}/reward_ensemble", **{"rule": "uwo", "lambda": 0})(**batch).monitors["reward"]
    torch.testing.assert_close(free, reward["average"])


def test_members_that_agree_are_one_model() -> None:
    batch = batch_of("reward_ensemble")
    batch["scores"] = batch["scores"][..., :1].expand(-1, -1, 4).contiguous()
    losses = [run_spec(objective_of(f"{FAMILY}/reward_ensemble", rule=rule), batch).value for rule in ("wco", "uwo")]
    torch.testing.assert_close(*losses)


def test_rewards_of_a_teacher_forced_model_telescope() -> None:
    """Their sum is f(y_1) + sum_{t > 1} (f(y_t) - max_a f_t(a)): the regret of the tokens, but for the first."""
    batch = batch_of("lm_reward")
    batch["mask"] = torch.ones_like(batch["mask"])
    f = batch["teacher"] - batch["teacher"].mean(-1, keepdim=True)
    own = f.gather(-1, batch["labels"].unsqueeze(-1)).squeeze(-1)
    expected = own[:, 0] + (own - f.amax(-1))[:, 1:].sum(-1)
    found = objective_of(f"{FAMILY}/lm_reward")(**batch).monitors["returns"]
    torch.testing.assert_close(found, expected.mean())


def test_at_the_regularised_equilibrium_nothing_moves() -> None:
    """Where tau log(pi / ref) = P(y > y') - 1/2 for every answer, the gradient is 0."""
    batch, tau = compared(3, "plain"), 0.2
    objective = objective_of(f"{FAMILY}/nash_md", tau=tau)
    assert run_spec(objective, batch).gradients["logits"].any()
    logp = batch["logits"].log_softmax(-1).gather(-1, batch["labels"].unsqueeze(-1)).squeeze(-1)
    batch["ref_logp"] = (logp * batch["mask"]).sum(-1) - (batch["preferred"] - 0.5) / tau
    gradient = run_spec(objective, given(objective, batch)).gradients["logits"]
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)


def test_an_answer_that_repeats_itself_earns_less() -> None:
    """Six tokens have four trigrams: four distinct ones, or two, or one."""
    batch = batch_of("r3")
    batch |= {name: x[:1, :, :6] for name, x in batch.items() if x.dim() > 2}
    labels = torch.tensor([[0, 0, 1, 1, 0, 1], [0, 1, 0, 1, 0, 1], [1, 1, 1, 1, 1, 1]])
    batch |= {
        "labels": labels.unsqueeze(0),
        "mask": torch.ones(1, 3, 6, dtype=torch.bool),
        "open": torch.tensor([False]),
        "r_x": torch.ones(1, 3).double(),
        "r_y": torch.ones(1, 3).double(),
    }
    batch.pop("reward")
    objective = objective_of(f"{FAMILY}/r3")
    found = objective(**given(objective, batch)).monitors
    torch.testing.assert_close(found["distinct"], torch.tensor((1 + 0.5 + 0.25) / 3).double())
    torch.testing.assert_close(found["reward"], found["distinct"])
    opened = objective(**given(objective, batch | {"open": torch.tensor([True])})).monitors["reward"]
    torch.testing.assert_close(opened, 0.06 * found["reward"])
