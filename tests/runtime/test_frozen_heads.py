"""Streams that are read together stay together. A head that no gradient reaches and that is read with no other comes first:
its scores are made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import lossc
from lossc.compiler.table import Table
from lossc.compiler.table.blocks import components
from lossc.runtime.backends import heads, passage
from lossc.runtime.backends.projection import Projection

O11 = (Path(__file__).parents[2] / "benchmarks" / "o11_dpo_reference.loss").read_text(encoding="utf-8")
DISTILLATION = (
    "objective apart\nuse std.settings.distill\nuse std.ce (ce)\nminimize\n"
    "  fit : mean[b, t where mask]({fit})\n"
)  # fmt: skip


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "CPU_BYTES", 1)
    monkeypatch.setattr(passage, "SLICE_BYTES", 1)
    monkeypatch.setattr(heads, "_widening", lambda head: 0)


def table_of(text: str) -> Table:
    found: Table = lossc.loads(text, backend="torch").variant().run.__self__.headed(0).table  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (O11, [{"logits", "logits^"}, {"reference", "reference^"}]),
        (DISTILLATION.format(fit="ce(logits, labels) - ce(teacher, labels)"), [{"logits", "logits^"}, {"teacher", "teacher^"}]),
        (DISTILLATION.format(fit="sum[v](softmax[v](teacher) * logits)"), None),
        (DISTILLATION.format(fit="ce(logits, labels) * max[v](logits - teacher)"), None),
        (DISTILLATION.format(fit="ce(logits, labels)"), None),
    ],
    ids=["DPO", "difference", "product", "one statistic of both", "no other"],
)
def test_what_is_read_together_stays_together(text: str, parts: list[set[str]] | None) -> None:
    table = table_of(text)
    found = components(table)
    if parts is None:
        assert len(found) == 1
    else:
        assert [{stream.name for stream in each.streams} for each in found] == parts
        assert {s.name for each in found for s in each.statistics} == {s.name for s in table.statistics}


def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "hidden": drawn(3, 2, 4, 5).requires_grad_(), "weight": drawn(11, 5).requires_grad_(), "frozen": drawn(3, 2, 4, 6),
        "other": drawn(11, 6), "labels": torch.randint(-1, 11, (3, 2, 4), generator=generator),
        "mask": torch.rand(3, 2, 4, generator=generator) < 0.8,
    }  # fmt: skip


def expected(x: dict[str, Tensor]) -> Tensor:
    """-log sigmoid(0.1 * margin) over pairs, of log p - log ref of sequences."""
    counted = x["mask"] & (x["labels"] >= 0)

    def likelihood(hidden: Tensor, weight: Tensor) -> Tensor:
        logp = (hidden @ weight.T).log_softmax(-1).gather(-1, x["labels"].clamp(min=0).unsqueeze(-1)).squeeze(-1)
        return torch.where(counted, logp, 0.0).sum(-1)

    gain = likelihood(x["hidden"], x["weight"]) - likelihood(x["frozen"], x["other"])
    return -torch.nn.functional.logsigmoid(0.1 * (gain[:, 0] - gain[:, 1])).mean()


@pytest.mark.parametrize("backend", ["c", "torch"])
@pytest.mark.parametrize(("rows", "made"), [(8, 3 + 3), (3, 12 + 12 + 12)], ids=["with the block", "made again"])
def test_a_reference_is_multiplied_once(backend: str, rows: int, made: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 8 rows hold a pair: 3 of each head. Blocks of 3 do not: 12 of each, and those of the policy again."""
    monkeypatch.setattr(heads, "CPU_ROWS", rows)
    count = 0
    scores = Projection.scores

    def counted(self: Projection, hidden: Tensor, own: Tensor | None) -> Tensor:
        nonlocal count
        count += 1
        return scores(self, hidden, own)

    monkeypatch.setattr(Projection, "scores", counted)
    x = batch()
    wanted = torch.autograd.grad(expected(x), (x["hidden"], x["weight"]))
    objective = lossc.loads(O11, backend=backend)
    policy, reference = lossc.Linear(x["hidden"], x["weight"]), lossc.Linear(x["frozen"], x["other"])
    loss = objective(logits=policy, reference=reference, labels=x["labels"], mask=x["mask"]).loss
    found = torch.autograd.grad(loss, (x["hidden"], x["weight"]))
    assert count == made
    assert torch.allclose(loss, expected(x), rtol=1e-12)
    assert all(torch.allclose(mine, own, rtol=1e-9, atol=1e-12) for mine, own in zip(found, wanted, strict=True))


@pytest.mark.parametrize("name", ["distillation/nd", "ot/sinkd"])
@pytest.mark.parametrize("backend", ["torch", "c"])
def test_a_statistic_of_the_rows_of_two_streams(name: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of one stream read at the labels of the other, and distances of all pairs of their rows."""
    monkeypatch.setattr(heads, "CPU_ROWS", 3)
    file = Path(__file__).parents[2] / "specs" / "zoo" / f"{name}.loss"
    generator = torch.Generator().manual_seed(5)
    hidden, weight = (torch.randn(rows, 4, generator=generator, dtype=torch.float64, requires_grad=True) for rows in (7, 9))
    found = []
    for each in (backend, "reference"):
        objective = lossc.load(file, backend=each).double()
        given = lossc.example_inputs(objective, {"b": 7, "v": 9}, dtype=torch.float64)
        head = lossc.Linear(hidden, weight)
        loss = objective({**given, "logits": head.logits() if each == "reference" else head}).loss
        found.append([loss, *torch.autograd.grad(loss, (hidden, weight))])
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)
