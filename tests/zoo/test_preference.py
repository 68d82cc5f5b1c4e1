"""What the works of the family `preference` claim, as identities and limits of their specs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tests.oracles.batches import pairs, tokens, unpaired
from tests.zoo.harness import Tensors, objective_of, oracles, run_spec
from tests.zoo.oracles.preference import judged
from torch import Tensor

import lossc
from lossc import Objective


def loss_at(objective: Objective, margin: float, **given: Tensor) -> float:
    """The loss of one pair with this margin of log-ratios, in which every other part is 0."""
    ratios = torch.tensor([[margin / 2, -margin / 2]], dtype=torch.float64)
    batch = pairs(1, pair=1)
    ref = torch.full((1, 2), -5.0, dtype=torch.float64)
    return float(objective({**batch, "logp": ref + ratios, "ref_logp": ref, **given}).loss)


def pair_objective(name: str, **params: Any) -> Objective:
    return objective_of(f"zoo/preference/{name}", **params)


def dpo(margin: float, beta: float = 0.1) -> float:
    return math.log1p(math.exp(-beta * margin))


def same_loss(reference: str, params: dict[str, Any], other: str, batch: Tensors) -> None:
    """A work under some parameters equals a loss of the library, in value and gradient."""
    found = run_spec(objective_of(reference, **params), batch)
    expected = run_spec(lossc.loads(other, setting="pairs", backend="reference").double(), batch)
    torch.testing.assert_close(found.value, expected.value)
    torch.testing.assert_close(found.gradients["logits"], expected.gradients["logits"])


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("dpo_shift", {"f_start": 1, "f_end": 1}),
        ("f_dpo", {}),
        ("r_dpo", {"alpha": 0}),
        ("h_dpo", {"alpha": 1}),
        ("robust_dpo", {"eps": 0}),
    ],
)
def test_reduces_to_dpo(name: str, params: dict[str, Any]) -> None:
    same_loss(f"zoo/preference/{name}", params, "dpo(beta=0.1)", pairs(4))


@pytest.mark.parametrize(("name", "sure"), [("osp", "strength"), ("cream", "consistency")])
def test_a_sure_preference_is_dpo(name: str, sure: str) -> None:
    batch = {**pairs(4), sure: torch.ones(3, dtype=torch.float64)}
    same_loss(f"zoo/preference/{name}", {}, "dpo(beta=0.1)", batch)


def test_inpo_with_the_reference_alone_is_ipo() -> None:
    batch = {**pairs(4), "last_logp": -torch.rand(3, 2, dtype=torch.float64)}
    same_loss("zoo/preference/inpo", {"eta": 0.2, "tau": 0.2}, "ipo(tau=0.2)", batch)


def test_poft_is_weighted_likelihood() -> None:
    """The gradient is that of the average log-probability, times a coefficient that falls where aligned models doubt."""
    objective = objective_of("zoo/preference/poft")
    batch = {**tokens(4, b=1), "aligned": torch.full((1, 1), -2.0, dtype=torch.float64)}
    plain = run_spec(lossc.loads("nll", setting="tokens", backend="reference").double(), tokens(4, b=1))
    found = run_spec(objective, batch)
    tau = torch.sigmoid(-2.0 + plain.value)
    torch.testing.assert_close(found.gradients["logits"], tau * plain.gradients["logits"])


@pytest.mark.parametrize("p", [0.2, 0.7, 0.99])
def test_the_best_margin_of_a_strength_is_its_logit(p: float) -> None:
    objective = pair_objective("osp")
    best, strength = math.log(p / (1 - p)) / 0.1, torch.tensor([p]).double()
    at = [loss_at(objective, best + shift, strength=strength) for shift in (-0.5, 0, 0.5)]
    assert at[1] < min(at[0], at[2])


def test_alpha_divergence_lies_between_reverse_and_forward_kl() -> None:
    limits = (("reverse_kl", 0.001, 2e-3), ("forward_kl", 0.999, 2e-3))
    for divergence, alpha, near in limits:
        exact, close = (
            pair_objective("f_dpo", divergence=name, alpha=alpha) for name in (divergence, "alpha_divergence")
        )
        for margin in (-2.0, 0.5, 3.0):
            assert loss_at(close, margin) == pytest.approx(loss_at(exact, margin), rel=near)


def test_jsd_does_not_overflow() -> None:
    """Through log u: the slope is log 2 - softplus(-log u), at most log 2."""
    objective = pair_objective("f_dpo", divergence="jsd")
    assert loss_at(objective, 4000) < 1e-40
    assert loss_at(objective, -4000) == pytest.approx(0.1 * 2000)


def test_discopop_between_dpo_and_the_exponential_loss() -> None:
    objective = pair_objective("discopop")
    for h, expected in ((-2.0, dpo(-2.0, 1)), (2.0, math.exp(-2.0))):
        assert loss_at(objective, h / 0.05) == pytest.approx(expected, rel=1e-12)


def test_discopop_has_a_minimum_and_a_maximum_near_zero() -> None:
    objective = pair_objective("discopop")
    values = [loss_at(objective, h / 0.05) for h in torch.linspace(-0.4, 0.4, 161).tolist()]
    turns = [i for i in range(1, 160) if (values[i] - values[i - 1]) * (values[i + 1] - values[i]) < 0]
    assert len(turns) == 2
    low, high = turns
    assert values[low] < values[low - 1] and values[high] > values[high - 1]


def test_a_smaller_f_lowers_the_push_on_the_rejected_response() -> None:
    """d loss / d log pi(y_l) is f times that of y_w, with the opposite sign."""
    logp = torch.tensor([[-4.0, -6.0]], dtype=torch.float64, requires_grad=True)
    for f in (0.5, 1.0):
        objective = pair_objective("dpo_shift", f_start=f, f_end=f)
        (slope,) = torch.autograd.grad(objective({**pairs(1, pair=1), "logp": logp}).loss, logp)
        assert float(slope[0, 1]) == pytest.approx(-f * float(slope[0, 0]))


def test_mipo_without_and_with_the_whole_reference() -> None:
    batch = pairs(4)
    objective = pair_objective("mipo", beta=2)
    lengths = batch["mask"].sum(-1).double()
    logp = torch.linspace(-9, -3, 6).double().reshape(3, 2)

    def loss(k: float) -> float:
        ref = torch.stack([k / 2 * lengths[:, 0], -k / 2 * lengths[:, 1]], -1)
        return float(objective({**batch, "logp": logp, "ref_logp": ref}).loss)

    avg = (logp / lengths)[:, 0] - (logp / lengths)[:, 1]
    alone = torch.nn.functional.softplus(-2 * avg).mean()
    tied = torch.nn.functional.softplus(-2 * (avg - 60)).mean()
    assert loss(-60) == pytest.approx(float(alone))
    assert loss(60) == pytest.approx(float(tied))


def test_equal_lengths_leave_r_dpo_as_dpo() -> None:
    batch = {**pairs(4), "mask": torch.ones(3, 2, 5, dtype=torch.bool)}
    same_loss("zoo/preference/r_dpo", {"alpha": 5}, "dpo(beta=0.1)", batch)


@pytest.mark.parametrize("eps", [0.1, 0.4])
def test_robust_dpo_is_unbiased_and_unbounded(eps: float) -> None:
    objective = pair_objective("robust_dpo", eps=eps)
    for margin in (-30.0, 0.0, 12.0):
        expected = (1 - eps) * loss_at(objective, margin) + eps * loss_at(objective, -margin)
        assert expected == pytest.approx(dpo(margin), rel=1e-12)
    assert loss_at(objective, 1e6) < -1e3


@pytest.mark.parametrize(
    ("chosen", "rejected", "target"), [(True, False, 1), (True, True, 0.5), (False, False, -0.5), (False, True, -1)]
)
def test_targets_of_bfpo(chosen: bool, rejected: bool, target: float) -> None:
    """In units of 1 / beta; both safe is IPO with tau = beta."""
    safe = torch.tensor([[chosen, rejected]])
    objective = pair_objective("bfpo", beta=0.2)
    assert loss_at(objective, target / 0.2, safe=safe) == pytest.approx(0, abs=1e-20)
    if chosen and rejected:
        ipo = lossc.loads("ipo(tau=0.2)", setting="pairs", backend="reference").double()
        assert loss_at(objective, 0.7, safe=safe) == pytest.approx(loss_at(ipo, 0.7))


def test_sppo_at_the_previous_iterate() -> None:
    """eta^2 E(P - 1/2)^2, and a step raises the winner's and lowers the loser's log-probability, each by itself."""
    win = torch.tensor([[0.9, 0.3]]).double()
    objective = pair_objective("sppo", eta=5)
    assert loss_at(objective, 0.0, win=win) == pytest.approx(25 * (0.4**2 + 0.2**2) / 2)
    logp = torch.full((1, 2), -5.0, dtype=torch.float64, requires_grad=True)
    batch = {**pairs(1, pair=1), "logp": logp, "ref_logp": logp.detach(), "win": win}
    (slope,) = torch.autograd.grad(objective(batch).loss, logp)
    assert slope[0, 0] < 0 < slope[0, 1]


@pytest.mark.parametrize("ratio", [-1e4, -3.0, 0.0, 2.0, 1e4])
@pytest.mark.parametrize("good", [True, False])
def test_kto_is_bounded_and_flat_far_away(ratio: float, good: bool) -> None:
    objective = objective_of("zoo/preference/kto", lambda_D=1.3, lambda_U=0.8)
    logp = torch.tensor([-5.0 + ratio], dtype=torch.float64, requires_grad=True)
    batch = {**unpaired(2, b=1), "logp": logp, "ref_logp": torch.tensor([-5.0]).double(), "desirable": torch.tensor([good])}
    loss = objective(batch).loss
    (slope,) = torch.autograd.grad(loss, logp)
    assert 0 <= float(loss.detach()) <= (1.3 if good else 0.8)
    if abs(ratio) > 1e3:
        assert abs(float(slope)) < 1e-12


def test_the_reference_point_of_kto_carries_no_gradient() -> None:
    one = oracles()["zoo/preference/kto"]
    batch = one.batch(2, "plain")
    objective = objective_of("zoo/preference/kto")
    larger = {**batch, "kl_logp": batch["kl_logp"] + 10}
    assert float(objective(**larger).monitors["reference_point"]) > 0
    assert run_spec(objective, larger).gradients.keys() == {"logits"}


@pytest.mark.parametrize("delta", [-3.0, 0.0, 0.4, 5.0])
def test_bco_is_never_below_dpo(delta: float) -> None:
    """-log sigma(a - delta) - log sigma(-(b - delta)) >= -log sigma(a - b)."""
    objective = objective_of("zoo/preference/bco", beta=1)
    objective.state["delta"].fill_(delta)
    batch = {**unpaired(2, b=2), "desirable": torch.tensor([True, False]), "ref_logp": torch.full((2,), -5.0).double()}
    for a, b in ((1.0, -1.0), (-4.0, 3.0), (0.3, 0.2)):
        given = {**batch, "logp": torch.tensor([a - 5, b - 5]).double(), "weight": torch.ones(2).double()}
        assert float(objective(given).loss) >= dpo(a - b, 1)


def test_the_shift_of_bco_is_a_running_mean_without_gradient() -> None:
    objective = objective_of("zoo/preference/bco", beta=0.5)
    averages = []
    for step in range(3):
        batch = oracles()["zoo/preference/bco"].batch(step, "plain")
        _, ratio = judged(batch)
        reward, good = 0.5 * ratio, batch["desirable"]
        averages.append((float(reward[good].mean()) + float(reward[~good].mean())) / 2)
        objective(**{name: x for name, x in batch.items() if name != "delta"})
        objective.advance()
        assert float(objective.state["delta"]) == pytest.approx(sum(averages) / (step + 1))
