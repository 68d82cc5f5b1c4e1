"""What the works of the family `ce` claim, as identities, limits and invariances of their specs."""

from __future__ import annotations

import math

import pytest
import torch
from tests.oracles.batches import classes, tokens, uniform
from tests.zoo.harness import objective_of, run_spec
from tests.zoo.oracles.ce import prototypes, with_network

import lossc


def test_the_z_loss_is_invariant_under_shift_and_scale() -> None:
    batch = classes(2)
    objective = objective_of("zoo/ce/z_loss")
    moved = {**batch, "logits": 3 * batch["logits"] + 7}
    torch.testing.assert_close(run_spec(objective, moved).value, run_spec(objective, batch).value)


def test_one_sample_is_cross_entropy() -> None:
    batch = tokens(2)
    found = run_spec(objective_of("zoo/ce/dco", N=1), batch)
    expected = run_spec(
        lossc.loads("use std.settings.tokens\nminimize\n  nll : mean[b](sum[t where mask](nll))\n").double(), batch
    )
    torch.testing.assert_close(found.value, expected.value)
    torch.testing.assert_close(found.gradients["logits"], expected.gradients["logits"])


@pytest.mark.parametrize("p", [1e-12, 0.01, 0.5, 1 - 1e-6])
def test_the_gradient_of_coverage_is_that_of_cross_entropy_times_a_factor(p: float) -> None:
    n = 16
    logits = torch.tensor([[[math.log(p), math.log1p(-p)]]], dtype=torch.float64)
    batch = {"logits": logits, "labels": torch.zeros(1, 1, dtype=torch.int64), "mask": torch.ones(1, 1, dtype=torch.bool)}
    factor = n * (1 - p) ** (n - 1) * p / -math.expm1(n * math.log1p(-p))
    found = run_spec(objective_of("zoo/ce/dco", N=n), batch).gradients["logits"]
    torch.testing.assert_close(found[0, 0, 0], torch.tensor(-(1 - p) * factor, dtype=torch.float64), rtol=1e-9, atol=1e-300)


def test_coverage_is_finite_for_long_unlikely_sequences() -> None:
    batch = tokens(2, b=1, t=400)
    batch["mask"][:] = True
    found = run_spec(objective_of("zoo/ce/dco"), {**batch, "logits": 10 * batch["logits"]})
    assert bool(found.value.isfinite())
    assert bool(found.gradients["logits"].any())


def test_without_alpha_and_beta_the_bias_loss_is_cross_entropy() -> None:
    batch = classes(2)
    found = run_spec(objective_of("zoo/ce/bias_loss", alpha=0, beta=0), {**batch, "features": uniform(5, 4, seed=9)})
    torch.testing.assert_close(found.value, torch.nn.functional.cross_entropy(batch["logits"], batch["labels"]))
    assert not found.gradients["features"].any()


@pytest.mark.parametrize("distance", ["euclidean", "manhattan", "minkowski"])
def test_harmonic_loss_does_not_change_with_the_scale_of_distances(distance: str) -> None:
    batch = prototypes(2, "plain")
    objective = objective_of("zoo/ce/harmonic", distance=distance, eps=1e-30)
    scaled = {**batch, "x": 5 * batch["x"], "w": 5 * batch["w"]}
    torch.testing.assert_close(run_spec(objective, scaled).value, run_spec(objective, batch).value)


def test_harmonic_loss_is_zero_at_the_prototype() -> None:
    batch = prototypes(2, "plain")
    at = {**batch, "x": batch["w"][batch["labels"]]}
    assert float(run_spec(objective_of("zoo/ce/harmonic", eps=1e-9), at).value) < 1e-7


def comp_sum_batch() -> dict[str, object]:
    return with_network(batch := classes(2), 2) | batch


@pytest.mark.parametrize(("t", "other"), [(1, "ce"), (1.7, "gce(q=0.7)"), (2, "gce(q=1)")])
def test_comp_sum_losses_are_known_ones(t: float, other: str) -> None:
    found = run_spec(objective_of("zoo/ce/comp_sum", t=t, nu=0), comp_sum_batch())
    expected = run_spec(lossc.loads(other, setting="classes").double(), classes(2))
    torch.testing.assert_close(found.value, expected.value)
    torch.testing.assert_close(found.gradients["logits"], expected.gradients["logits"])


def test_the_adversarial_term_grows_with_the_ball_and_is_small_in_a_small_one() -> None:
    batch = comp_sum_batch()
    batch["logits"] = batch["net"](batch["x"]).detach()
    plain, *robust = (
        float(run_spec(objective_of("zoo/ce/comp_sum", gamma=gamma, nu=nu), batch).value)
        for gamma, nu in ((1, 0), (1e-9, 1), (0.1, 1), (0.5, 1))
    )
    assert plain == pytest.approx(robust[0], abs=1e-7)
    assert robust[0] < robust[1] < robust[2]
