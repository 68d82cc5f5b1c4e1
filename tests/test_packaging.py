"""The wheel holds one package with all of its data, whichever way it is built."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGED = ("grammar", "compiler", "runtime", "specs")
SOURCES = (*PACKAGED, "src", "tests", "pyproject.toml", "README.md", "LICENSE", "Makefile", ".gitignore")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A wheel from the tree, a source archive, and a wheel from that archive."""
    folder = tmp_path_factory.mktemp("built")
    tree = folder / "tree"
    tree.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tree / name, **({"symlinks": True} if copy is shutil.copytree else {}))
    _build(tree, folder / "direct", "--wheel")
    _build(tree, folder / "source", "--sdist")
    archive = next((folder / "source").glob("*.tar.gz"))
    with tarfile.open(archive) as packed:
        packed.extractall(folder / "unpacked", filter="data")
    _build(next((folder / "unpacked").iterdir()), folder / "indirect", "--wheel")
    return {
        "direct": next((folder / "direct").glob("*.whl")),
        "indirect": next((folder / "indirect").glob("*.whl")),
        "source": archive,
    }


def _build(tree: Path, target: Path, what: str) -> None:
    command = [sys.executable, "-m", "build", "--no-isolation", what, "--outdir", str(target), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _contents(wheel: Path) -> dict[str, bytes]:
    """The files of the package by name; the metadata folder holds a list of hashes of the same files."""
    with zipfile.ZipFile(wheel) as packed:
        return {name: packed.read(name) for name in packed.namelist() if ".dist-info/" not in name}


def test_both_wheels_are_the_same(built: dict[str, Path]) -> None:
    assert _contents(built["direct"]) == _contents(built["indirect"])


def test_one_package_is_installed(built: dict[str, Path]) -> None:
    assert {name.partition("/")[0] for name in _contents(built["direct"])} == {"lossc"}


def test_every_file_of_the_tree_is_in_the_wheel(built: dict[str, Path]) -> None:
    packaged = {
        f"lossc/{path.relative_to(ROOT).as_posix()}"
        for folder in PACKAGED
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected = packaged | {"lossc/__init__.py", "lossc/__main__.py", "lossc/py.typed"}
    assert set(_contents(built["direct"])) == expected
    for suffix in (".lark", ".loss", ".yaml", ".md", "py.typed"):
        assert any(name.endswith(suffix) for name in expected), suffix


def test_the_licence_goes_along(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built["direct"]) as packed:
        assert any(name.endswith("licenses/LICENSE") for name in packed.namelist())
        metadata = next(packed.read(n).decode() for n in packed.namelist() if n.endswith("/METADATA"))
    assert "License-Expression: Apache-2.0" in metadata


def test_the_source_archive_holds_tests_and_no_links(built: dict[str, Path]) -> None:
    with tarfile.open(built["source"]) as packed:
        names = [member.name.partition("/")[2] for member in packed.getmembers()]
        assert not any(member.issym() for member in packed.getmembers())
    assert {"tests/test_packaging.py", "grammar/lossc.lark", "README.md", "Makefile"} <= set(names)
