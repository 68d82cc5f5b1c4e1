"""The backend `triton` where there is no GPU: under Triton's interpreter, in a process of its own; and without Triton."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lossc
from lossc.runtime.backends.triton import has_triton

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not has_triton(), reason="triton is not installed")
def test_under_the_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/runtime/triton_interpreted.py"]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stdout[-4000:]


def test_elsewhere_runs_as_torch_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    logits, labels = torch.randn(3, 5), torch.tensor([0, 4, 2])
    objectives = (lossc.loads("nll", setting="classes", backend=backend) for backend in ("triton", "torch"))
    found, expected = (objective(logits=logits, labels=labels).loss for objective in objectives)
    assert found == expected
