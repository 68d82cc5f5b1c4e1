"""One measurement, in a process of its own: a task on stdin, events as lines of JSON on stdout."""

from __future__ import annotations

import gc
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

import lossc
from lossc.compiler.table import class_axes
from lossc.runtime.bench.memory import peak
from lossc.runtime.bench.rows import Row, Task
from lossc.runtime.bench.subjects import Batch, Loss, drawn, exact, loaded, losses, module_of

_PIECE = 1 << 22
"""Entries that are compared at once."""


@dataclass(frozen=True)
class Subject:
    """A variant that has run once: how long that took, what it needed, how exact its gradients are."""

    step: Callable[[], None]
    first: float
    peak_bytes: int = 0
    grad_error: float = 0.0


def main() -> None:
    task = Task.of(json.loads(sys.stdin.read()))
    warnings.simplefilter("ignore")
    for row in rows(task):
        _send({"event": "row", "row": row.to_record()})


def rows(task: Task) -> Iterable[Row]:
    """The rows of a task, once all variants have taken turns."""
    baselines = module_of(task.baselines)
    device = torch.device(task.device)
    _say("drawing the batch")
    batch = drawn(task, baselines)
    name = loaded(task).name
    makers = losses(task, baselines)
    _warm_up(makers)
    _say("gradients in double precision")
    g64 = exact(task, batch)
    subjects = {variant: _subject(variant, make, batch, g64, device) for variant, make in makers.items()}
    del g64
    gc.collect()
    best = _best({"floor": _floor(task, batch), **{variant: s.step for variant, s in subjects.items()}}, task.repeats, device)
    for variant, subject in subjects.items():
        yield Row(
            name, "logits", variant, task.dtype, task.allocator, best[variant] * 1e3, best["floor"] * 1e3,
            subject.peak_bytes, subject.grad_error, max(0.0, subject.first - best[variant]),
        )  # fmt: skip


def _warm_up(makers: Mapping[str, object]) -> None:
    """What every program of its kind pays once: imports, and torch's compiler if it is needed."""
    objective = lossc.loads("mse", setting="regression", backend="reference")
    objective(pred=torch.zeros(2, 2, requires_grad=True), target=torch.ones(2, 2)).loss.backward()
    if "compile" in makers:
        _say("starting torch.compile")
        torch.compile(lambda x: (x * 2).sum(), dynamic=False)(torch.ones(3, requires_grad=True)).backward()


def _subject(
    variant: str, make: Callable[[], Loss], batch: Batch, g64: Mapping[str, Tensor], device: torch.device
) -> Subject:  # fmt: skip
    _say(f"{variant}: first pass")
    start = time.perf_counter()
    loss = make()
    step = _stepping(loss, batch)
    step()
    _wait(device)
    subject = Subject(step, time.perf_counter() - start)
    error = max((_error(batch[name].grad, g) for name, g in g64.items()), default=0.0)
    step()
    _forget(batch)
    return replace(subject, peak_bytes=peak(step, device), grad_error=error)


def _stepping(loss: Loss, batch: Batch) -> Callable[[], None]:
    def step() -> None:
        _forget(batch)
        loss(batch).backward()  # type: ignore[no-untyped-call]

    return step


def _forget(batch: Batch) -> None:
    for tensor in batch.values():
        tensor.grad = None


def _error(found: Tensor | None, exact: Tensor) -> float:
    """norm(g - g64) / norm(g64)."""
    if found is None:
        return 1.0
    mine, own = found.flatten(), exact.flatten()
    difference = size = 0.0
    for at in range(0, own.numel(), _PIECE):
        piece = own[at : at + _PIECE]
        difference += float((mine[at : at + _PIECE].double() - piece).square().sum())
        size += float(piece.square().sum())
    return (difference / size) ** 0.5 if size else float(difference > 0)


def _floor(task: Task, batch: Batch) -> Callable[[], None]:
    """Reads every stream over the classes and writes every gradient, by copies into buffers that exist."""
    program = loaded(task).program
    axes = set(class_axes(program))
    wide = [batch[name] for name, info in program.tensors.items() if len(info.order) > 1 and axes & set(info.order)]
    written = [(tensor.detach(), torch.zeros_like(tensor)) for tensor in wide if tensor.requires_grad]
    read = [tensor.detach() for tensor in wide if not tensor.requires_grad]

    def step() -> None:
        for tensor, buffer in written:
            buffer.copy_(tensor)
        for tensor in read:
            tensor.amax(-1) if tensor.is_floating_point() else tensor.any(-1)

    return step


def _best(steps: Mapping[str, Callable[[], None]], repeats: int, device: torch.device) -> dict[str, float]:
    """The shortest time of each step; all take turns, so that a busy machine slows all alike."""
    best = dict.fromkeys(steps, float("inf"))
    for number in range(repeats):
        _say(f"round {number + 1} of {repeats}")
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            _wait(device)
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _say(text: str) -> None:
    _send({"event": "stage", "text": text})


def _send(event: Mapping[str, object]) -> None:
    print(json.dumps(event), flush=True)


if __name__ == "__main__":
    main()
