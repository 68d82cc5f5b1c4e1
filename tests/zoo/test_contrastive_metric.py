"""The claims of the family `contrastive_metric`."""

from __future__ import annotations

import pytest
import torch
from tests.oracles.batches import integers, uniform
from tests.zoo.harness import (
    assert_same,
    loaded,
    losses_of_descent,
    objective_of,
    oracles,
    run_closed_form,
    run_spec,
)
from torch import Tensor

from lossc import Objective

FAMILY = "zoo/contrastive_metric/"


def orthonormal(rows: int, columns: int) -> Tensor:
    """Orthonormal columns, each with mean 0."""
    start = uniform(rows, columns, seed=11)
    return torch.linalg.qr(start - start.mean(0, keepdim=True))[0]


# ---------------------------------------------------------------------------------------------------- two views


def test_barlow_twins_is_zero_where_the_cross_correlation_is_the_identity() -> None:
    objective = objective_of(FAMILY + "barlow_twins")
    z = orthonormal(8, 4)
    shift, scale = uniform(1, 4, seed=1), 1 + uniform(1, 4, seed=2).abs()
    assert float(objective(z_A=z, z_B=scale * z + shift).loss) == pytest.approx(0.0, abs=1e-12)
    assert float(objective(z_A=z, z_B=z @ uniform(4, 4, seed=3)).loss) > 0.1


def test_barlow_twins_penalises_collapse() -> None:
    """Views that agree along one direction alone have every entry of C at 1: the second part is all that is left."""
    line = uniform(6, 1, seed=4) * torch.ones(1, 3, dtype=torch.float64)
    found = objective_of(FAMILY + "barlow_twins", lam=0.5)(z_A=line, z_B=line)
    assert float(found.terms["invariance"]) == pytest.approx(0.0, abs=1e-12)
    assert float(found.terms["redundancy"]) == pytest.approx(0.5 * 6)


def test_barlow_twins_leaves_a_constant_unit_without_a_gradient_of_nan() -> None:
    z = uniform(5, 3, seed=5) * torch.tensor([1.0, 0.0, 1.0])
    z = z.double().requires_grad_()
    objective_of(FAMILY + "barlow_twins")(z_A=z, z_B=z.detach()).loss.backward()
    assert bool(z.grad.isfinite().all())


def test_mmcr_shrinks_the_manifolds_without_being_told() -> None:
    """With lambda = 0 the nuclear norm of each sample's views falls while that of the centroids rises."""
    objective = objective_of(FAMILY + "mmcr")
    z = uniform(4, 3, 5, seed=6).requires_grad_()
    before = objective(z=z).monitors["local"]
    optimiser = torch.optim.Adam([z], lr=0.05)
    for _ in range(40):
        optimiser.zero_grad()
        objective(z=z).loss.backward()
        optimiser.step()
    assert float(objective(z=z).monitors["local"]) < 0.95 * float(before)


def test_mmcr_is_lowest_for_orthogonal_centroids_of_equal_views() -> None:
    z = orthonormal(6, 4).T[:, None, :].expand(4, 3, 6)
    assert float(objective_of(FAMILY + "mmcr")(z=z).loss) == pytest.approx(-4.0)


# ---------------------------------------------------------------------------------------------------- labelled rows


def labelled(features: Tensor, labels: list[int]) -> dict[str, Tensor]:
    return {"f": features, "labels": torch.tensor(labels), "logits": uniform(len(labels), 3, seed=7)}


def test_opl_is_cross_entropy_at_orthogonal_classes() -> None:
    features = torch.eye(3, 4, dtype=torch.float64)[[0, 0, 1, 2, 2]] * 7
    found = objective_of(FAMILY + "opl")(**labelled(features, [0, 0, 1, 2, 2]))
    assert float(found.terms["within"]) == pytest.approx(0.0, abs=1e-12)
    assert float(found.terms["across"]) == pytest.approx(0.0, abs=1e-12)


def test_opl_of_a_batch_without_positive_pairs() -> None:
    batch = labelled(uniform(3, 4, seed=8).requires_grad_(), [0, 1, 2])
    found = objective_of(FAMILY + "opl")(**batch)
    found.loss.backward()
    assert float(found.terms["within"]) == 0
    assert float(found.terms["across"]) > 0
    assert bool(batch["f"].grad.isfinite().all())


def test_weights_of_multi_similarity_are_the_slopes_of_its_pairs() -> None:
    """General pair weighting: dL/dS_ij = w_ij / m, w of a negative e^{beta (S - lam)} / (1 + sum e^{beta (S - lam)})."""
    b, beta, lam, eps = 8, 5.0, 0.4, 0.1
    y = integers(b, high=3, seed=9)
    s = uniform(b, b, seed=10).requires_grad_()
    objective = objective_of(FAMILY + "multi_similarity", beta=beta, lam=lam)
    objective(x=uniform(b, 3, seed=12), y=y, S=s).loss.backward()
    same = (y[:, None] == y[None, :]) & ~torch.eye(b, dtype=torch.bool)
    for i in range(b):
        n = [j for j in range(b) if y[j] != y[i] and same[i].any() and s[i, j] + eps > s[i][same[i]].min()]
        total = 1 + sum(torch.exp(beta * (s[i, j] - lam)) for j in n)
        for j in n:
            expected = torch.exp(beta * (s[i, j] - lam)) / total / b
            torch.testing.assert_close(s.grad[i, j], expected.detach())


# ---------------------------------------------------------------------------------------------------- retrieval


def info_nce(s: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(s, torch.arange(len(s)))


def test_info_nce_is_soft_info_nce_of_alpha_0() -> None:
    query, code, q = uniform(5, 3, seed=13), uniform(5, 3, seed=14), uniform(5, 5, seed=15)
    found = objective_of(FAMILY + "soft_info_nce", alpha=0)(query=query, code=code, q=q)
    torch.testing.assert_close(found.loss, info_nce(query @ code.T))


def test_weights_of_soft_info_nce_average_1_before_they_are_clipped() -> None:
    query, code, q = uniform(6, 3, seed=16), uniform(6, 3, seed=17), 2 * uniform(6, 6, seed=18)
    found = objective_of(FAMILY + "soft_info_nce", alpha=0.5, beta=1)(query=query, code=code, q=q)
    assert float(found.monitors["weight"]) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("backend", ["reference", "torch", "c"])
def test_soft_info_nce_takes_scores_of_any_size(backend: str) -> None:
    """Dot products of 1e4 overflow no exponential, weights on the exponentials notwithstanding."""
    one = oracles()[FAMILY + "soft_info_nce"]
    batch = {name: x * (1 if name == "q" else 100) for name, x in one.batch(3, "plain").items()}
    objective = loaded(one, {}, backend)
    assert_same(run_spec(objective, batch), run_closed_form(one, objective, batch, {}), 1e-9)


def scores(objective: Objective, positive: Tensor, s: Tensor) -> Tensor:
    return objective(x=uniform(len(s), 2, seed=19), e=uniform(s.shape[1], 2, seed=20), positive=positive, s=s).loss


def test_one_positive_makes_the_decoupled_softmax_cross_entropy() -> None:
    s, labels = 3 * uniform(4, 6, seed=21), integers(4, high=6, seed=22)
    positive = torch.nn.functional.one_hot(labels, 6).bool()
    found = scores(objective_of(FAMILY + "dexml"), positive, s)
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(s, labels))


def test_positives_of_the_decoupled_softmax_do_not_see_each_other() -> None:
    positive = torch.tensor([[True, True, False, False]])
    slopes = []
    for other in (0.0, 5.0):
        s = torch.tensor([[1.0, other, 0.3, -1.0]], dtype=torch.float64, requires_grad=True)
        scores(objective_of(FAMILY + "dexml"), positive, s).backward()
        slopes.append(s.grad[0, 0])
    torch.testing.assert_close(slopes[0], slopes[1])


def test_soft_top_k_rewards_positives_among_the_k_best() -> None:
    """With a steep sigmoid a positive of the k best costs nothing, one below them the gap to the threshold."""
    s = torch.tensor([[4.0, 2.0, 0.0, -2.0]], dtype=torch.float64)
    objective = objective_of(FAMILY + "dexml", form="soft_topk", k=2, alpha=20)
    inside = scores(objective, torch.tensor([[False, True, False, False]]), s)
    outside = scores(objective, torch.tensor([[False, False, True, False]]), s)
    assert float(inside) < 1e-6
    assert float(outside) > 10


def test_descent_finds_orthogonal_classes() -> None:
    losses = losses_of_descent(oracles()[FAMILY + "opl"], {"lam": 2.0})
    assert losses[-1] < 0.8 * losses[0]
