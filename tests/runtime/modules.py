"""A standalone module of an objective, imported in this process."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import lossc
from lossc.runtime.standalone import standalone


def as_module(objective: lossc.Objective, folder: Path) -> ModuleType:
    """What `lossc compile -o` writes, imported."""
    path = folder / "module.py"
    path.write_text(standalone(objective), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("module", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
