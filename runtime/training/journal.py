"""`metrics.jsonl`: one line for each reading, written at once, so that what was measured is never lost."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from lossc.runtime.files import reporting_writes, write_text
from lossc.runtime.training.damage import damaged

Split = Literal["train", "held_out"]
SPLITS: tuple[Split, ...] = ("train", "held_out")


@dataclass(frozen=True)
class Reading:
    """The objective at one step: over the batch of the step, or over all held-out rows."""

    step: int
    split: Split
    loss: float
    terms: dict[str, float]
    monitors: dict[str, float] = field(default_factory=dict)
    epoch: float = 0.0
    rate: float | None = None

    def values(self) -> dict[str, float]:
        """Every curve of the picture: the loss, each term, each monitor."""
        terms = self.terms if len(self.terms) > 1 else {}
        return {"loss": self.loss, **terms, **self.monitors}

    def line(self) -> str:
        """One line of JSON; a monitor that is no finite number is null."""
        monitors = {name: value if math.isfinite(value) else None for name, value in self.monitors.items()}
        record = {**asdict(self), "monitors": monitors}
        return json.dumps({name: value for name, value in record.items() if value is not None}) + "\n"


class Journal:
    """The readings of a run in the order in which they were made."""

    def __init__(self, path: Path, *, kept: bool = True) -> None:
        self.path = path
        self.kept = kept
        """Whether this process writes the file; the others of a run only remember."""
        self.readings: list[Reading] = []

    def write(self, reading: Reading) -> None:
        self.readings.append(reading)
        if not self.kept:
            return
        with reporting_writes(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(reading.line())

    def go_back_to(self, step: int) -> None:
        """Keeps the readings up to `step`: those behind it are made again, and a line cut off by a crash is dropped."""
        self.readings = [reading for reading in read_journal(self.path) if reading.step <= step]
        if not self.kept:
            return
        write_text(self.path, "".join(reading.line() for reading in self.readings))

    def of(self, split: Split) -> list[Reading]:
        return [reading for reading in self.readings if reading.split == split]


def read_journal(path: Path) -> list[Reading]:
    """The readings of a file. A line that is not whole, as a crash leaves the last, is passed over, and so is one of other
    names than most of its split have.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    except OSError as failure:
        raise damaged(path, (failure.strerror or str(failure)).lower(), "remove it: it holds the readings alone") from None
    readings = [reading for line in text.splitlines() if (reading := _reading(line)) is not None]
    names = {split: Counter(_names(reading) for reading in readings if reading.split == split) for split in SPLITS}
    return [reading for reading in readings if _names(reading) == names[reading.split].most_common(1)[0][0]]


def _names(reading: Reading) -> tuple[frozenset[str], frozenset[str]]:
    return frozenset(reading.terms), frozenset(reading.monitors)


def _reading(line: str) -> Reading | None:
    try:
        record: dict[str, Any] = json.loads(line)
        monitors = {name: math.nan if value is None else float(value) for name, value in record.get("monitors", {}).items()}
        terms = {name: float(value) for name, value in record["terms"].items()}
        reading = Reading(**{**record, "step": int(record["step"]), "terms": terms, "monitors": monitors})
        return reading if reading.split in SPLITS else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
