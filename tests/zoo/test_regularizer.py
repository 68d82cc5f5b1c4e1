"""What the works of the family `regularizer` claim."""

from __future__ import annotations

import torch
from tests.oracles.batches import classes
from tests.zoo.harness import Tensors, objective_of, oracles, run_spec
from tests.zoo.oracles.regularizer import with_weights


def weighted(form: str, weights: dict[str, torch.Tensor]) -> float:
    """The penalty on these weights: the loss less cross-entropy, without biases."""
    batch: Tensors = dict(classes(2))
    batch |= with_weights(batch, 2)
    flat = {name: torch.zeros(4, dtype=torch.float64) for name in ("0.bias", "2.bias")}
    old = {name: torch.arange(float(w.numel()), dtype=torch.float64).reshape(w.shape) for name, w in weights.items()}
    found = run_spec(
        objective_of("zoo/regularizer/spectral", form=form), {**batch, "w": weights, "w_0": old, "b_0": flat}
    )
    return float(found.value - torch.nn.functional.cross_entropy(batch["logits"], batch["labels"]))


def test_matrices_with_largest_singular_value_one_cost_nothing() -> None:
    turned = torch.linalg.qr(torch.arange(9.0, dtype=torch.float64).reshape(3, 3).cos())[0]
    shrunk = turned @ torch.diag(torch.tensor([1.0, 0.3, 0.1], dtype=torch.float64)) @ turned.T
    assert abs(weighted("spectral", {"0.weight": turned, "2.weight": shrunk})) < 1e-12
    assert weighted("spectral", {"0.weight": 2 * turned, "2.weight": shrunk}) > 1e-4


def test_a_permutation_of_the_initial_weights_costs_nothing() -> None:
    initial = torch.arange(12.0, dtype=torch.float64)
    assert abs(weighted("wasserstein", {"0.weight": initial.flip(0).reshape(4, 3)})) < 1e-12
    assert weighted("wasserstein", {"0.weight": (initial + 0.1).reshape(4, 3)}) > 1e-5


def test_prompts_that_change_nothing_cost_nothing() -> None:
    """Where prompted and frozen features are equal only the cross-entropy is left, and its gradient."""
    batch = oracles()["zoo/regularizer/prompt_src"].batch(3, "plain")
    batch |= {"text_0": batch["text"], "image_0": 3 * batch["image"]}
    terms = objective_of("zoo/regularizer/prompt_src")(**batch).terms
    for name in ("text", "image", "logits"):
        torch.testing.assert_close(terms[name], torch.zeros(()).double(), rtol=0, atol=1e-12)


def test_without_noise_only_cross_entropy_is_left() -> None:
    batch = oracles()["zoo/regularizer/noise_fit"].batch(3, "plain")
    batch |= {"noisy_1": batch["logits"], "noisy_2": batch["logits"]}
    found = run_spec(objective_of("zoo/regularizer/noise_fit", alpha=0.3), batch)
    nll = torch.nn.functional.cross_entropy(batch["logits"][batch["mask"]], batch["labels"][batch["mask"]])
    torch.testing.assert_close(found.value, 0.3 * nll)
    for name in ("noisy_1", "noisy_2"):
        torch.testing.assert_close(found.gradients[name], torch.zeros_like(batch["logits"]), rtol=0, atol=1e-12)
