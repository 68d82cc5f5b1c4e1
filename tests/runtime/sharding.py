"""Run by `test_sharded` in several processes: a head that is split over them against the whole one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from tests.runtime import fused_cases as cases
from tests.runtime.process_group import joined
from torch import Tensor, distributed

import lossc
from lossc.runtime.backends import heads
from lossc.runtime.backends.kernel_calls import KernelCalls, Written

TEXTS = {
    **{name: text for name, text in cases.TEXTS.items() if name != "what is computed"},
    "positions": "\nminimize\n  cost : mean[b, t where mask](sum[v](softmax[v](logits) * abs(index[v] - labels)) / size[v])\n",
    "other masks": "\nminimize\n  gap : mean[b, t where mask](max[v where allowed](logits) - max[v where keep](logits))\n"
    "  all : mean[b, t where mask](logsumexp[v where keep](logits + bias) * max[v where allowed](logits))\n",
    "top": "\nminimize\n  top : mean[b, t where mask](max[v](logits) - logits[v = labels])\nmonitor\n"
    "  right : mean[b, t where mask](argmax[v](logits) == labels)\n",
}
CLASSES = ("bias", "weight", "keep", "allowed", "targets", "teacher")
"""Tensors with the class axis, of which a rank has its part."""


SPLIT = ("weight", "shift", "teach")
"""Parts of heads of which a rank has its rows."""

SEVERAL = ("four terms", "other masks", "top", "several labels")
"""Texts that more than two processes run, and that two run without kernels as well."""


def ends(v: int, size: int) -> list[int]:
    """Parts of unequal sizes."""
    return [*(round(v * at / size) for at in range(size)), v]


def outcome(
    text: str, part: tuple[int, int], group: distributed.ProcessGroup | None, backend: str,
    dtype: torch.dtype = torch.float64,
) -> dict[str, Tensor]:  # fmt: skip
    """Values, and the gradients of hidden states, of the rank's rows of the weights, and of learned parameters."""
    start, stop = part
    batch = cases.batch(v=11, dtype=dtype)
    torch.manual_seed(2)
    leaves = {"hidden": torch.randn(2, 3, 4, dtype=torch.float64), "weight": torch.randn(11, 4, dtype=torch.float64),
              "other": torch.randn(2, 3, 3, dtype=torch.float64), "teach": torch.randn(11, 3, dtype=torch.float64),
              "shift": torch.randn(11, dtype=torch.float64), "heat": torch.tensor(1.3, dtype=torch.float64)}  # fmt: skip
    for name in SPLIT:
        leaves[name] = leaves[name][start:stop].clone()
    leaves = {name: leaf.to(dtype).requires_grad_() for name, leaf in leaves.items()}
    objective = lossc.loads(cases.HEAD + text, backend=backend)
    rest = {name: x for name, x in batch.items() if name in objective.program.tensors and name != "logits"}
    for name in CLASSES:
        if name in rest:
            rest[name] = rest[name][..., start:stop].clone()
    head = lossc.Linear(leaves["hidden"], leaves["weight"], leaves["shift"], scale=leaves["heat"], softcap=9.0, group=group)
    rest["logits"] = head  # type: ignore[assignment]
    if "teacher" in rest:
        rest["teacher"] = lossc.Linear(leaves["other"], leaves["teach"], group=group)  # type: ignore[assignment]
    result = objective(rest)
    result.loss.backward()
    gradients = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    learned = {name: p.grad for name, p in objective.learn.items() if p.grad is not None}
    return {**gradients, **learned, **result.terms, **result.monitors}


def difference(found: dict[str, Tensor], expected: dict[str, Tensor], part: tuple[int, int]) -> float:
    """The largest, of the rank's rows of what is split."""
    own = {name: x[part[0] : part[1]] if name in SPLIT else x for name, x in expected.items()}
    assert found.keys() == own.keys(), (found.keys(), own.keys())
    return max(float((found[name].double() - own[name].double()).abs().max()) for name in own)


def main(folder: Path, rank: int, size: int) -> None:
    torch.set_num_threads(1)
    heads.CPU_BYTES, heads.CPU_ROWS = 1, 4
    at = ends(11, size)
    part = (at[rank], at[rank + 1])
    worst: dict[str, dict[str, float]] = {"c": {}, "torch": {}, "kernels": {}, "bf16": {}}
    called: list[str] = []
    kept = KernelCalls.call

    def calling(self: KernelCalls, function: Any, given: Any, wants: Any) -> Written:
        called.append(function)
        return kept(self, function, given, wants)

    KernelCalls.call = calling  # type: ignore[method-assign]
    with joined(folder, rank, size) as group:
        for name, text in TEXTS.items():
            if size > 2 and name not in SEVERAL:
                continue
            expected = outcome(text, (0, 11), None, "reference")
            called.clear()
            worst["c"][name] = difference(outcome(text, part, group, "c"), expected, part)
            worst["kernels"][name] = len(set(called))
            if size == 2 and name in SEVERAL:
                called.clear()
                worst["torch"][name] = difference(outcome(text, part, group, "torch"), expected, part)
                assert not called
            if size == 2 and name in ("four terms", "masks"):
                whole = outcome(text, (0, 11), None, "c", torch.bfloat16)
                worst["bf16"][name] = difference(outcome(text, part, group, "c", torch.bfloat16), whole, part)
    (folder / f"{rank}.json").write_text(json.dumps(worst), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
