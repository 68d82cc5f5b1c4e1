"""The page of linear heads: its scripts run, and what it says of sizes is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from lossc.runtime.backends import heads

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "heads.md").read_text(encoding="utf-8")


def test_the_scripts_run() -> None:
    names: dict[str, Any] = {}
    for script in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        exec(compile(script, "heads.md", "exec"), names)
    assert names["hidden"].grad.abs().sum() > 0
    assert names["lm_head"].weight.grad.isfinite().all()
    assert isinstance(names["x"].grad, torch.Tensor)


def test_the_sizes_of_blocks() -> None:
    assert f"{heads.CPU_BYTES >> 20} MiB of scores on a CPU and {heads.DEVICE_BYTES >> 20} MiB" in " ".join(PAGE.split())
    assert f"at least {heads.CPU_ROWS} or {heads.DEVICE_ROWS} rows" in " ".join(PAGE.split())
