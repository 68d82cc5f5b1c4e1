"""Run by `test_data_parallel` in several processes: each has a part of a batch, and DDP averages their gradients."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import torch
from tests.runtime import fused_cases as cases
from tests.runtime.process_group import joined
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

import lossc
from lossc import Denominators

ROWS = 5
PARTS = ((slice(0, 2),), (slice(2, 3), slice(3, 5)))
"""The rows of each rank, micro-batch by micro-batch."""

ONCE = "\nminimize\n  nll : mean[b, t where mask](ce(logits * heat, labels))\n  pull : 0.3 * heat^2\n"
RUNS = {"columns": (cases.TEXTS["columns"], "c"), "masks": (cases.TEXTS["masks"], "torch"), "once a step": (ONCE, "torch")}
WHOLE = ("bias", "weight", "allowed")
"""Tensors without the batch axis."""


class Model(nn.Module):
    """Scores from hidden states, and the objective on them; parameters of both are trained."""

    def __init__(self, text: str, backend: str) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.head = nn.Linear(4, 7, dtype=torch.float64)
        self.objective = lossc.loads(cases.HEAD + text, backend=backend).double()

    def forward(self, batch: dict[str, Tensor], whole: Denominators | None) -> Tensor:
        names = self.objective.program.tensors
        given = {name: x for name, x in batch.items() if name in names}
        result = self.objective(given, logits=self.head(batch["hidden"]), denominators=whole)
        loss: Tensor = result.loss
        return loss


def batch() -> cases.Batch:
    drawn = cases.batch(b=ROWS)
    drawn["mask"][3] = False
    del drawn["logits"]
    return {**drawn, "hidden": torch.randn(ROWS, 3, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)}


def part(whole: cases.Batch, rows: slice) -> cases.Batch:
    return {name: x if name in WHOLE else x[rows] for name, x in whole.items()}


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name.removeprefix("module."): p.grad for name, p in model.named_parameters() if p.grad is not None}


def of_one_process(text: str) -> dict[str, Tensor]:
    model = Model(text, "reference")
    model(batch(), None).backward()
    return gradients(model)


def of_ranks(text: str, backend: str, rank: int, size: int) -> dict[str, Tensor]:
    """The denominators of all parts are added up beforehand; as DDP takes the mean over ranks, losses are multiplied."""
    model = Model(text, backend)
    parts = [part(batch(), rows) for rows in PARTS[rank]]
    names = model.objective.program.tensors
    own = sum(model.objective.denominators({n: x for n, x in each.items() if n in names}) for each in parts)
    every: list[Denominators] = [Denominators({})] * size
    distributed.all_gather_object(every, own)
    whole = sum(every[1:], every[0])
    parallel = DistributedDataParallel(model, find_unused_parameters=True)
    for at, each in enumerate(parts):
        with contextlib.nullcontext() if at == len(parts) - 1 else parallel.no_sync():
            (size * parallel(each, whole)).backward()
    return gradients(parallel)


def main(folder: Path, rank: int, size: int) -> None:
    torch.set_num_threads(1)
    worst: dict[str, float] = {}
    with joined(folder, rank, size):
        for name, (text, backend) in RUNS.items():
            expected, found = of_one_process(text), of_ranks(text, backend, rank, size)
            assert found.keys() == expected.keys(), (name, found.keys(), expected.keys())
            worst[name] = max(float((found[key] - expected[key]).abs().max()) for key in expected)
    (folder / f"{rank}.json").write_text(json.dumps(worst), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
