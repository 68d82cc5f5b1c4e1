"""Where `use` finds a file: in the shipped library, and beside the file that names it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePosixPath

from lossc.grammar import parse
from lossc.grammar.diagnostics import Diagnostics
from lossc.grammar.limits import MAX_CHARACTERS
from lossc.grammar.source import Source
from lossc.grammar.syntax import File, Let, Setting, Tensor, Term


@dataclass(frozen=True)
class Module:
    """A parsed file of the library or of the user, with its terms and settings by name."""

    path: str
    source: Source
    file: File
    shipped: bool
    problems: Diagnostics = field(compare=False, default_factory=Diagnostics)

    @property
    def terms(self) -> dict[str, Term]:
        return {item.name: item for item in self.file.items if isinstance(item, Term)}

    @property
    def settings(self) -> dict[str, Setting]:
        return {item.name: item for item in self.file.items if isinstance(item, Setting)}


def read_module(path: str, source: Source, *, shipped: bool) -> Module:
    problems = Diagnostics()
    return Module(path, source, parse(source, problems), shipped, problems)


@cache
def shipped_modules() -> tuple[str, ...]:
    """The dotted names of the library's modules, `std.ce` and so on, sorted."""
    root = files("lossc.specs").joinpath("std")
    return tuple(
        sorted(f"std.{entry.name.removesuffix('.loss')}" for entry in root.iterdir() if entry.name.endswith(".loss"))
    )


@cache
def shipped_module(path: str) -> Module | None:
    """The library's module with this dotted name; None where there is none."""
    if path not in shipped_modules():
        return None
    file = files("lossc.specs").joinpath(*path.split(".")[:-1], f"{path.rsplit('.', 1)[-1]}.loss")
    source = Source(f"lossc/specs/{path.replace('.', '/')}.loss", file.read_text(encoding="utf-8"))
    return read_module(path, source, shipped=True)


def file_module(path: str, user: Source) -> Module | str:
    """A file named in quotes, beside the file that names it; otherwise the reason why it cannot be read.

    Only files below the folder of the naming file are read: a spec is untrusted input.
    """
    inner = PurePosixPath(path)
    if inner.is_absolute() or ".." in inner.parts or "\\" in path:
        return "only files in the folder of this file, or below it, can be used"
    folder = Path(user.name).parent
    target = folder / inner
    try:
        if not target.resolve().is_relative_to(folder.resolve()):
            return "only files in the folder of this file, or below it, can be used"
        if not target.is_file():
            return "there is no such file" if not target.exists() else "it is not a file"
        if target.stat().st_size > MAX_CHARACTERS:
            return "it is too large"
        text = target.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as fault:
        return f"it cannot be read ({getattr(fault, 'strerror', None) or 'not a UTF-8 text'})"
    return read_module(path, Source(str(target), text), shipped=False)


@cache
def shipped_terms() -> dict[str, str]:
    """Every term of the library with the module that declares it."""
    modules = [module for path in shipped_modules() if (module := shipped_module(path)) is not None]
    return {name: module.path for module in modules for name in module.terms}


def home_of(term: str) -> str | None:
    """The library's module that declares a term of this name."""
    return shipped_terms().get(term)


def settings_with(name: str) -> tuple[str, ...]:
    """The settings of the library that declare a tensor or a let of this name."""
    module = shipped_module("std.settings")
    settings = module.settings if module is not None else {}
    return tuple(
        f"std.settings.{setting}"
        for setting, declared in settings.items()
        if any(isinstance(item, Tensor | Let) and item.name == name for item in declared.items)
    )


@cache
def known_elsewhere() -> dict[str, str]:
    """The names that other libraries have for terms of this one, each with the name here."""
    names: dict[str, str] = json.loads(
        files("lossc.specs").joinpath("std", "elsewhere.json").read_text(encoding="utf-8")
    )
    return names
