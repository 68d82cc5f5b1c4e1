"""Built files, kept between processes under a hash of everything that they were built from.

The folder is `$LOSSC_CACHE`, or `lossc` in the user's cache folder. A file appears complete or not at all, so any
number of processes may build the same one at once. Where the folder cannot be written, files live as long as the
process.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """The file of this name. Where it is missing, `make` is called with a path and has to write it there."""
    for folder in (_folder(), _temporary):
        place = folder() if callable(folder) else folder
        if place is None:
            continue
        file = place / name
        if file.exists():
            return file
        try:
            return _made(file, make)
        except OSError:
            continue
    raise OSError("there is no folder in which files can be built")


def _made(file: Path, make: Callable[[Path], None]) -> Path:
    with tempfile.TemporaryDirectory(prefix="build-", dir=file.parent) as folder:
        fresh = Path(folder) / file.name
        make(fresh)
        os.replace(fresh, file)
    return file


@cache
def _folder() -> Path | None:
    """The folder shared between processes, provided that nobody else can write to it."""
    base = os.environ.get("LOSSC_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lossc"
    )
    folder = Path(base)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = folder.stat()
    except OSError:
        return None
    owned = not hasattr(os, "getuid") or (state.st_uid == os.getuid() and not state.st_mode & 0o022)
    return folder if owned and os.access(folder, os.W_OK) else None


@cache
def _holder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="lossc-")


def _temporary() -> Path:
    return Path(_holder().name)
