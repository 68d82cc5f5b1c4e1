"""Quantities given in place of what they are computed from, also inside larger sums and products."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import lossc
from lossc.grammar import format_source
from lossc.grammar.source import Source

OF_TOKENS = "use std.settings.tokens\ndata m : real[b, t]\nminimize\n  f : mean[b, t where mask]({})\n"
OF_ROLLOUTS = "use std.settings.rollouts\nminimize\n  f : mean[q, sample, t where mask]({})\n"


@pytest.mark.parametrize(
    "expression", ["nll - m", "nll + nll^2 - m", "(nll - m)^2", "m * (nll - 1)", "2 * nll - m", "exp(-nll) - m"]
)
def test_a_quantity_inside_a_larger_sum(expression: str) -> None:
    objective = lossc.loads(OF_TOKENS.format(expression), backend="reference")
    batch = lossc.example_inputs(objective, seed=1)
    logits = batch.pop("logits").detach()
    nll = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), batch["labels"], reduction="none", ignore_index=-100
    )
    whole = objective(logits=logits, **batch)
    found = objective(nll=nll.requires_grad_(), **batch)
    torch.testing.assert_close(found.loss, whole.loss)
    found.loss.backward()
    assert nll.grad is not None and nll.grad.any()


@pytest.mark.parametrize(
    "expression", ["-logp", "2 * logp - ref_logp", "logp * old_logp * ref_logp", "ratio * advantage * 2"]
)
def test_a_quantity_inside_a_larger_product(expression: str) -> None:
    """`logp` is -1 times a cross-entropy, whose factor joins others."""
    objective = lossc.loads(OF_ROLLOUTS.format(expression), backend="reference")
    batch = lossc.example_inputs(objective, seed=1)
    logp = (
        torch.log_softmax(batch["logits"].detach(), -1)
        .gather(-1, batch["labels"].clamp(min=0).unsqueeze(-1))
        .squeeze(-1)
    )
    whole = objective(batch)
    found = objective({name: x for name, x in batch.items() if name != "logits"}, logp=logp)
    torch.testing.assert_close(found.loss, whole.loss.detach())


def test_an_error_does_not_offer_what_is_given() -> None:
    objective = lossc.loads("use std.settings.tokens\nminimize\n  f : mean[b, t](nll) + mean[b, t, v](logits^2)\n")
    batch = lossc.example_inputs(objective)
    with pytest.raises(lossc.LosscError) as raised:
        objective(nll=batch["logits"].detach().amax(-1), labels=batch["labels"])
    (problem,) = raised.value.diagnostics
    assert problem.code == "E701" and not any("nll" in line for line in problem.help)


def test_a_position_of_what_is_given_with_nothing_absent() -> None:
    """Without labels every entry of `nll` is there, on either side."""
    text = "minimize\n  f : mean[pair](sum[t where mask[side = chosen]](nll[side = chosen]))\n"
    objective = lossc.loads("use std.settings.pairs\n" + text, backend="reference")
    nll, mask = torch.rand(3, 2, 4), torch.arange(4) < torch.tensor([[4], [1], [2]])
    found = objective(nll=nll, mask=torch.stack([mask, ~mask], 1))
    torch.testing.assert_close(found.loss, (nll[:, 0] * mask).sum(-1).mean())


def test_the_order_of_dimensions(tmp_path: Path) -> None:
    """Axes of settings, then those of `axis` lines, of tensors, and made ones, in either surface."""
    text = """
axis k
use std.settings.tokens
input e : real[b, k, d]
let u = sum[d](e) * nll
let s = sum[d](e * e[b -> j])
minimize
  f : mean[b, t where mask](sum[k](u^2)) + mean[b, j, k](s)
"""
    other = tmp_path / "f.yaml"
    other.write_text(format_source(Source("f.loss", text), "yaml"), encoding="utf-8")
    for objective in (lossc.loads(text), lossc.load(other)):
        assert {name: let.order for name, let in objective.program.lets.items() if name != "nll"} == {
            "u": ("b", "t", "k"), "s": ("b", "k", "j"),
        }  # fmt: skip
        batch = lossc.example_inputs(objective, sizes={"b": 2, "t": 3, "k": 4, "d": 5, "v": 6}, seed=1)
        nll = -batch["logits"].log_softmax(-1).gather(-1, batch["labels"].clamp(min=0)[..., None])
        u = torch.where(batch["labels"][..., None] < 0, 0, nll * batch["e"].sum(-1)[:, None])
        found = objective({name: x for name, x in batch.items() if name != "logits"}, u=u.detach())
        torch.testing.assert_close(found.loss, objective(batch).loss)
