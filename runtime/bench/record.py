"""A file of results: rows, the tasks that they belong to, what they were measured on, and how busy that was."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lossc.runtime.bench.rows import Row, Task
from lossc.runtime.bench.session import measured

Record = dict[str, Any]


def machine() -> Record:
    """Processor, cores, threads and versions."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return {
        "processor": processor, "capability": torch.backends.cpu.get_cpu_capability(), "cores": os.cpu_count(),
        "threads": torch.get_num_threads(), "torch": torch.__version__, "python": platform.python_version(),
    }  # fmt: skip


@dataclass
class Session:
    """Tasks as they are measured, in order; progress is printed."""

    rows: list[tuple[Task, Row]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    before: tuple[float, float, float] = field(default_factory=os.getloadavg)

    def run(self, tasks: Sequence[Task]) -> None:
        """Keeps the rows, and notes of what could not be measured."""
        task = tasks[0]
        for event in measured(tasks):
            if isinstance(event, Row):
                self.rows.append((task, event))
                print(f"  {event.variant:8} {event.ms:9.2f} ms", flush=True)
                continue
            task = event.task
            if event.kind in ("left out", "failed"):
                self.left_out.append(f"{Path(task.file).stem}: {event.text}")
                print(f"  left out: {event.text}", flush=True)
            elif event.text == "taking turns":
                print(f"{Path(task.file).stem} {task.dtype} {task.allocator}", flush=True)

    def to_record(self, **more: Any) -> Record:
        """`more` are entries of this kind of measurement."""
        return {
            "date": datetime.date.today().isoformat(), "machine": machine(),
            "load": {"before": self.before, "after": os.getloadavg()}, "left_out": self.left_out, **more,
        }  # fmt: skip


def save(record: Record, folder: Path, path: Path | None, ending: str = "") -> Path:
    """A file of its own: `2026-11-21-amd-epyc-2cpu.json` in the folder, unless a path is given."""
    on = record["machine"]
    name = re.sub(r"[^a-z0-9]+", "-", f"{on['processor']}-{on['cores']}cpu{ending}".lower()).strip("-")
    path = path or folder / f"{record['date']}-{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def where(record: Record) -> str:
    """Date, processor, threads, version and load, as the first sentence of a page of results."""
    on, load = record["machine"], record["load"]
    busy = f"{load['before'][0]:.1f} before and {load['after'][0]:.1f} after"
    return (
        f"{record['date']}, {on['processor']}, {on['capability']}, {on['threads']} threads, torch {on['torch']}; "
        f"load average of the {on['cores']} cores {busy}, the measurement included."
    )
