"""What in the folder of a run cannot be read any more, found before a run continues there."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lossc.grammar.diagnostics import LosscError, error
from lossc.runtime.files import path_span

NEEDED = ("model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json")
"""Without one of these a run would not go on as it did."""


def damaged(path: Path, reason: str, help_: str) -> LosscError:
    """E835 for one file."""
    return LosscError([error("E835", f"`{path}` is damaged: {reason}", path_span(path), help=help_)])


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a run; E835 where it is none."""
    try:
        return _object_of(path)
    except (OSError, ValueError) as failure:
        raise damaged(
            path, _said(failure), "start a new run in another folder; its checkpoints hold the weights"
        ) from None


def check_checkpoint(checkpoint: Path) -> None:
    """E835 where a file of a checkpoint is not whole."""
    help_ = f"remove `{checkpoint}` to continue from the checkpoint before it"
    for path in sorted(checkpoint.iterdir()):
        check = _CHECKS.get(path.suffix)
        if check is None:
            continue
        try:
            check(path)
        except Exception as failure:
            raise damaged(path, _said(failure), help_) from None
    missing = [name for name in NEEDED if not (checkpoint / name).is_file()]
    if missing:
        raise damaged(checkpoint, f"`{missing[0]}` is missing", help_)


def _object_of(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError("it holds no JSON object")
    return found


def _tensors(path: Path) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        list(file.keys())


def _archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        broken = archive.testzip()
    if broken is not None:
        raise ValueError(f"`{broken}` in it has another sum than was written")


_CHECKS: dict[str, Callable[[Path], object]] = {
    ".json": _object_of, ".safetensors": _tensors, ".pt": _archive, ".pth": _archive,
}  # fmt: skip
"""How a file of a checkpoint is looked at, by its suffix."""


def _said(failure: Exception) -> str:
    """The first line of what went wrong."""
    text = failure.strerror if isinstance(failure, OSError) and failure.strerror else str(failure)
    return (text.splitlines() or [type(failure).__name__])[0].lower()
