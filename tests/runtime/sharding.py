"""Run by `test_sharded` in several processes: a head that is split over them against the whole one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from tests.runtime import fused_cases as cases
from torch import Tensor, distributed

import lossc
from lossc.runtime.backends import heads

TEXTS = {
    **{name: text for name, text in cases.TEXTS.items() if name != "what is computed"},
    "positions": "\nminimize\n  cost : mean[b, t where mask](sum[v](softmax[v](logits) * abs(index[v] - labels)) / size[v])\n",
    "top": "\nminimize\n  top : mean[b, t where mask](max[v](logits) - logits[v = labels])\nmonitor\n"
    "  right : mean[b, t where mask](argmax[v](logits) == labels)\n",
}
CLASSES = ("bias", "weight", "keep", "allowed", "targets", "teacher")
"""Tensors with the class axis, of which a rank has its part."""


def ends(v: int, size: int) -> list[int]:
    """Parts of unequal sizes."""
    return [*(round(v * at / size) for at in range(size)), v]


def outcome(text: str, part: tuple[int, int], group: distributed.ProcessGroup | None, backend: str) -> dict[str, Tensor]:
    """Values, and the gradients of hidden states, of the rank's rows of the weights, and of learned parameters."""
    start, stop = part
    batch = cases.batch(v=11)
    torch.manual_seed(2)
    leaves = {"hidden": torch.randn(2, 3, 4, dtype=torch.float64), "weight": torch.randn(11, 4, dtype=torch.float64),
              "other": torch.randn(2, 3, 3, dtype=torch.float64), "teach": torch.randn(11, 3, dtype=torch.float64)}  # fmt: skip
    for name in ("weight", "teach"):
        leaves[name] = leaves[name][start:stop].clone()
    for leaf in leaves.values():
        leaf.requires_grad_()
    objective = lossc.loads(cases.HEAD + text, backend=backend)
    rest = {name: x for name, x in batch.items() if name in objective.program.tensors and name != "logits"}
    for name in CLASSES:
        if name in rest:
            rest[name] = rest[name][..., start:stop].clone()
    rest["logits"] = lossc.Linear(leaves["hidden"], leaves["weight"], group=group, scale=1.3)  # type: ignore[assignment]
    if "teacher" in rest:
        rest["teacher"] = lossc.Linear(leaves["other"], leaves["teach"], group=group)  # type: ignore[assignment]
    result = objective(rest)
    result.loss.backward()
    gradients = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    learned = {name: p.grad for name, p in objective.learn.items() if p.grad is not None}
    return {**gradients, **learned, **result.terms, **result.monitors}


def main(folder: str, rank: int, size: int) -> None:
    torch.set_num_threads(1)
    heads.CPU_BYTES, heads.CPU_ROWS = 1, 4
    distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=size)
    group = distributed.group.WORLD
    assert group is not None
    at = ends(11, size)
    worst: dict[str, float] = {}
    for name, text in TEXTS.items():
        found = outcome(text, (at[rank], at[rank + 1]), group, "auto")
        expected = outcome(text, (0, 11), None, "reference")
        for key in ("weight", "teach"):
            if key in expected:
                expected[key] = expected[key][at[rank] : at[rank + 1]]
        assert found.keys() == expected.keys(), (name, found.keys(), expected.keys())
        worst[name] = max(float((found[key] - expected[key]).abs().max()) for key in expected)
    Path(folder, f"{rank}.json").write_text(json.dumps(worst), encoding="utf-8")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
