"""Recompute `frozen.json` from the installed third parties: `python -m tests.oracles.freeze` from the repository."""

from __future__ import annotations

import json
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.oracles.batches import uniform
from tests.oracles.third_party import LIBRARIES, Evaluated, third_parties
from tests.specs.cases import CASES
from torch import Tensor

PATH = Path(__file__).with_name("frozen.json")


def checksum(gradient: Tensor) -> list[float] | None:
    """Two numbers that no other gradient has by accident: its norm, and its product with a fixed vector.

    None where the library's own gradient is not finite.
    """
    flat = gradient.double().flatten()
    if not bool(flat.isfinite().all()):
        return None
    return [float(flat.norm()), float(flat @ uniform(flat.numel(), seed=77))]


def record(library: str, case: str, evaluated: Evaluated) -> dict[str, Any]:
    value, gradients = evaluated
    checksums = {name: checksum(gradient) for name, gradient in sorted(gradients.items())}
    return {"library": library, "case": case, "value": value, "gradients": checksums}


def compute(libraries: Collection[str] = LIBRARIES) -> list[dict[str, Any]]:
    """One record for each case of each library."""
    records = []
    for (library, name), evaluate in sorted(third_parties(libraries).items()):
        case = CASES[name]
        records.append(record(library, name, evaluate(case.batch(), case.differentiable)))
    return records


def main() -> None:
    versions = {library: version(library) for library in LIBRARIES}
    PATH.write_text(json.dumps({"versions": versions, "records": compute()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
