"""Programs damaged at random: whatever comes out is answered with problems or a program, and both renderings print.

Each seed damages one shipped program in one to five places, word by word; the programs are the same in every run.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from lossc.compiler.check import check_source
from lossc.grammar.diagnostics.render import render_text, to_record
from lossc.grammar.source import Source

ROOT = Path(__file__).parents[1]
FILES = sorted([*(ROOT / "specs" / "std").glob("*.loss"), *(ROOT / "specs" / "examples").glob("*.*"),
                *(ROOT / "tests" / "golden" / "good").glob("*.loss")])  # fmt: skip
_WORD = re.compile(r'"[^"\n]*"|\w+|\s+|[^\w\s]')
WORDS = {path: _WORD.findall(path.read_text(encoding="utf-8")) for path in FILES}
POOL = sorted({word for words in WORDS.values() for word in words if not word.isspace()})


def damaged(seed: int) -> Source:
    rng = random.Random(seed)
    path = rng.choice(FILES)
    words = list(WORDS[path])
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        at, other = rng.randrange(len(words)), rng.randrange(len(words))
        match rng.randrange(5):
            case 0:
                words[at] = ""
            case 1:
                words.insert(at, rng.choice(POOL))
            case 2:
                words[at] = rng.choice(POOL)
            case 3:
                words[at], words[other] = words[other], words[at]
            case _:
                words.insert(at, words[other])
    return Source(f"damaged{path.suffix}", "".join(words))


@pytest.mark.parametrize("first", range(0, 400, 50))
def test_damage_is_answered(first: int) -> None:
    for seed in range(first, first + 50):
        checked = check_source(damaged(seed))
        for problem in checked.problems.sorted():
            assert re.match(rf"(error|warning)\[{problem.code}\]: .", render_text(problem))
            json.dumps(to_record(problem))
            assert 0 <= problem.span.start <= problem.span.end <= len(problem.span.source.text) + 1
        assert checked.program is None or not checked.problems.errors
