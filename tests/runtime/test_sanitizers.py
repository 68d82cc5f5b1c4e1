"""Generated C reads and writes nothing but what it is given, whatever rows and labels hold."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def library() -> str | None:
    """The run-time library of gcc's address sanitizer, where there is one."""
    gcc = shutil.which("gcc")
    if gcc is None:
        return None
    found = subprocess.run([gcc, "-print-file-name=libasan.so"], capture_output=True, text=True, check=False).stdout.strip()
    return found if os.path.isabs(found) and os.path.exists(found) else None


@pytest.mark.skipif(library() is None, reason="gcc has no address sanitizer here")
def test_kernels_under_address_and_undefined_behaviour_sanitizers(tmp_path: Path) -> None:
    settings = {
        "CC": "gcc", "LD_PRELOAD": str(library()), "LOSSC_CACHE": str(tmp_path), "OMP_NUM_THREADS": "2",
        "ASAN_OPTIONS": "detect_leaks=0:verify_asan_link_order=0", "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.runtime.sanitized"]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.split() == ["clean"]
