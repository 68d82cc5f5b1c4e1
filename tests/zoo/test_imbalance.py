"""What the works of the family `imbalance` claim."""

from __future__ import annotations

import pytest
import torch
from tests.oracles.batches import tokens
from tests.zoo.harness import objective_of, run_spec
from tests.zoo.oracles.imbalance import binary

METRICS = {
    "accuracy": lambda tp, fn, fp, tn: (tp + tn) / (tp + fn + fp + tn),
    "f_beta": lambda tp, fn, fp, tn: 2 * tp / (2 * tp + fp + fn),
    "g_mean": lambda tp, fn, fp, tn: (tp / (tp + fn) * tn / (tn + fp)) ** 0.5,
    "balanced": lambda tp, fn, fp, tn: (tp / (tp + fn) + tn / (tn + fp)) / 2,
}


@pytest.mark.parametrize("metric", METRICS)
def test_with_much_amplification_the_loss_is_one_minus_the_metric(metric: str) -> None:
    batch = binary(4, "plain")
    y, hit = batch["y"], batch["z"] > 0
    counts = [int((a & b).sum()) for a, b in ((y, hit), (y, ~hit), (~y, hit), (~y, ~hit))]
    found = run_spec(objective_of("zoo/imbalance/anyloss", metric=metric, L=1e7), batch).value
    assert float(found) == pytest.approx(1 - METRICS[metric](*counts), abs=1e-9)


def test_dice_of_sure_predictions_is_one_minus_f1() -> None:
    """With probabilities 0 and 1 and little smoothing, soft dice is the F1 of each class."""
    batch = tokens(4, b=6, v=3)
    batch["mask"][:] = True
    predicted = batch["logits"].argmax(-1)
    sure = {**batch, "logits": 1e3 * torch.nn.functional.one_hot(predicted, 3).double()}
    labels = batch["labels"]
    f1 = []
    for c in range(3):
        tp = int(((predicted == c) & (labels == c)).sum())
        f1.append(2 * tp / (int((predicted == c).sum()) + int((labels == c).sum())))
    found = run_spec(objective_of("zoo/imbalance/dice", form="dice", gamma=1e-9), sure).value
    assert float(found) == pytest.approx(1 - sum(f1) / 3, abs=1e-6)


def test_tversky_of_halves_is_dice_of_plain_sums() -> None:
    batch = tokens(4, b=6, v=3)
    p = batch["logits"][batch["mask"]].softmax(-1)
    y = torch.nn.functional.one_hot(batch["labels"][batch["mask"]], 3)
    g = 0.2
    expected = 1 - (2 * (p * y).sum(0) + 2 * g) / (p.sum(0) + y.sum(0) + 2 * g)
    found = run_spec(objective_of("zoo/imbalance/dice", form="tversky", gamma=g), batch).value
    torch.testing.assert_close(found, expected.mean())


def test_easy_examples_count_less() -> None:
    """The gradient on a well-classified negative falls with alpha."""
    batch = tokens(4, b=1, t=1, v=2)
    batch |= {"logits": torch.tensor([[[5.0, -5.0]]], dtype=torch.float64), "labels": torch.tensor([[0]])}
    plain, adjusted = (
        run_spec(objective_of("zoo/imbalance/dice", alpha=alpha), batch).gradients["logits"].abs().max() for alpha in (0, 1)
    )
    assert adjusted > 0
    assert plain > 0
