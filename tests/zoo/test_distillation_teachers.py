"""What the works of the family `distillation` claim about rankings, mean teachers and teachers that say little."""

from __future__ import annotations

import torch
from tests.oracles.batches import uniform
from tests.zoo.harness import objective_of, oracles, run_spec


def test_a_teacher_sure_of_the_first_text_gives_contrast() -> None:
    one = oracles()["zoo/distillation/llm_embedder"]
    batch = one.batch(3, "plain")
    batch["teacher"] = torch.tensor([1e3, 0, 0, 0]).double().expand(3, 4).contiguous()
    terms = objective_of(one.reference, tau=0.3)(**batch).terms
    torch.testing.assert_close(terms["distil"], terms["contrast"])


def test_texts_that_rank_before_are_no_negatives() -> None:
    """The gradient of -log of the last text's share does not push the first ones of its own query away."""
    one = oracles()["zoo/distillation/llm_embedder"]
    batch = one.batch(3, "plain")
    batch["teacher"] = torch.tensor([0, 0, 0, 1e3]).double().expand(3, 4).contiguous()
    for b in range(3):
        alone = {name: x[b : b + 1] for name, x in batch.items()}
        gradient = run_spec(objective_of(one.reference, tau=0.3, w_c=0), alone).gradients["key"]
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)


def test_teacher_and_student_may_change_places() -> None:
    """The symmetric cross-entropy of one view is the same both ways."""
    one = oracles()["zoo/distillation/rmt"]
    batch = one.batch(3, "plain")
    batch["logits"][:, 1] = batch["logits"][:, 0]
    swapped = batch | {"teacher": batch["logits"][:, 0], "logits": batch["teacher"].unsqueeze(1).expand(-1, 2, -1)}
    objective = objective_of(one.reference)
    torch.testing.assert_close(objective(**batch).terms["agree"], objective(**swapped).terms["agree"])


def expected_slope(learner: str, z: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """The mean gradient to the scores z of a single state, over labels that the teacher pi* samples."""
    n = len(teacher)
    batch = {"logits": z.expand(n, n).clone(), "labels": torch.arange(n), "teacher_logp": teacher.log()}
    slopes = run_spec(objective_of("zoo/distillation/sel", learner=learner), batch).gradients["logits"]
    return (n * teacher.unsqueeze(-1) * slopes).sum(0)


def test_the_naive_learner_is_biased_and_the_squared_error_is_not() -> None:
    """The expected gradient vanishes at the teacher for the squared error, and at its square for -pi* log pi."""
    teacher = uniform(5, seed=3).softmax(-1)
    nothing = torch.zeros(5).double()
    torch.testing.assert_close(expected_slope("sel", teacher.log(), teacher), nothing, rtol=0, atol=1e-12)
    torch.testing.assert_close(expected_slope("naive", 2 * teacher.log(), teacher), nothing, rtol=0, atol=1e-12)
    assert expected_slope("naive", teacher.log(), teacher).abs().max() > 1e-3


def test_the_heads_do_not_meet() -> None:
    """The teacher moves the auxiliary head alone, which rests where it has the teacher's logits, scale and all."""
    one = oracles()["zoo/distillation/dhkd"]
    batch = one.batch(3, "plain")
    moved = batch | {"teacher": batch["teacher"] + 1}
    objective = objective_of(one.reference)
    found, other = run_spec(objective, batch).gradients, run_spec(objective, moved).gradients
    torch.testing.assert_close(found["logits"], other["logits"])
    assert not torch.allclose(found["auxiliary"], other["auxiliary"])
    met = run_spec(objective, batch | {"auxiliary": batch["teacher"]}).gradients["auxiliary"]
    torch.testing.assert_close(met, torch.zeros_like(met), rtol=0, atol=1e-12)


def test_between_info_nce_and_a_free_bound() -> None:
    """alpha -> 1 is log n - InfoNCE, at most log n; alpha -> 0 is 1 + E log(e^f / q) - E e^f / q."""
    one = oracles()["zoo/distillation/mi_alpha"]
    batch = one.batch(3, "plain")
    x, y = (torch.nn.functional.normalize(batch[name], dim=-1) for name in ("h_T", "h_S"))
    f = 10 * x @ y.T
    inputs = {name: tensor for name, tensor in batch.items() if name != "log_q"}
    contrast, free = (objective_of(one.reference, alpha=a)(**inputs).monitors["information"] for a in (0.999, 0.001))
    nce = torch.tensor(5.0).double().log() - torch.nn.functional.cross_entropy(f, torch.arange(5))
    torch.testing.assert_close(contrast, nce, rtol=0, atol=0.01)
    mixed = 0.001 * f.exp().mean(-1) + 0.999
    torch.testing.assert_close(free, 1 + (f.diagonal() - mixed.log()).mean() - (f.exp() / mixed.unsqueeze(-1)).mean())
