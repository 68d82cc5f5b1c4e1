"""Two ranks under DDP with unequal parts of a batch, one of them in two micro-batches, give the gradients of the whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_two_ranks_are_one_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.runtime.data_parallel", str(tmp_path)]
    running = [subprocess.Popen([*command, str(rank), "2"], cwd=ROOT, stderr=subprocess.PIPE) for rank in range(2)]
    said = [each.communicate(timeout=240)[1].decode() for each in running]
    assert [each.returncode for each in running] == [0, 0], "\n".join(said)[-3000:]
    for rank in range(2):
        worst = json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8"))
        assert len(worst) == 3
        assert worst == {name: pytest.approx(0.0, abs=1e-12) for name in worst}
