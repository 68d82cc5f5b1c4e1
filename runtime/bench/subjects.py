"""The variants of an objective as losses of a batch, and the batch."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

import lossc
from lossc.runtime.backends.choose import is_available
from lossc.runtime.bench.rows import DTYPES, Task
from lossc.runtime.examples import example_inputs

Batch = dict[str, Tensor]
Loss = Callable[[Batch], Tensor]
Maker = Callable[[], Loss]

LEARNED = "learn "
"""What the names of gradients of learned parameters begin with."""

ON_HEADS = "it takes a linear head: `--path linear`"

PLAIN = 1 << 24
"""Entries of a batch up to which gradients in double precision come from the objective as one expression."""


@dataclass(frozen=True)
class Ours:
    """A loss that is an objective, which may learn parameters of its own."""

    objective: lossc.Objective
    run: Loss

    def __call__(self, batch: Batch) -> Tensor:
        return self.run(batch)


def learned(loss: Loss) -> dict[str, Tensor]:
    """What a loss learns itself, by the name of its gradient."""
    return {LEARNED + name: held for name, held in loss.objective.learn.items()} if isinstance(loss, Ours) else {}


def loaded(task: Task, backend: str = "reference") -> lossc.Objective:
    """The objective; labels are drawn in range and not checked again in every step."""
    params: dict[str, Any] = dict(task.overrides)
    return lossc.load(task.file, backend=backend, check_labels=False, **params)


def drawn(task: Task, baselines: ModuleType | None) -> Batch:
    """A batch of the task's extents: every entry of a mask over rows admitted but for the share that is ignored."""
    objective = loaded(task)
    dtype = getattr(torch, DTYPES[task.dtype])
    batch = example_inputs(objective, task.sizes, dtype=dtype)
    generator = torch.Generator().manual_seed(1)
    for name, info in objective.program.tensors.items():
        if info.kind.name == "mask":
            batch[name] = torch.rand(batch[name].shape, generator=generator) >= task.ignored
    likely = getattr(baselines, "BATCHES", {}).get(objective.name)
    if likely is not None:
        with torch.no_grad():
            batch = likely(batch)
    if task.path == "linear":
        batch = dict(_with_heads(batch, objective, task.features, generator))
    return {name: _moved(tensor, task.device) for name, tensor in batch.items()}


def _with_heads(
    batch: Batch, objective: lossc.Objective, features: int, generator: torch.Generator
) -> Iterator[tuple[str, Tensor]]:
    """Hidden states and weights, `NAME.hidden` and `NAME.weight`, in place of scores."""
    for name, tensor in batch.items():
        if objective.program.tensors[name].kind.name != "logits":
            yield name, tensor
            continue
        shapes = {"hidden": (*tensor.shape[:-1], features), "weight": (tensor.shape[-1], features)}
        for part, shape in shapes.items():
            drawn_ = torch.randn(shape, generator=generator) * (features**-0.5 if part == "weight" else 1.0)
            yield f"{name}.{part}", drawn_.to(tensor.dtype).requires_grad_(tensor.requires_grad)


def heads_of(batch: Batch) -> list[str]:
    """The scores of a batch that heads make."""
    return [name.removesuffix(".hidden") for name in batch if name.endswith(".hidden")]


def given(batch: Batch, *, formed: bool) -> dict[str, Any]:
    """What an objective is called with: heads, or the scores that they make."""
    found: dict[str, Any] = {name: x for name, x in batch.items() if not name.endswith((".hidden", ".weight"))}
    for name in heads_of(batch):
        head = lossc.Linear(batch[f"{name}.hidden"], batch[f"{name}.weight"])
        found[name] = head.logits() if formed else head
    return found


def _moved(tensor: Tensor, device: str) -> Tensor:
    return tensor.detach().to(device).requires_grad_(tensor.requires_grad)


def makers(task: Task, baselines: ModuleType | None) -> Iterator[tuple[str, Maker | str]]:
    """Each variant asked for: what makes it, from the text on, or why there is none."""
    known: dict[str, Maker] = {
        "eager": lambda: _of(task, "reference"),
        "compile": lambda: _compiled(task),
        "torch": lambda: _of(task, "torch"),
        "c": lambda: _of(task, "c"),
        "again": lambda: _again(task),
        "triton": lambda: _of(task, "triton"),
    }
    name = loaded(task).name
    by_hand = {"terms": getattr(baselines, "TERMS", {}), **getattr(baselines, "LINEAR", {})}
    for variant in task.variants:
        if variant == "terms" or variant not in known:
            yield variant, _by_hand(variant, by_hand.get(variant, {}).get(name), task)
        elif variant == "triton" and task.device == "cpu":
            yield variant, "it needs a GPU"
        elif variant in ("c", "again") and (task.device != "cpu" or not is_available("c")):
            yield variant, "it needs the CPU and a C compiler"
        elif variant == "again" and task.path != "linear":
            yield variant, ON_HEADS
        else:
            yield variant, known[variant]


def _by_hand(variant: str, loss: Loss | None, task: Task) -> Maker | str:
    """A loss that was written by hand."""
    if loss is None:
        what = "sum of library calls" if variant == "terms" else "call"
        return f"no {what} is known for this objective"
    if variant == "liger" and importlib.util.find_spec("liger_kernel") is None:
        return "it needs liger-kernel: `pip install 'lossc[bench]'`"
    if variant != "terms":
        return (lambda: loss) if task.path == "linear" else ON_HEADS
    return lambda: lambda batch: loss(given(batch, formed=True))


def _of(task: Task, backend: str) -> Loss:
    objective = loaded(task, backend)
    return Ours(objective, lambda batch: objective(given(batch, formed=backend == "reference")).loss)


def _again(task: Task) -> Loss:
    """Terms one by one: what reaches each of them is not known beforehand."""
    objective = loaded(task, "c")

    def loss(batch: Batch) -> Tensor:
        return torch.stack(list(objective(given(batch, formed=False), per_term=True).terms.values())).sum()

    return Ours(objective, loss)


def _compiled(task: Task) -> Loss:
    objective = loaded(task)

    def loss(batch: Batch) -> Tensor:
        found: Tensor = objective(given(batch, formed=True)).loss
        return found

    return Ours(objective, torch.compile(loss, fullgraph=True, dynamic=False))


def exact(task: Task, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients in double precision at the very same numbers; block by block where eager torch would take too much."""
    entries = sum(prod(tensor.shape) for tensor in batch.values())
    objective = loaded(task, "reference" if entries <= PLAIN else "torch").double()
    wide = {
        n: x.detach().double().requires_grad_(x.requires_grad) if x.is_floating_point() else x for n, x in batch.items()
    }
    loss = objective(given(wide, formed=False)).loss
    loss.backward()
    sources = wide | {LEARNED + name: held for name, held in objective.learn.items()}
    return loss.detach(), {name: x.grad for name, x in sources.items() if x.grad is not None}


def module_of(path: str | None) -> ModuleType | None:
    """The file with `TERMS` and `BATCHES`: the one named, or that of the repository that lossc runs in."""
    beside = Path(lossc.__file__).resolve().parents[2] / "benchmarks" / "baselines.py"
    file = Path(path) if path else beside
    if not path and not file.exists():
        return None
    spec = importlib.util.spec_from_file_location("lossc_baselines", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
