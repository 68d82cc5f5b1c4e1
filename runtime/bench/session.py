"""Measurements in processes of their own: one for each type of numbers and each allocator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator

from lossc.grammar.diagnostics import LosscError, error
from lossc.grammar.source import Source, Span
from lossc.runtime.bench.rows import ALLOCATORS, Row, Task

Say = Callable[[Task, str], None]


def measured(tasks: Iterable[Task], say: Say) -> Iterator[Row]:
    """The rows of all tasks, each as soon as its process is done; `say` hears what a process is at."""
    for task in tasks:
        yield from _of_one(task, say)


def _of_one(task: Task, say: Say) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="lossc-bench-") as caches, _process(task, caches) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdin.write(json.dumps(task.to_record()))
        process.stdin.close()
        try:
            for line in process.stdout:
                event = json.loads(line)
                if event["event"] == "row":
                    yield Row(**event["row"])
                else:
                    say(task, event["text"])
            complaint = process.stderr.read()
            if process.wait() != 0:
                raise _failed(task, complaint)
        finally:
            process.kill()


def _process(task: Task, caches: str) -> subprocess.Popen[str]:
    """A worker whose caches are empty."""
    cold = {"LOSSC_CACHE": f"{caches}/lossc", "TORCHINDUCTOR_CACHE_DIR": f"{caches}/inductor"}
    return subprocess.Popen(
        [sys.executable, "-m", "lossc.runtime.bench.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, **ALLOCATORS[task.allocator], **cold},
    )  # fmt: skip


def _failed(task: Task, complaint: str) -> LosscError:
    last = (complaint.strip().splitlines() or ["without a word"])[-1]
    text = f"{task.file} {task.dtype} {task.allocator}"
    help_ = "with smaller `--sizes` it needs less memory; `--variants` leaves some out"
    return LosscError([error("E808", f"the measurement ended early: {last}", Span(Source("<command line>", text), 0, len(text)),
                             help=help_)])  # fmt: skip
