"""Heads whose classes are split over processes give what the whole head gives."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.runtime.process_group import joined
from torch import distributed

import lossc
from lossc import LosscError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("size", [2, 4])
def test_several_processes_are_one(size: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.runtime.sharding", str(tmp_path)]
    running = [subprocess.Popen([*command, str(rank), str(size)], cwd=ROOT, stderr=subprocess.PIPE) for rank in range(size)]
    said = [each.communicate(timeout=240)[1].decode() for each in running]
    assert [each.returncode for each in running] == [0] * size, "\n".join(said)[-3000:]
    for rank in range(size):
        found = json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8"))
        for backend in ("c", "torch"):
            assert found[backend] == {name: pytest.approx(0.0, abs=1e-12) for name in found[backend]}
        assert set(found["kernels"].values()) == {2}, "statistics and gradients of every text are those of kernels"
        assert all(error <= 2.0**-6 for error in found["bf16"].values())


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of this process."""
    with joined(tmp_path, 0, 1):
        yield


def test_what_needs_all_scores_of_a_row_says_so(alone: None) -> None:
    head = lossc.Linear(torch.zeros(2, 3, 4), torch.zeros(5, 4), group=distributed.group.WORLD)
    labels = torch.zeros(2, 3, dtype=torch.long)
    with pytest.raises(LosscError) as found:
        lossc.loads("nll", setting="tokens", backend="reference")(logits=head, labels=labels, mask=labels == 0)
    assert found.value.diagnostics[0].code == "E723"
    text = "mean[b, t](sum[r](sort[v -> r](logits) * index[r]))"
    objective = lossc.loads(text, setting="tokens", backend="torch")
    with pytest.raises(LosscError, match="split over ranks has no"):
        objective(logits=head)


@pytest.mark.parametrize("backend", ["torch", "c"])
@pytest.mark.parametrize(
    ("text", "sweeps"), [("nll + 0.1 * z_loss + 0.01 * entropy", 1), ("mean[b, t where mask](js(logits, 2 * logits))", 2)]
)
def test_the_number_of_collectives(
    text: str, sweeps: int, backend: str, alone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of maxima, one of sums for each sweep, and one for the gradient of hidden states; none where those are frozen."""
    called: list[Any] = []
    kept = distributed.all_reduce

    def reducing(tensor: torch.Tensor, op: Any, group: Any) -> None:
        called.append(op)
        kept(tensor, op, group)

    monkeypatch.setattr(distributed, "all_reduce", reducing)
    objective = lossc.loads(text, setting="tokens", backend=backend)
    weight, labels = torch.randn(5, 4, requires_grad=True), torch.zeros(2, 3, dtype=torch.long)
    for frozen in (True, False):
        called.clear()
        head = lossc.Linear(torch.randn(2, 3, 4, requires_grad=not frozen), weight, group=distributed.group.WORLD)
        given = {"labels": labels, "mask": labels == 0}
        objective(logits=head, **{name: x for name, x in given.items() if name in objective.variant().required}).loss.backward()
        assert called.count(distributed.ReduceOp.MAX) == 1
        assert called.count(distributed.ReduceOp.SUM) == sweeps + (not frozen)
