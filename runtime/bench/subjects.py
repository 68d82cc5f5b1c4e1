"""The variants of an objective as losses of a batch, and the batch."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
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

PLAIN = 1 << 24
"""Entries of a batch up to which gradients in double precision come from the objective as one expression."""


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
    return {name: _moved(tensor, task.device) for name, tensor in batch.items()}


def _moved(tensor: Tensor, device: str) -> Tensor:
    return tensor.detach().to(device).requires_grad_(tensor.requires_grad)


def makers(task: Task, baselines: ModuleType | None) -> Iterator[tuple[str, Maker | str]]:
    """Each variant asked for: what makes it, from the text on, or why there is none."""
    known: dict[str, Maker] = {
        "eager": lambda: _of(task, "reference"),
        "compile": lambda: _compiled(task),
        "torch": lambda: _of(task, "torch"),
        "c": lambda: _of(task, "c"),
    }
    terms = getattr(baselines, "TERMS", {}).get(loaded(task).name)
    for variant in task.variants:
        if variant == "terms":
            yield variant, (lambda: terms) if terms is not None else "no sum of library calls is known for this objective"
        elif variant == "c" and (task.device != "cpu" or not is_available("c")):
            yield variant, "it needs the CPU and a C compiler"
        else:
            yield variant, known[variant]


def _of(task: Task, backend: str) -> Loss:
    objective = loaded(task, backend)
    return lambda batch: objective(batch).loss


def _compiled(task: Task) -> Loss:
    compiled = torch.compile(loaded(task), fullgraph=True, dynamic=False)
    return lambda batch: compiled(batch).loss


def exact(task: Task, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The gradients in double precision at the very same numbers; block by block where eager torch would take too much."""
    entries = sum(prod(tensor.shape) for tensor in batch.values())
    objective = loaded(task, "reference" if entries <= PLAIN else "torch")
    wide = {n: x.detach().double().requires_grad_(x.requires_grad) if x.is_floating_point() else x for n, x in batch.items()}
    objective(wide).loss.backward()
    return {name: x.grad for name, x in wide.items() if x.grad is not None}


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
