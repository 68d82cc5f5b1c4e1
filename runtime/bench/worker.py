"""Measurements in one process: tasks as lines of JSON on stdin, events as lines of JSON on stdout."""

from __future__ import annotations

import gc
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

import lossc
from lossc.compiler.program import Program
from lossc.compiler.table import class_axes
from lossc.runtime.bench.memory import peak
from lossc.runtime.bench.rows import Row, Task
from lossc.runtime.bench.subjects import (
    LEARNED,
    Batch,
    Loss,
    Maker,
    drawn,
    exact,
    heads_of,
    learned,
    loaded,
    makers,
    module_of,
)

Exact = tuple[Tensor, dict[str, Tensor]]
"""Loss and gradients in double precision."""

_PIECE = 1 << 22
"""Entries that are compared at once."""

SMALL = 16
"""Hidden states of a head in a small batch."""

FEWEST, MOST = 3, 50
"""Rounds, where their number is not asked for."""

TURN_STEPS, TURN_SECONDS = 5, 0.1
"""How often a step runs in a turn, as long as all of it takes less than these seconds."""


@dataclass(frozen=True)
class Subject:
    """A variant that has run once: how long that took, what it needed, how exact its gradients are."""

    step: Callable[[], None]
    first: float
    peak_bytes: int
    grad_error: float | None
    loss_error: float | None


def main() -> None:
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        for row in rows(Task.of(json.loads(line))):
            _send({"event": "row", "row": row.to_record()})
        _send({"event": "done"})
        gc.collect()


def rows(task: Task) -> Iterator[Row]:
    """The rows of a task, once all variants have taken turns."""
    baselines = module_of(task.baselines)
    device = torch.device(task.device)
    batch = drawn(task, baselines)
    objective = loaded(task)
    name = objective.name
    _send({"event": "extents", "text": _extents(objective.program, batch)})
    made = dict(_made(task, makers(task, baselines)))
    subjects = dict(_all(task, made, batch, _first(task, batch, baselines)))
    gc.collect()
    steps = {"floor": floor(task, batch), **{variant: subject.step for variant, subject in subjects.items()}}
    best = _best(steps, task, device)
    for variant, subject in subjects.items():
        yield Row(
            name, task.path, variant, task.dtype, task.allocator, best[variant] * 1e3, best["floor"] * 1e3,
            subject.peak_bytes, subject.grad_error, max(0.0, subject.first - (best[variant] if task.path == "logits" else 0.0)),
            subject.loss_error,
        )  # fmt: skip
    torch.compiler.reset()


def _first(task: Task, batch: Batch, baselines: ModuleType | None) -> Batch:
    """What a variant runs on first: a small batch where a pass takes seconds."""
    return batch if task.path == "logits" else drawn(replace(task, sizes={}, features=SMALL), baselines)


def _all(task: Task, made: Mapping[str, Maker], batch: Batch, first: Batch) -> list[tuple[str, Subject]]:
    """Every variant that can run; what is in double precision is not kept."""
    if task.exact:
        _say("gradients in double precision")
    truth = exact(task, batch) if task.exact else None
    return list(_subjects(made, batch, first, truth, torch.device(task.device)))


def _extents(program: Program, batch: Batch) -> str:
    """`b=4, t=256, v=32000`."""
    shapes = {name: batch[name].shape for name in program.tensors if name in batch}
    shapes |= {n: torch.Size((*batch[f"{n}.hidden"].shape[:-1], len(batch[f"{n}.weight"]))) for n in heads_of(batch)}
    sizes = {
        axis: n for name, shape in shapes.items() for axis, n in zip(program.tensors[name].order, shape, strict=True)
    }
    return ", ".join(f"{axis}={n}" for axis, n in sizes.items())


def _made(task: Task, found: Iterator[tuple[str, Maker | str]]) -> Iterator[tuple[str, Maker]]:
    """The variants that there are, once what every program of their kind pays once is paid."""
    _warm_up()
    for variant, maker in found:
        if isinstance(maker, str):
            _send({"event": "left out", "text": f"{variant}: {maker}"})
            continue
        if variant == "compile":
            _say("starting torch.compile")
            _warm_up_compiler(task.device)
        yield variant, maker


@cache
def _warm_up() -> None:
    objective = lossc.loads("mse", setting="regression", backend="reference")
    objective(pred=torch.zeros(2, 2, requires_grad=True), target=torch.ones(2, 2)).loss.backward()


@cache
def _warm_up_compiler(device: str) -> None:
    compiled = torch.compile(lambda x: (x * 2).sum(), dynamic=False)
    compiled(torch.ones(3, requires_grad=True, device=device)).backward()


def _subjects(
    made: Mapping[str, Maker], batch: Batch, first: Batch, truth: Exact | None, device: torch.device
) -> Iterator[tuple[str, Subject]]:  # fmt: skip
    """Each variant after its first passes; one that cannot run is left out."""
    for variant, make in made.items():
        _say(f"{variant}: first pass")
        try:
            yield variant, _subject(make, batch, batch if variant == "compile" else first, truth, device)
        except Exception as problem:
            text = (str(problem).strip().splitlines() or [""])[0]
            _send({"event": "left out", "text": f"{variant}: {type(problem).__name__}: {text}"})


def _subject(make: Maker, batch: Batch, first: Batch, truth: Exact | None, device: torch.device) -> Subject:
    """A variant after a pass over `first`, and the pass over the batch whose memory and errors are taken."""
    gc.collect()
    start = time.perf_counter()
    loss = make()
    _pass(loss, first)
    _wait(device)
    seconds = time.perf_counter() - start
    _forget({**first, **learned(loss)})
    losses: list[Tensor] = []
    taken = peak(lambda: losses.append(_pass(loss, batch)), device)
    errors = (None, None) if truth is None else _errors(losses[0], {**batch, **learned(loss)}, truth)
    _forget(batch)
    return Subject(lambda: _step(loss, batch), seconds, taken, *errors)


def _errors(loss: Tensor, sources: Batch, truth: Exact) -> tuple[float, float]:
    """Those of gradients and loss; what an objective learns is no source of a loss that was written by hand."""
    exact_loss, g64 = truth
    own = {name: g for name, g in g64.items() if name in sources or not name.startswith(LEARNED)}
    gradients = max((_error(sources[name].grad, g) for name, g in own.items()), default=0.0)
    return gradients, _error(loss.double().reshape(1), exact_loss.double().reshape(1))


def _pass(loss: Loss, batch: Batch) -> Tensor:
    found = loss(batch)
    found.backward()  # type: ignore[no-untyped-call]
    return found.detach()


def _step(loss: Loss, batch: Batch) -> None:
    _forget(batch)
    _pass(loss, batch)


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


def floor(task: Task, batch: Batch) -> Callable[[], None]:
    """Reads every stream over the classes and writes every gradient, by copies into buffers that exist; of heads their
    products."""
    if heads_of(batch):
        return _products(batch)
    program = loaded(task).program
    axes = set(class_axes(program))
    names = [name for name, info in program.tensors.items() if len(info.order) > 1 and axes & set(info.order)]
    wide = [batch[name] for name in names] or list(batch.values())
    written = [(tensor.detach(), torch.zeros_like(tensor)) for tensor in wide if tensor.requires_grad]
    read = [_words(tensor.detach()) for tensor in wide if not tensor.requires_grad]

    def step() -> None:
        for tensor, buffer in written:
            buffer.copy_(tensor)
        for tensor in read:
            tensor.max()

    return step


def _products(batch: Batch) -> Callable[[], None]:
    """The scores of every head, and where its gradients are wanted their products with weight and hidden states."""
    heads = [(batch[f"{name}.hidden"].detach().flatten(0, -2), batch[f"{name}.weight"]) for name in heads_of(batch)]

    def step() -> None:
        for hidden, weight in heads:
            scores = hidden @ weight.detach().T
            if weight.requires_grad:
                scores @ weight.detach()
                scores.T @ hidden

    return step


def _words(tensor: Tensor) -> Tensor:
    """The bytes of a tensor as numbers that are read as fast as they come."""
    flat = tensor.contiguous().flatten().view(torch.uint8)
    whole = flat.numel() // 4 * 4
    return flat[:whole].view(torch.int32) if whole else flat


def _best(steps: Mapping[str, Callable[[], None]], task: Task, device: torch.device) -> dict[str, float]:
    """The shortest time of each step; all take turns, so that a busy machine slows all alike."""
    best = dict.fromkeys(steps, float("inf"))
    start = time.perf_counter()
    done = 0
    _say("taking turns")
    while done < _rounds(task, done, time.perf_counter() - start):
        for name, step in steps.items():
            best[name] = min(best[name], _turn(step, device))
        done += 1
    return best


def _rounds(task: Task, done: int, seconds: float) -> int:
    """How many rounds there are to be in all, as far as is known after some."""
    if task.repeats is not None:
        return task.repeats
    fitting = int(task.seconds / (seconds / done)) if done else FEWEST
    return min(max(fitting, FEWEST), MOST)


def _turn(step: Callable[[], None], device: torch.device) -> float:
    """The shortest time of one turn: a quick step runs several times in it, for a slow one decides how many turns there are."""
    found = [_timed(step, device)]
    while len(found) < TURN_STEPS and sum(found) < TURN_SECONDS:
        found.append(_timed(step, device))
    return min(found)


def _timed(step: Callable[[], None], device: torch.device) -> float:
    start = time.perf_counter()
    step()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _say(text: str) -> None:
    _send({"event": "stage", "text": text})


def _send(event: Mapping[str, object]) -> None:
    print(json.dumps(event), flush=True)


if __name__ == "__main__":
    main()
