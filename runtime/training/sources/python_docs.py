"""Text that every installation of Python already holds, under the licence of Python itself (PSF License Agreement).

- `python-docs`: about eight thousand sentences of the docstrings of its standard library, for preference learning. `prompt` is
  the first words of a sentence, `chosen` the words that follow, `rejected` the same words in another order (the full stop
  stays last).
- `python-docs:judged`: each sentence in one of its two orders, as `prompt`, `completion` and `desirable`.
- `python-docs:text`: about eight thousand paragraphs, a megabyte, as `text`: of the docstrings, and of the language reference
  that `help()` shows. `python-docs:text:PACKAGE` has those of one package; `reference` is the language reference.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import random
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from lossc.grammar.diagnostics import LosscError, error
from lossc.grammar.suggest import did_you_mean
from lossc.runtime.files import value_span
from lossc.runtime.training.rows import Row, Rows

_SKIPPED = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo", "ensurepip", "__pycache__"}
)
_WORDS = range(6, 17)
_PROMPT_WORDS = 3
_LEAST_WORDS = 6


def read_python_docs(part: str = "") -> Rows:
    """The rows of a part, in a fixed order; E820 where there is no such part."""
    name, _, package = part.partition(":")
    if name == "text":
        return _of_package(_paragraphs(), package)
    if package or name not in ("", "judged"):
        help_ = did_you_mean(part, ["text", "judged"]) or ("the parts are python-docs, python-docs:judged, python-docs:text",)
        message = f"`python-docs` has no part `{part}`"
        raise LosscError([error("E820", message, value_span(f"python-docs:{part}", len("python-docs:")), help=help_)])
    return _judged() if name else _pairs()


@functools.cache
def _pairs() -> Rows:
    """One row for each sentence of 6 to 16 words."""
    sentences = sorted({sentence for _, text in _docstrings() for sentence in _sentences(text)})
    order = random.Random(0)
    order.shuffle(sentences)
    rows = [_row(sentence, number, order) for number, sentence in enumerate(sentences, start=1)]
    return Rows("python-docs", ("prompt", "chosen", "rejected"), rows)


@functools.cache
def _judged() -> Rows:
    """One row for each sentence, every other one in the wrong order."""
    rows = []
    for row in _pairs().rows:
        desirable = row.line % 2 == 1
        values = {
            "prompt": row.values["prompt"], "completion": row.values["chosen" if desirable else "rejected"],
            "desirable": desirable,
        }  # fmt: skip
        rows.append(Row(values, "<python-docs:judged>", row.line, row.text))
    return Rows("python-docs:judged", ("prompt", "completion", "desirable"), rows)


def _of_package(rows: Rows, package: str) -> Rows:
    if not package:
        return rows
    name = f"{rows.name}:{package}"
    return Rows(name, rows.columns, [row for row in rows.rows if row.values["package"] == package])


@functools.cache
def _paragraphs() -> Rows:
    """One row for each paragraph of prose of at least 6 words, with the package where it stands first."""
    found: dict[str, str] = {}
    for package, source in (*_docstrings(), *_topics()):
        for text in _prose(source):
            if _is_whole(text):
                found.setdefault(text, package)
    texts = sorted(found)
    random.Random(0).shuffle(texts)
    rows = [
        Row({"text": text, "package": found[text]}, "<python-docs:text>", number, text)
        for number, text in enumerate(texts, start=1)
    ]
    return Rows("python-docs:text", ("text", "package"), rows)


def _is_whole(text: str) -> bool:
    return text[:1].isupper() and text[-1:] in ".!?" and len(text.split()) >= _LEAST_WORDS


def _topics() -> Iterator[tuple[str, str]]:
    """The chapters of the language reference; none where an installation left them out."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return
    yield from (("reference", text) for text in topics.values())


def _prose(text: str) -> Iterator[str]:
    """The paragraphs that are no doctests, grammar, lists or literal blocks, each on one line."""
    for paragraph in re.split(r"\n\s*\n", text):
        if not re.search(r">>>|::|^\s{2,}\S", paragraph, re.MULTILINE):
            yield " ".join(paragraph.split())


@functools.cache
def _docstrings() -> tuple[tuple[str, str], ...]:
    """The package and the text of each; kept between processes, since thousands of files are parsed for them."""
    from lossc.runtime.backends.cache import kept

    root = Path(sysconfig.get_path("stdlib"))
    place = f"{sys.version} {root} {root.stat().st_mtime_ns}"

    def write(path: Path) -> None:
        path.write_text(json.dumps(list(_parsed(root))), encoding="ascii")

    try:
        file = kept(f"docstrings_{hashlib.blake2b(place.encode(), digest_size=16).hexdigest()}.json", write)
        return tuple((str(package), str(text)) for package, text in json.loads(file.read_text(encoding="ascii")))
    except (OSError, ValueError, TypeError):
        return tuple(_parsed(root))


def _parsed(root: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if _SKIPPED.isdisjoint(parts):
            yield from ((parts[0].removesuffix(".py"), text) for text in _docstrings_of(path) if text)


def _docstrings_of(path: Path) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, OSError):
        return
    open_: list[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef] = [tree]
    while open_:
        node = open_.pop()
        yield ast.get_docstring(node) or ""
        open_ += [inner for inner in node.body if isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)]


def _sentences(text: str) -> Iterator[str]:
    for paragraph in _prose(text):
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])", paragraph):
            if sentence[:1].isupper() and sentence.endswith(".") and "://" not in sentence and len(sentence.split()) in _WORDS:
                yield sentence


def _row(sentence: str, number: int, order: random.Random) -> Row:
    words = sentence.removesuffix(".").split()
    chosen = words[_PROMPT_WORDS:]
    rejected = chosen[:]
    while rejected == chosen and len(set(chosen)) > 1:
        order.shuffle(rejected)
    values = {
        "prompt": " ".join(words[:_PROMPT_WORDS]),
        "chosen": f" {' '.join(chosen)}.",
        "rejected": f" {' '.join(rejected)}.",
    }
    return Row(values, "<python-docs>", number, sentence)
