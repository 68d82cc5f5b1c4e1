"""What the library holds, read from its specs, and `docs/library.md`, which is generated from that.

`python -m lossc.compiler.catalogue docs/library.md` writes the page anew. Above a term its comment says in prose what it
is and where it is from, and, indented, its equation:

    # Focal loss: easy examples count less. Lin et al. 2017, arXiv:1708.02002.
    #   -(1 - p_y)^gamma log p_y
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from lossc.compiler.library import Module, shipped_module, shipped_modules
from lossc.grammar.expressions import print_expr, signature_doc
from lossc.grammar.pretty import flat
from lossc.grammar.printer import print_text
from lossc.grammar.syntax import BLANK, File, Meta, Reduce, Setting, Term, Use

SETTINGS = "std.settings"


@dataclass(frozen=True)
class TermEntry:
    """A term of the library: `signature` and `equation` as text, and its sources apart from its meaning."""

    name: str
    module: str
    signature: str
    equation: str
    meaning: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class SettingEntry:
    """A setting of the library: its usual reduction, and its declarations as they are written."""

    name: str
    meaning: str
    reduce: str
    text: str


@dataclass(frozen=True)
class ModuleEntry:
    """A module of terms under its dotted name."""

    path: str
    about: str
    terms: tuple[TermEntry, ...]


def library_modules() -> tuple[ModuleEntry, ...]:
    """Every module of terms, sorted by its name, with its terms in the order of the file."""
    modules = [module for path in shipped_modules() if (module := shipped_module(path)) is not None]
    return tuple(
        ModuleEntry(module.path, _about(module), tuple(_term(module, term) for term in module.terms.values()))
        for module in modules
        if module.terms
    )


def library_settings() -> tuple[SettingEntry, ...]:
    """Every setting, in the order of the file."""
    module = shipped_module(SETTINGS)
    return tuple(_setting(setting) for setting in module.settings.values()) if module is not None else ()


def _about(module: Module) -> str:
    metas = (item.value for item in module.file.items if isinstance(item, Meta) and item.key == "about")
    return " ".join(next(metas, "").split())


def _term(module: Module, term: Term) -> TermEntry:
    lines = _comment(term.comments)
    equation = " ".join(line.strip() for line in lines if line.startswith("  "))
    meaning, sources = _without_sources(" ".join(line for line in lines if not line.startswith("  ")))
    signature = flat(signature_doc(term.name, term.formals, term.result))
    return TermEntry(term.name, module.path, signature, equation or print_expr(term.body), meaning, sources)


def _setting(setting: Setting) -> SettingEntry:
    reduce = next((print_expr(item.value) for item in setting.items if isinstance(item, Reduce)), "")
    text = print_text(File((replace(setting, comments=(), trailing=None),)))
    return SettingEntry(setting.name, " ".join(_comment(setting.comments)), reduce, text.strip())


def _comment(lines: tuple[str, ...]) -> tuple[str, ...]:
    """The comment that stands directly above a declaration."""
    above = tuple(reversed(lines))
    return tuple(reversed(above[: above.index(BLANK)] if BLANK in above else above))


_SENTENCE = re.compile(r"(?<!\bal)\.\s+(?=[A-Z\"(`]|van |de )")
_YEAR = re.compile(r"\b(?:1[89]|20)\d\d\b")


def _without_sources(prose: str) -> tuple[str, tuple[str, ...]]:
    """The prose without sentences that name a source, and these sentences: a source has a year."""
    sentences = [sentence.rstrip(".") for sentence in _SENTENCE.split(prose) if sentence]
    sources = tuple(sentence for sentence in sentences if _YEAR.search(sentence))
    meaning = " ".join(f"{sentence}." for sentence in sentences if sentence not in sources)
    return meaning, sources


# ------------------------------------------------------------------------------------------------ the page

_HEAD = """\
# The library

Settings say what a batch holds; terms are losses over its values. `use std.settings.pairs` and
`use std.preference (dpo)` bring both into a file, `lossc list` prints this list, and [the language](language.md) explains
every form below. An argument `margin : real = from margin` takes the `margin` of your setting when you leave it out.
Logarithms are natural, so information is in nats. Every term is a few lines of the language: read it in `specs/std/`, copy
it, change it.

This page is generated from those files (`python -m lossc.compiler.catalogue docs/library.md`).
"""

_SETTINGS_HEAD = """\
## Settings

A setting declares axes, tensors and named quantities. `input` tensors carry gradient, `data` tensors never do; the order
of the axes is the order of the tensor's dimensions. `reduce` is the mean that a prompt puts around a summand with axes.

| setting | for | usual mean |
|---|---|---|
"""

_TERMS_HEAD = """\
## Terms

Each has its signature and, below it, its equation as papers print it: p = softmax(z), P = softmax(p), Q = softmax(q), y a
label, e an error, sigma the sigmoid. A term names only the axes that it consumes; the result keeps all others of its
arguments, so reduce it: `mean[b, t where mask](focal(logits, labels))`.

"""


def library_page() -> str:
    """The whole of `docs/library.md`."""
    settings = library_settings()
    rows = "".join(f"| [`{s.name}`](#setting-{s.name}) | {s.meaning} | {_code(s.reduce)} |\n" for s in settings)
    parts: list[str] = [_HEAD, _SETTINGS_HEAD + rows]
    parts += [f"### setting {entry.name}\n\n{_fenced(entry.text)}" for entry in settings]
    parts += [_TERMS_HEAD + "".join(_contents(library_modules()))]
    for module in library_modules():
        parts += [f"## {module.path}\n\n{module.about}\n"]
        parts += [_term_section(term) for term in module.terms]
    return "\n".join(parts)


def _contents(modules: Iterable[ModuleEntry]) -> Iterator[str]:
    yield "| module | terms |\n|---|---|\n"
    for module in modules:
        anchor = module.path.replace(".", "")
        names = ", ".join(f"[`{term.name}`](#{term.name})" for term in module.terms)
        yield f"| [`{module.path}`](#{anchor}) | {names} |\n"


def _term_section(term: TermEntry) -> str:
    sources = f" *{'; '.join(term.sources)}.*" if term.sources else ""
    return f"### {term.name}\n\n    {term.signature}\n    = {term.equation}\n\n{term.meaning}{sources}\n"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _fenced(text: str) -> str:
    """A setting as an example that can be checked, with the terms from which its quantities are made."""
    module = shipped_module(SETTINGS)
    uses = [item for item in module.file.items if isinstance(item, Use)] if module is not None else []
    named = [use for use in uses if use.names and any(re.search(rf"\b{name}\(", text) for name in use.names)]
    head = print_text(File(tuple(replace(use, comments=(), trailing=None) for use in named))).strip()
    return "```loss\n" + (f"{head}\n\n" if head else "") + f"{text}\n```\n"


def main(path: str) -> None:
    """Writes the page."""
    from pathlib import Path

    Path(path).write_text(library_page(), encoding="utf-8")


if __name__ == "__main__":
    import sys

    main(sys.argv[1] if len(sys.argv) > 1 else "docs/library.md")
