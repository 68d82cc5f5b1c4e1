"""Building kernels: many processes at once, folders that cannot be written, files that are damaged, no compiler."""

from __future__ import annotations

import errno
import multiprocessing
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.runtime import fused_cases as cases

from lossc.runtime.backends import c, cache, toolchain
from lossc.runtime.messages import LosscWarning

try:
    toolchain.compiler()
except toolchain.ToolchainError:
    pytest.skip("there is no C compiler", allow_module_level=True)

SOURCE = "int seven(void) { return 7; }\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder."""
    monkeypatch.setenv("LOSSC_CACHE", str(tmp_path))
    cache._folder.cache_clear()
    yield tmp_path
    cache._folder.cache_clear()


def built(_: int) -> int:
    value: int = toolchain.load(SOURCE).seven()
    return value


@pytest.mark.filterwarnings("ignore:.*fork")
def test_processes_build_the_same_kernel_at_once(folder: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.map(built, range(4), chunksize=1) == [7] * 4
    (file,) = folder.iterdir()
    assert file.suffix == ".so"
    assert not file.stat().st_mode & 0o022


def test_a_damaged_file_is_built_anew(folder: Path) -> None:
    text = SOURCE.replace("seven", "again")
    assert toolchain.load(text).again() == 7
    (file,) = folder.iterdir()
    file.unlink()
    file.write_bytes(b"not a library")
    assert toolchain.load(text).again() == 7


def test_a_folder_that_cannot_be_made_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = folder / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("LOSSC_CACHE", str(blocked))
    cache._folder.cache_clear()
    assert toolchain.load(SOURCE.replace("seven", "elsewhere")).elsewhere() == 7
    assert blocked.read_text() == "no folder"


def test_a_full_disk_is_avoided(folder: Path) -> None:
    def make(target: Path) -> None:
        if folder in target.parents:
            target.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        target.write_bytes(b"whole")

    assert cache.kept("file", make).read_bytes() == b"whole"
    assert list(folder.iterdir()) == []


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Nothing of what was built or found before is known any more."""
    monkeypatch.setattr(c, "_warned", set())
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    toolchain.compiler.cache_clear()
    yield toolchain.compiler.cache_clear
    toolchain.compiler.cache_clear()


def outcomes() -> list[cases.Outcome]:
    batch = cases.batch(dtype=torch.float32)
    return [cases.outcome(cases.objective(text, "c"), batch) for text in ("four terms", "coupled")]


def test_without_a_compiler_another_backend_runs_and_says_so_once(without_compiler: Any) -> None:
    with pytest.warns(LosscWarning, match="no C compiler") as found:
        outcomes()
    assert len(found) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found_after = outcomes()
    for text, each in zip(("four terms", "coupled"), found_after, strict=True):
        cases.assert_same(each, cases.outcome(cases.objective(text, "reference"), cases.batch(dtype=torch.float32)), 1e-4)


def test_a_compiler_without_openmp_has_one_thread(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As clang where its library of OpenMP is not installed: it still builds for this processor, and asks only once."""
    log, wrapper = tmp_path / "log", tmp_path / "compiler"
    real = toolchain.compiler().command[0]
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> {log}\ncase " $* " in *" -fopenmp "*) exit 1;; esac\nexec {real} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CC", str(wrapper))
    toolchain.compiler.cache_clear()
    try:
        found = cases.outcome(cases.objective("columns", "c"), cases.batch())
        toolchain.load(SOURCE)
        tried = [line for line in log.read_text().splitlines() if "-shared" in line]
        assert sum(" -fopenmp " in line for line in tried) == 3
        assert " -march=native -fopenmp-simd " in tried[-1] or " -mcpu=native -fopenmp-simd " in tried[-1]
    finally:
        toolchain.compiler.cache_clear()
    cases.assert_same(found, cases.outcome(cases.objective("columns", "reference"), cases.batch()))


def test_a_compiler_that_fails_is_none(
    without_compiler: Any, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:  # fmt: skip
    monkeypatch.setenv("CC", "/bin/false")
    with pytest.warns(LosscWarning, match="the C compiler failed"):
        cases.outcome(cases.objective("four terms", "c"), cases.batch(dtype=torch.float32))
