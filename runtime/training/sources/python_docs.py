"""Sentences from the docstrings of the running Python's standard library, as pairs for preference learning.

A real text corpus of about ten thousand sentences that every installation of Python already holds, under the licence of
Python itself (PSF License Agreement). A row has `prompt`, the first words of a sentence, `chosen`, the words that follow,
and `rejected`, the same words in another order (the full stop stays last); `text` is the sentence.
"""

from __future__ import annotations

import ast
import random
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from lossc.runtime.training.rows import Row, Rows

_SKIPPED = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo", "ensurepip", "__pycache__"}
)
_WORDS = range(6, 17)
_PROMPT_WORDS = 3


def read_python_docs(_: str = "") -> Rows:
    """One row for each sentence of 6 to 16 words, in a fixed order."""
    sentences = sorted({sentence for text in _docstrings() for sentence in _sentences(text)})
    order = random.Random(0)
    order.shuffle(sentences)
    rows = [_row(sentence, number, order) for number, sentence in enumerate(sentences, start=1)]
    return Rows("python-docs", ("prompt", "chosen", "rejected", "text"), rows)


def _docstrings() -> Iterator[str]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        if _SKIPPED.isdisjoint(path.relative_to(root).parts):
            yield from _docstrings_of(path)


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
    """The prose of a docstring: no doctests, lists or literal blocks."""
    for paragraph in re.split(r"\n\s*\n", text):
        if ">>>" in paragraph or "::" in paragraph or re.search(r"^\s{2,}\S", paragraph, re.MULTILINE):
            continue
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(paragraph.split())):
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
        "text": sentence,
    }
    return Row(values, "<python-docs>", number, sentence)
