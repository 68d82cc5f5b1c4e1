"""What the works of the family `unlearning` claim."""

from __future__ import annotations

import torch
from tests.zoo.harness import objective_of, oracles, run_spec

REFERENCE = "zoo/unlearning/simnpo"


def test_a_small_beta_is_gradient_ascent_on_average_log_probabilities() -> None:
    """As beta -> 0 with gamma = 0 the gradient is that of the mean log-probability a token: every sequence weighs 1."""
    batch = oracles()[REFERENCE].batch(3, "plain")
    found = run_spec(objective_of(REFERENCE, beta=1e-7, **{"lambda": 0}), batch).gradients["forget.logits"]
    logits = batch["forget.logits"].clone().requires_grad_()
    logp = logits.log_softmax(-1).gather(-1, batch["forget.labels"].unsqueeze(-1)).squeeze(-1)
    average = (logp * batch["forget.mask"]).sum(-1) / batch["forget.mask"].sum(-1)
    (ascent,) = torch.autograd.grad(average.mean(), logits)
    torch.testing.assert_close(found, ascent, rtol=1e-5, atol=1e-8)


def test_what_is_forgotten_already_weighs_little() -> None:
    """The weight of a sequence is 2 sigma(beta avg log pi): the surer the model still is, the larger."""
    batch = oracles()[REFERENCE].batch(3, "plain")
    labels = torch.nn.functional.one_hot(batch["forget.labels"], 7).double()
    slopes = []
    for sure in (6.0, 0.0, -6.0):
        given = {**batch, "forget.logits": sure * labels}
        slopes.append(float(run_spec(objective_of(REFERENCE), given).gradients["forget.logits"].abs().sum()))
    assert slopes[2] < 0.01 * slopes[1]


def test_no_reference_is_asked() -> None:
    assert not [name for name in objective_of(REFERENCE).program.tensors if "ref" in name]


def test_total_variation_bounds_the_loss() -> None:
    """|g(P)| <= tanh(1) / 2 of probabilities, whatever the logits are; the template is raised, the other answer lowered."""
    one = oracles()["zoo/unlearning/flat"]
    batch = one.batch(3, "plain")
    found = run_spec(objective_of(one.reference), batch)
    for stream, sign in (("template", -1), ("forget", 1)):
        own = found.gradients[f"{stream}.logits"].gather(-1, batch[f"{stream}.labels"].unsqueeze(-1)).squeeze(-1)
        assert (sign * own >= 0).all() and own.any()
    extreme = {name: 1e3 * x if name.endswith("logits") else x for name, x in batch.items()}
    bound = torch.tensor(1.0).tanh() / 2
    assert run_spec(objective_of(one.reference), extreme).value.abs() <= bound


def test_where_the_answers_are_equally_likely_no_divergence_is_negative() -> None:
    """g(v) - f*(g(v)) <= 0, the lower bound of a divergence of equal distributions."""
    batch = oracles()["zoo/unlearning/flat"].batch(3, "plain")
    for name in ("logits", "labels", "mask"):
        batch[f"forget.{name}"] = batch[f"template.{name}"]
    for f in ("total_variation", "kl", "jensen_shannon", "pearson"):
        assert run_spec(objective_of("zoo/unlearning/flat", f=f), batch).value >= -1e-12


def test_nothing_to_forget_changes_nothing() -> None:
    batch = oracles()["zoo/unlearning/dmm"].batch(3, "plain")
    batch |= {"forget": torch.zeros(5, dtype=torch.bool), "f": batch["f_0"]}
    found = run_spec(objective_of("zoo/unlearning/dmm"), batch)
    assert float(found.value) == 0
    assert not found.gradients["f"].any()
