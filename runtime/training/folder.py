"""The folder of a run: what is in it, when a checkpoint counts, and whether a run may continue there.

| file               | what it holds                                                                 |
|--------------------|-------------------------------------------------------------------------------|
| `run.yaml`         | the run file as it was given                                                  |
| `objective.loss`   | the objective, fully rendered                                                 |
| `manifest.json`    | hash of the objective, parameters, every setting of the run, versions         |
| `metrics.jsonl`    | one reading a line                                                            |
| `curves.png`       | every term and monitor                                                        |
| `checkpoints/N/`   | the state after step N; a folder under this name is whole                     |
| `frozen.safetensors` | what the network said before the first step (reference log-probabilities)   |
| `samples.jsonl`    | what the network completed of held-out prompts, last                          |
| `first/`           | the runs that came first: what this one starts from, teachers                 |
| `model/`           | the trained network                                                           |
| `average/`         | its moving average, where `feeds` asks for one                                |
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossc.grammar.diagnostics import LosscError, error
from lossc.runtime.files import path_span, reporting_writes, write_text
from lossc.runtime.training.damage import read_manifest


@dataclass(frozen=True)
class RunFolder:
    path: Path

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def curves(self) -> Path:
        return self.path / "curves.png"

    @property
    def frozen(self) -> Path:
        return self.path / "frozen.safetensors"

    @property
    def samples(self) -> Path:
        return self.path / "samples.jsonl"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def average(self) -> Path:
        return self.path / "average"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def staging(self) -> Path:
        """Where a checkpoint is written before it counts."""
        return self.path / "checkpoints" / ".writing"

    # Beginning and continuing

    def begin(self, manifest: Mapping[str, Any], files: Mapping[str, str]) -> None:
        """Starts a run in an empty place; E832 where a run is there already, E830 where the place cannot be written."""
        with reporting_writes(self.path):
            taken = self.manifest.exists()
        if taken:
            raise LosscError([
                error(
                    "E832", f"`{self.path}` holds a run already", path_span(self.path),
                    help=("give `--resume` to continue it", "or choose another folder with `--output`"),
                )
            ])  # fmt: skip
        with reporting_writes(self.path):
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_text(self.path / name, text)
        write_text(self.manifest, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")

    def continue_with(self, manifest: Mapping[str, Any]) -> None:
        """Refuses to continue another run: E833 where there is none, E834 with everything that differs."""
        if not self.manifest.exists():
            help_ = "leave out `--resume` to start a run"
            raise LosscError([error("E833", f"`{self.path}` holds no run to resume", path_span(self.path), help=help_)])
        before = read_manifest(self.manifest)
        identity = before.get("identity")
        changed = _differences(identity if isinstance(identity, Mapping) else {}, dict(manifest["identity"]))
        if changed:
            raise LosscError([
                error(
                    "E834", f"the run in `{self.path}` is another one: {'; '.join(changed)}", path_span(self.path),
                    help="resume with the file it was started from, or start a new run in another folder",
                )
            ])  # fmt: skip

    # Checkpoints

    def steps(self) -> list[int]:
        """The steps after which a whole checkpoint is kept, ascending."""
        names = [entry.name for entry in self.checkpoints.iterdir()] if self.checkpoints.is_dir() else []
        return sorted(int(name) for name in names if name.isdecimal())

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / str(step)

    def keep_checkpoint(self, written: Path, step: int, keep: int) -> None:
        """Makes a written checkpoint count, in one move, and drops the oldest beyond `keep`."""
        target = self.checkpoint(step)
        if target.exists():
            shutil.rmtree(target)
        written.replace(target)
        self.clear_staging()
        for old in self.steps()[:-keep]:
            shutil.rmtree(self.checkpoint(old), ignore_errors=True)

    def keep_model(self, written: Path, target: Path) -> None:
        """Makes a written network count, in one move."""
        shutil.rmtree(target, ignore_errors=True)
        written.replace(target)
        self.clear_staging()

    def clear_staging(self) -> None:
        shutil.rmtree(self.staging, ignore_errors=True)


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """`data.source was a.csv, is b.csv` for each entry that is not the same."""
    found: list[str] = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += _differences(old, new, f"{prefix}{name}.")
        elif old != new:
            found.append(f"`{prefix}{name}` was {old}, is {new}")
    return found


def new_folder(stem: str, root: Path) -> Path:
    """The first of `runs/stem`, `runs/stem-2`, … that does not exist."""
    numbers = iter(range(2, 1 << 20))
    path = root / stem
    while path.exists():
        path = root / f"{stem}-{next(numbers)}"
    return path


def latest_folder(stem: str, root: Path) -> Path:
    """The run under `stem` that was started last; `root/stem` where there is none."""
    found = [path for path in root.glob(f"{stem}*") if (path / "manifest.json").exists() and _numbered(path.name, stem)]
    return max(found, key=lambda path: (path / "manifest.json").stat().st_mtime_ns, default=root / stem)


def _numbered(name: str, stem: str) -> bool:
    return name == stem or name.removeprefix(f"{stem}-").isdecimal()
