"""What works of the family `preference` claim that read a response twice, or judge the response they are compared with."""

from __future__ import annotations

import pytest
import torch
from tests.zoo.harness import objective_of, oracles, run_spec
from torch import Tensor

import lossc

BETA = 0.2


def preferred(often: float) -> tuple[Tensor, Tensor]:
    """P(y2 > y1) of three answers in quarters, and pairs (chosen, rejected) in its proportion, the first two collected more."""
    quarters = torch.tensor([[2, 3, 1], [1, 2, 4], [3, 0, 2]])
    pairs = [
        (i, j) for i in range(3) for j in range(3) if i != j
        for _ in range(int(quarters[i, j] * (often if i + j == 1 else 1)))
    ]  # fmt: skip
    return quarters / 4, torch.tensor(pairs)


@pytest.mark.parametrize("often", [1, 5])
def test_the_optimum_of_srpo_is_the_preference_whichever_pairs_were_collected(often: int) -> None:
    """beta (d(y2 | y1) - d(y1 | y1)) = P(y2 > y1) - 1/2, and h(y) = d(y | y): no gradient is left to answers or revisions."""
    probability, pairs = preferred(often)
    own = torch.tensor([0.3, -0.7, 1.1]).double()
    better = own + (probability.double() - 0.5) / BETA  # [revision, shown]
    h, d = own.clone().requires_grad_(), better.clone().requires_grad_()
    shown = torch.stack([d[pairs, y.unsqueeze(-1)] for y in pairs.unbind(-1)], -1)  # [pair, side, given]
    objective = objective_of("zoo/preference/srpo", beta=BETA)
    batch = {"logp": h[pairs], "ref_logp": torch.zeros(pairs.shape).double(), "d": shown}
    result = objective(batch)
    assert float(result.loss.detach()) > 0.1
    for slope in torch.autograd.grad(result.loss, [h, d]):
        torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-12, rtol=0)


def test_t_reg_moves_tokens_by_their_reward_as_much_as_dpo_moves_the_pair() -> None:
    """Beside alpha = 0, the gradient to log pi(y_t) has -alpha w beta r_t, w the weight of DPO."""
    batch = oracles()["zoo/preference/t_reg"].batch(3, "plain")
    given = {name: x for name, x in batch.items() if name not in ("logits", "labels")}
    nll = torch.linspace(0.1, 2, batch["labels"].numel()).double().reshape(batch["labels"].shape)
    slopes = []
    for alpha in (0, 0.4):
        leaf = nll.clone().requires_grad_()
        logp = -(leaf * batch["mask"]).sum(-1)
        objective = objective_of("zoo/preference/t_reg", alpha=alpha, beta=BETA)
        slopes += torch.autograd.grad(objective({**given, "nll": leaf, "logp": logp}).loss, leaf)
    weight = slopes[0][:, 0, 0].reshape(-1, 1, 1)  # of the first chosen token: w beta / 3, each pair by itself
    reward = torch.sigmoid(batch["better"] - batch["worse"]) - 0.5
    torch.testing.assert_close(slopes[1] - slopes[0], 0.4 * weight * reward * batch["mask"])


def test_seppo_that_always_takes_the_drawn_image_for_losing_is_dpo_of_gains() -> None:
    batch = oracles()["zoo/preference/seppo"].batch(3, "plain")
    error = ((batch["noise"] - batch["predicted"]) ** 2).mean(-1)
    ref = ((batch["noise"] - batch["ref_predicted"]) ** 2).mean(-1)
    found = run_spec(objective_of("zoo/preference/seppo", judge="always", beta=50), batch)
    dpo = lossc.loads("dpo(margin, beta=50)", setting="pairs", backend="reference").double()
    margin = (ref - error)[:, 0] - (ref - error)[:, 1]
    torch.testing.assert_close(found.value, dpo({"margin": margin}).loss)


@pytest.mark.parametrize("judge", ["sign", "indicator"])
def test_seppo_learns_from_the_winning_image_alone_where_the_model_is_the_reference(judge: str) -> None:
    batch = oracles()["zoo/preference/seppo"].batch(3, "plain")
    found = run_spec(objective_of("zoo/preference/seppo", judge=judge), {**batch, "predicted": batch["ref_predicted"]})
    slope = found.gradients["predicted"]
    assert bool((slope[:, 1] == 0).all())
    expected = 2000 / 2 * 2 * (batch["ref_predicted"] - batch["noise"])[:, 0] / slope[:, 0].numel()
    torch.testing.assert_close(slope[:, 0], expected)


def test_only_the_context_of_oppo_follows_its_own_triplet_loss() -> None:
    batch = oracles()["zoo/preference/oppo"].batch(3, "plain")
    objective = objective_of("zoo/preference/oppo", prefers=0, unit=0)
    found = run_spec(objective, batch)
    assert bool((found.gradients["phi"] == 0).all())
    assert bool((found.gradients["z"] != 0).any())
