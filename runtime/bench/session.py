"""Measurements in processes of their own: one for each allocator, which it has from its first byte on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator, Sequence
from typing import IO

from lossc.runtime.bench.rows import ALLOCATORS, Note, Row, Task


def measured(tasks: Sequence[Task]) -> Iterator[Row | Note]:
    """The rows of all tasks, each as soon as it is measured, between notes of what is under way.

    A task that takes its process down is noted as `failed`; those after it run in another.
    """
    for allocator in dict.fromkeys(task.allocator for task in tasks):
        left = [task for task in tasks if task.allocator == allocator]
        while left:
            yield Note(left[0], "starting")
            done = yield from _in_one_process(left)
            left = left[done:]


def _in_one_process(tasks: Sequence[Task]) -> Generator[Row | Note, None, int]:
    """Runs the tasks until one fails; returns how many are dealt with, that one included."""
    done = 0
    with tempfile.TemporaryDirectory(prefix="lossc-bench-") as caches, tempfile.TemporaryFile("w+") as complaints:
        with _process(tasks[0].allocator, caches, complaints) as process:
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write("\n".join(json.dumps(task.to_record()) for task in tasks))
                process.stdin.close()
                for line in process.stdout:
                    event = json.loads(line)
                    if event["event"] == "row":
                        yield Row(**event["row"])
                    elif event["event"] == "done":
                        done += 1
                    else:
                        yield Note(tasks[done], event["text"], event["event"])
            except BrokenPipeError:
                pass
            finally:
                process.kill()
        if done < len(tasks):
            complaints.seek(0)
            yield Note(tasks[done], (complaints.read().strip().splitlines() or ["without a word"])[-1], "failed")
            done += 1
    return done


def _process(allocator: str, caches: str, complaints: IO[str]) -> subprocess.Popen[str]:
    """A worker whose caches are empty."""
    cold = {"LOSSC_CACHE": f"{caches}/lossc", "TORCHINDUCTOR_CACHE_DIR": f"{caches}/inductor"}
    return subprocess.Popen(
        [sys.executable, "-m", "lossc.runtime.bench.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=complaints, text=True, env={**os.environ, **ALLOCATORS[allocator], **cold},
    )  # fmt: skip
