"""What the works of the family `multiobjective` claim."""

from __future__ import annotations

import torch
from tests.zoo.harness import objective_of, oracles, run_spec


def test_tasks_that_look_elsewhere_have_no_entropy() -> None:
    """Where each place of the representation serves one of the tasks the penalty of Rep-MTL is 0, else at most log 2."""
    one = oracles()["zoo/multiobjective/rep_mtl"]
    objective, batch = objective_of(one.reference), one.batch(3, "plain")
    mixed = objective(**batch).monitors["entropy"]
    assert 0 < mixed <= torch.tensor(2.0).log()
    for name, unseen in (("classify", [0, 1]), ("regress", [2, 3])):
        head = batch[name] if name == "classify" else batch[name][0]
        with torch.no_grad():
            head[1].weight.unflatten(1, (3, 4))[..., unseen] = 0
    torch.testing.assert_close(objective(**batch).monitors["entropy"], torch.zeros(()).double(), rtol=0, atol=1e-9)


def test_the_penalties_train_the_heads_through_their_gradients() -> None:
    """Without the losses themselves the weights of both heads still move."""
    one = oracles()["zoo/multiobjective/rep_mtl"]
    batch = one.batch(3, "plain")
    plain, with_tsr = (run_spec(objective_of(one.reference, l_tsr=w, l_csa=0), batch).gradients for w in (0, 1))
    for name in ("classify.1.weight", "regress.0.1.weight"):
        assert not torch.allclose(plain[name], with_tsr[name])


def test_a_dictionary_is_the_sum_of_its_directions() -> None:
    one = oracles()["zoo/multiobjective/revdic"]
    batch = one.batch(3, "plain")
    perfect = batch | {"gloss": batch["word"], "embedding": batch["target"].unsqueeze(1).expand(-1, 2, -1)}
    terms = objective_of(one.reference)(**perfect).terms
    assert float(terms["shared"]) == float(terms["embedding"]) == 0
    torch.testing.assert_close(objective_of(one.reference)(**perfect).loss, terms["definition"])
