"""What the works of the family `distillation` claim."""

from __future__ import annotations

import torch
from tests.oracles.batches import classes, uniform
from tests.zoo.harness import objective_of, run_spec
from tests.zoo.oracles.distillation import kl, with_teacher, with_vectors


def test_a_teacher_sure_of_the_label_gives_cross_entropy() -> None:
    """All confidence on the first of the ranking: alpha = (1, 0, ..., 0)."""
    batch = classes(2)
    teacher = 1e3 * torch.nn.functional.one_hot(batch["labels"], 7).double()
    found = run_spec(objective_of("zoo/distillation/pld"), {**batch, "teacher": teacher})
    torch.testing.assert_close(found.value, torch.nn.functional.cross_entropy(batch["logits"], batch["labels"]))


def test_a_flat_teacher_gives_list_mle() -> None:
    """All choices of the ranking weigh 1/K; the ranking is that of the teacher at any scale."""
    batch = classes(2, b=1)
    batch |= {"teacher": uniform(1, 7, seed=5)}
    y, s = int(batch["labels"]), batch["logits"][0]
    ranking = [y, *(k for k in batch["teacher"][0].argsort(descending=True).tolist() if k != y)]
    expected = sum(s[ranking[i:]].logsumexp(-1) - s[k] for i, k in enumerate(ranking)) / 7
    found = run_spec(objective_of("zoo/distillation/pld", T=1e12), batch).value
    torch.testing.assert_close(found, expected)


def test_adding_a_constant_to_the_student_is_free() -> None:
    batch = {**classes(2), "teacher": uniform(5, 7, seed=5)}
    objective = objective_of("zoo/distillation/pld")
    moved = {**batch, "logits": batch["logits"] + 100}
    torch.testing.assert_close(run_spec(objective, moved).value, run_spec(objective, batch).value)


def test_the_list_wise_loss_is_convex_in_the_student() -> None:
    batch = {**classes(2), "teacher": uniform(5, 7, seed=5)}
    objective = objective_of("zoo/distillation/pld")
    ends = [batch["logits"], 3 * uniform(5, 7, seed=11)]
    at = [float(run_spec(objective, {**batch, "logits": z}).value) for z in (*ends, (ends[0] + ends[1]) / 2)]
    assert at[2] <= (at[0] + at[1]) / 2


def test_without_the_reverse_divergence_it_is_forward_kl() -> None:
    """The student's gradient with a2 = 0 is that of cross-entropy and KL(teacher, student)."""
    batch = classes(2, b=8)
    batch |= with_teacher(batch, 2)
    batch["teacher"] = batch["teacher"] / 10  # a flat teacher: a1 = weak, a2 = strong
    found = run_spec(objective_of("zoo/distillation/bd_kd", strong=0, weak=1), batch).gradients["logits"]
    student = batch["logits"].clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(student, batch["labels"]) + kl(batch["teacher"], student).mean()
    torch.testing.assert_close(found, torch.autograd.grad(loss, student)[0])


def test_the_gradients_of_student_and_teacher_are_apart() -> None:
    """Changing the reverse tie of the teacher leaves the student's gradient as it is."""
    batch = classes(2)
    batch |= with_teacher(batch, 2)
    one, other = (run_spec(objective_of("zoo/distillation/bd_kd", b_tie=b), batch).gradients for b in (0, 5))
    torch.testing.assert_close(one["logits"], other["logits"])
    assert not torch.allclose(one["teacher"], other["teacher"])


def test_long_features_are_only_turned_and_short_ones_grow() -> None:
    batch = classes(2)
    batch |= with_vectors(batch, 2)
    objective = objective_of("zoo/distillation/nd")
    for scale, grows in ((10, False), (0.01, True)):
        batch["s"] = scale * uniform(5, 4, seed=8)
        e = batch["centre"][batch["labels"]]
        cos = torch.nn.functional.cosine_similarity(batch["s"], e, dim=-1)
        result = objective(**{name: x.clone().requires_grad_(name == "s") for name, x in batch.items()}, per_term=True)
        along = [(g * s).sum() for g, s in zip(run_spec(objective, batch).gradients["s"], batch["s"], strict=True)]
        if grows:
            assert all(bool(radial * c < 0) for radial, c in zip(along, cos, strict=True))
        else:
            torch.testing.assert_close(result.terms["nd"].detach(), 2 * (1 - cos).mean())
            torch.testing.assert_close(torch.stack(along), torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-12)
