"""From C source to a loaded library, by the system's C compiler."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from lossc.runtime.backends.cache import kept

PLAIN = ("-std=gnu11", "-O3", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-w")
"""Values stay those of IEEE arithmetic, NaN and infinities included; nobody reads errno or the flags of exceptions."""

TUNED = (
    ("-march=native", "-fopenmp", "-mprefer-vector-width=512"),
    ("-march=native", "-fopenmp"),
    ("-mcpu=native", "-fopenmp"),
    ("-march=native", "-fopenmp-simd", "-mprefer-vector-width=512"),
    ("-march=native", "-fopenmp-simd"),
    ("-mcpu=native", "-fopenmp-simd"),
    ("-fopenmp",),
    (),
)
"""What is added: the first group that the compiler takes. A clang without the library of OpenMP has one thread."""

SECONDS = 120


class ToolchainError(Exception):
    """There is no working compiler; the message says why."""


@dataclass(frozen=True)
class Compiler:
    """A command, what tells its results from those of another one or of another machine, and the options it refused."""

    command: tuple[str, ...]
    identity: str
    refused: set[tuple[str, ...]] = field(default_factory=set, compare=False)


@cache
def compiler() -> Compiler:
    """The compiler that `CC` names, or else `cc`, `gcc` or `clang`."""
    named = shlex.split(os.environ.get("CC", ""))
    for command in ([named] if named else []) + [["cc"], ["gcc"], ["clang"]]:
        path = shutil.which(command[0])
        if path is not None:
            version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=SECONDS)
            return Compiler((path, *command[1:]), f"{path} {version.stdout} {_processor()}")
    raise ToolchainError("no C compiler was found (`cc`, `gcc` or `clang`)")


def _processor() -> str:
    """The properties of the processor on which `-march=native` depends."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return " ".join(
        sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    )


def load(text: str) -> ctypes.CDLL:
    """The loaded library of a source, built on first use.

    Raises ToolchainError where it cannot be built.
    """
    built = compiler()
    digest = hashlib.sha256("\0".join((text, built.identity, *PLAIN, repr(TUNED))).encode()).hexdigest()[:32]
    try:
        path = kept(f"{digest}.so", lambda target: build(text, target))
        return _opened(path, text)
    except (OSError, subprocess.SubprocessError) as problem:
        raise ToolchainError(str(problem)) from problem


def _opened(path: Path, text: str) -> ctypes.CDLL:
    """The library at a path; a damaged file is built once more."""
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        path.unlink(missing_ok=True)
        return ctypes.CDLL(str(kept(path.name, lambda target: build(text, target))))


def build(text: str, target: Path, extra: tuple[str, ...] = ()) -> None:
    """Compiles a source into a shared library."""
    source = target.with_suffix(".c")
    source.write_text(text, encoding="utf-8")
    used = compiler()
    refused: list[tuple[str, ...]] = []
    problem = ""
    for tuned in TUNED:
        if tuned in used.refused:
            continue
        command = [*used.command, *PLAIN, *tuned, *extra, str(source), "-o", str(target), "-lm"]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
        if result.returncode == 0:
            used.refused.update(refused)
            return
        refused.append(tuned)
        problem = problem or result.stderr
    raise ToolchainError(f"the C compiler failed: {problem.strip()[:500]}")
